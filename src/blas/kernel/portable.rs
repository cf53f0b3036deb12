//! Eight lanes without any instruction set in mind. Products are rounded before they are added.

use std::ops::Range;

use super::{BytesProduct, GroupedProduct, Kernel, Product, Vector};

const TILE_ROWS: usize = 2;
const TILE_COLUMNS: usize = 4;

pub(super) static KERNEL: Kernel =
    Kernel { name: "portable", tile: (TILE_ROWS, TILE_COLUMNS), dots, sums, groups, bytes };

#[derive(Clone, Copy)]
struct Portable([f32; 8]);

impl Vector for Portable {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Portable([value; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Portable(from.cast::<[f32; 8]>().read()) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        unsafe { Portable(from.cast::<[u8; 8]>().read().map(f32::from)) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; 8];
        unsafe { std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count) };
        Portable(lanes)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; 8]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, count) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: Self, mut sum: Self) -> Self {
        for lane in 0..Self::LANES {
            sum.0[lane] += self.0[lane] * other.0[lane];
        }
        sum
    }

    #[inline(always)]
    unsafe fn sums(vectors: [Self; 4]) -> [f32; 4] {
        vectors.map(|Portable(l)| ((l[0] + l[1]) + (l[2] + l[3])) + ((l[4] + l[5]) + (l[6] + l[7])))
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}

    #[inline(always)]
    unsafe fn fetch(_: *const f32) {}
}

unsafe fn dots(p: &Product, packed: *const f32, tiles: Range<usize>, columns: Range<usize>) {
    unsafe { super::dots::dots::<Portable, TILE_ROWS, TILE_COLUMNS>(p, packed, tiles, columns) }
}

unsafe fn sums(p: &Product, rows: Range<usize>, columns: Range<usize>) {
    unsafe { super::sums::sums::<Portable, TILE_ROWS>(p, rows, columns) }
}

unsafe fn groups(p: &GroupedProduct, groups: Range<usize>) {
    unsafe { super::groups::groups::<Portable, 2, 3>(p, groups) }
}

unsafe fn bytes(p: &BytesProduct, groups: Range<usize>) {
    unsafe { super::bytes::bytes::<Portable, 2, 3>(p, groups) }
}
