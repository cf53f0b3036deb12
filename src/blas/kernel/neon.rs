//! Four lanes: arm64.

use std::arch::aarch64::*;
use std::ops::Range;

use super::{BytesProduct, GroupedProduct, Kernel, Product, Vector};

const TILE_ROWS: usize = 6;
const TILE_COLUMNS: usize = 4;

pub(super) static KERNEL: Kernel = Kernel { name: "neon", tile: (TILE_ROWS, TILE_COLUMNS), dots, sums, groups, bytes };

#[derive(Clone, Copy)]
struct Neon(float32x4_t);

impl Vector for Neon {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Neon(vdupq_n_f32(value)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Neon(vld1q_f32(from)) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        unsafe {
            let lanes = [*from, *from.add(1), *from.add(2), *from.add(3)].map(u32::from);
            Neon(vcvtq_f32_u32(vld1q_u32(lanes.as_ptr())))
        }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; 4];
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
            Neon(vld1q_f32(lanes.as_ptr()))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { vst1q_f32(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        let mut lanes = [0.0; 4];
        unsafe {
            vst1q_f32(lanes.as_mut_ptr(), self.0);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: Self, sum: Self) -> Self {
        unsafe { Neon(vfmaq_f32(sum.0, self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn sums(vectors: [Self; 4]) -> [f32; 4] {
        unsafe {
            let sums = vpaddq_f32(vpaddq_f32(vectors[0].0, vectors[1].0), vpaddq_f32(vectors[2].0, vectors[3].0));
            let mut out = [0.0; 4];
            vst1q_f32(out.as_mut_ptr(), sums);
            out
        }
    }

    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        unsafe { std::arch::asm!("prfm pldl1keep, [{}]", in(reg) from, options(nostack, preserves_flags, readonly)) }
    }

    #[inline(always)]
    unsafe fn fetch(from: *const f32) {
        unsafe { Self::prefetch(from) }
    }
}

unsafe fn dots(p: &Product, packed: *const f32, tiles: Range<usize>, columns: Range<usize>) {
    unsafe { super::dots::dots::<Neon, TILE_ROWS, TILE_COLUMNS>(p, packed, tiles, columns) }
}

unsafe fn sums(p: &Product, rows: Range<usize>, columns: Range<usize>) {
    unsafe { super::sums::sums::<Neon, TILE_ROWS>(p, rows, columns) }
}

unsafe fn groups(p: &GroupedProduct, groups: Range<usize>) {
    unsafe { super::groups::groups::<Neon, 4, 6>(p, groups) }
}

unsafe fn bytes(p: &BytesProduct, groups: Range<usize>) {
    unsafe { super::bytes::bytes::<Neon, 4, 6>(p, groups) }
}
