//! Eight lanes: x86-64 with AVX2 and FMA.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{BytesProduct, GroupedProduct, Kernel, Product, Vector};

const TILE_ROWS: usize = 4;
const TILE_COLUMNS: usize = 3;

pub(super) static KERNEL: Kernel = Kernel { name: "avx2", tile: (TILE_ROWS, TILE_COLUMNS), dots, sums, groups, bytes };

#[derive(Clone, Copy)]
struct Avx2(__m256);

/// A mask with the first `count` of eight lanes set: a window of this table that starts at `8 - count`.
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
unsafe fn mask(count: usize) -> __m256i {
    unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - count).cast()) }
}

impl Vector for Avx2 {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Avx2(_mm256_set1_ps(value)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Avx2(_mm256_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        unsafe { Avx2(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())))) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        unsafe { Avx2(_mm256_maskload_ps(from, mask(count))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        unsafe { _mm256_maskstore_ps(to, mask(count), self.0) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: Self, sum: Self) -> Self {
        unsafe { Avx2(_mm256_fmadd_ps(self.0, other.0, sum.0)) }
    }

    #[inline(always)]
    unsafe fn sums(vectors: [Self; 4]) -> [f32; 4] {
        unsafe {
            let pairs =
                _mm256_hadd_ps(_mm256_hadd_ps(vectors[0].0, vectors[1].0), _mm256_hadd_ps(vectors[2].0, vectors[3].0));
            let sums = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), sums);
            out
        }
    }

    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }

    #[inline(always)]
    unsafe fn fetch(from: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn dots(p: &Product, packed: *const f32, tiles: Range<usize>, columns: Range<usize>) {
    unsafe { super::dots::dots::<Avx2, TILE_ROWS, TILE_COLUMNS>(p, packed, tiles, columns) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn sums(p: &Product, rows: Range<usize>, columns: Range<usize>) {
    unsafe { super::sums::sums::<Avx2, 3>(p, rows, columns) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn groups(p: &GroupedProduct, groups: Range<usize>) {
    // One or two rows read a group front to back. Twelve sums beside three weights fill all sixteen registers, and some are
    // then spilled: tall tiles are narrower.
    unsafe {
        match p.rows {
            ..=2 => super::groups::groups::<Avx2, 2, 6>(p, groups),
            _ => super::groups::groups::<Avx2, 4, 2>(p, groups),
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn bytes(p: &BytesProduct, groups: Range<usize>) {
    // As in `groups`.
    unsafe {
        match p.rows {
            ..=2 => super::bytes::bytes::<Avx2, 2, 6>(p, groups),
            _ => super::bytes::bytes::<Avx2, 4, 2>(p, groups),
        }
    }
}
