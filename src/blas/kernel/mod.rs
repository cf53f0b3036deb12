//! The inner loops, written once over a vector type and compiled once for each instruction set.
//!
//! The loops give every element of C its own accumulator and a fixed order of additions that depends on nothing but
//! the depth of the product. Rows, columns, tiles, blocks and threads decide when an element is computed, never how:
//! this is what makes a row's result independent of the rows computed with it.
//!
//! How to add an instruction set: write one file with a type that implements [`Vector`] and the entry points that
//! enable its features, and add one line to [`select`].

#![allow(clippy::needless_range_loop)] // rows and columns of a matrix, not items of a list

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bytes;
mod dots;
mod groups;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod sums;

pub(crate) use bytes::BytesProduct;
pub(super) use dots::{GROUP_TILES, PANEL_TILES, Tiles, pack, whole};
pub(crate) use groups::{GROUP, GroupedProduct};

/// Floats in a cache line; the loops advance by this much.
const LINE: usize = 16;

/// C = A·B or C += A·B in float32, row-major. B is given as `columns` rows of length `depth` to [`Kernel::dots`] and
/// as `depth` rows of length `columns` to [`Kernel::sums`].
#[derive(Clone, Copy)]
pub(crate) struct Product {
    /// Rows of A and C.
    pub rows: usize,
    /// Columns of C.
    pub columns: usize,
    /// Columns of A.
    pub depth: usize,
    pub a: *const f32,
    /// Floats from one row of A to the next.
    pub a_stride: usize,
    pub b: *const f32,
    /// Floats from one stored row of B to the next.
    pub b_stride: usize,
    pub c: *mut f32,
    /// Floats from one row of C to the next.
    pub c_stride: usize,
    /// Add to C instead of overwriting it.
    pub add: bool,
}

// SAFETY: the pointers are only followed inside the kernels, whose callers give each thread its own part of C.
unsafe impl Send for Product {}
unsafe impl Sync for Product {}

/// Computes the given tiles of rows and columns of C from a packed copy of A (see [`pack`]; null where all rows are
/// one tile).
///
/// # Safety
/// The ranges lie inside the product, its pointers are valid for its shape, C overlaps neither A nor B, and nobody
/// else touches that part of C meanwhile. The processor has the instructions that the kernel is named after.
pub(super) type Dots = unsafe fn(&Product, packed: *const f32, tiles: Range<usize>, columns: Range<usize>);

/// Computes the given rows and columns of C.
///
/// # Safety
/// As [`Dots`].
pub(super) type Sums = unsafe fn(&Product, rows: Range<usize>, columns: Range<usize>);

/// Computes the given groups of columns of C from weights in groups.
///
/// # Safety
/// As [`Dots`].
pub(super) type Groups = unsafe fn(&GroupedProduct, groups: Range<usize>);

/// Computes the given groups of columns of C from 8-bit weights in groups.
///
/// # Safety
/// As [`Dots`].
pub(super) type Bytes = unsafe fn(&BytesProduct, groups: Range<usize>);

/// The loops for one instruction set.
pub(super) struct Kernel {
    /// `avx512`, `avx2`, `neon` or `portable`.
    pub name: &'static str,
    /// Rows and columns of a tile of dot products.
    pub tile: (usize, usize),
    /// B transposed: each element is a dot product, its lanes summed in a fixed tree at the end.
    pub dots: Dots,
    /// B not transposed: each element is a running sum over the depth in order, so zeros at the end of a row of A
    /// (masked positions) leave the result as it is.
    pub sums: Sums,
    /// B in groups: each element is a running sum over the depth in order.
    pub groups: Groups,
    /// B in groups of bytes: each element is a running sum over the blocks of the depth in order.
    pub bytes: Bytes,
}

/// The fastest kernel that this processor runs.
pub(super) fn select() -> &'static Kernel {
    all().first().copied().unwrap_or(&portable::KERNEL)
}

/// Every kernel that this processor runs, the fastest first.
pub(super) fn all() -> Vec<&'static Kernel> {
    let mut kernels = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            kernels.push(&avx512::KERNEL);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            kernels.push(&avx2::KERNEL);
        }
    }
    #[cfg(target_arch = "aarch64")]
    kernels.push(&neon::KERNEL);
    kernels.push(&portable::KERNEL);
    kernels
}

/// A register of floats.
///
/// # Safety
/// The processor has the instructions; pointers are valid for the floats that are read or written.
trait Vector: Copy {
    const LANES: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// Loads as many bytes as there are lanes and makes floats of them.
    unsafe fn load_bytes(from: *const u8) -> Self;
    /// Loads `count` floats, fewer than there are lanes; the other lanes are zero and their memory is not touched.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_first(self, to: *mut f32, count: usize);
    /// self · other + sum.
    unsafe fn multiply_add(self, other: Self, sum: Self) -> Self;
    /// The sum over the lanes of each vector, in an order that does not depend on the other vectors.
    unsafe fn sums(vectors: [Self; 4]) -> [f32; 4];
    unsafe fn prefetch(from: *const f32);
    /// Brings the cache line at exactly this address nearer, which need not be valid.
    unsafe fn fetch(from: *const f32);
}

/// Loads `count` floats, at most as many as there are lanes.
#[inline(always)]
unsafe fn first<V: Vector>(from: *const f32, count: usize) -> V {
    unsafe { if count == V::LANES { V::load(from) } else { V::load_first(from, count) } }
}
