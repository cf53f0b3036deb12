//! B as affine 8-bit weights in groups: in the order of [`super::groups`], a byte a weight, with a scale and an offset for each
//! output and block of the depth: weight = scale · byte + offset (MLX's affine quantisation).
//!
//! A block's products with the bytes are summed first; then scale and offset enter once:
//! Σ x·(s·q + o) = s·Σ x·q + o·Σ x. The Σ x come with the product.

use std::ops::Range;

use super::groups::step;
use super::{GROUP, Vector, first};

/// Blocks that lie ahead of the one in use when a cache line is brought nearer.
const AHEAD: usize = 4;

/// C = A·B or C += A·B in float32, where B is 8-bit weights in groups.
#[derive(Clone, Copy)]
pub(crate) struct BytesProduct {
    /// Rows of A and C.
    pub rows: usize,
    /// Columns of C.
    pub columns: usize,
    /// Columns of A, a whole number of blocks.
    pub depth: usize,
    /// Weights that share scale and offset.
    pub block: usize,
    pub a: *const f32,
    /// Floats from one row of A to the next.
    pub a_stride: usize,
    /// Σ of each block of each row of A: `[rows, depth / block]`.
    pub a_sums: *const f32,
    /// `[ceil(columns / GROUP), depth, GROUP]`; what a last group has too much is multiplied and dropped.
    pub b: *const u8,
    /// `[ceil(columns / GROUP), depth / block, 2, GROUP]`: scales, then offsets.
    pub scales: *const f32,
    pub c: *mut f32,
    /// Floats from one row of C to the next.
    pub c_stride: usize,
    /// Add to C instead of overwriting it.
    pub add: bool,
}

// SAFETY: the pointers are only followed inside the kernels, whose callers give each thread its own part of C.
unsafe impl Send for BytesProduct {}
unsafe impl Sync for BytesProduct {}

/// Computes the given groups of columns of C with tiles of at most `ROWS` rows and `VECTORS` vectors, which divide a group.
///
/// # Safety
/// As [`super::Bytes`].
#[inline(always)]
pub(super) unsafe fn bytes<V: Vector, const ROWS: usize, const VECTORS: usize>(p: &BytesProduct, groups: Range<usize>) {
    const { assert!(GROUP.is_multiple_of(VECTORS * V::LANES)) };
    let tiles = p.rows.div_ceil(ROWS);
    for group in groups {
        for block in 0..p.depth / p.block {
            let mut row = 0;
            for tile in 0..tiles {
                let height = (p.rows - row).div_ceil(tiles - tile);
                let at = At { group, block, row, fetch: tile == 0 };
                unsafe {
                    match height {
                        1 if ROWS > 1 => strips::<V, 1, VECTORS>(p, at),
                        2 if ROWS > 2 => strips::<V, 2, VECTORS>(p, at),
                        3 if ROWS > 3 => strips::<V, 3, VECTORS>(p, at),
                        4 if ROWS > 4 => strips::<V, 4, VECTORS>(p, at),
                        5 if ROWS > 5 => strips::<V, 5, VECTORS>(p, at),
                        6 if ROWS > 6 => strips::<V, 6, VECTORS>(p, at),
                        7 if ROWS > 7 => strips::<V, 7, VECTORS>(p, at),
                        _ => strips::<V, ROWS, VECTORS>(p, at),
                    }
                }
                row += height;
            }
        }
    }
}

/// A tile's place in the product.
#[derive(Clone, Copy)]
struct At {
    group: usize,
    block: usize,
    row: usize,
    /// Whether this tile of rows brings the weights ahead nearer.
    fetch: bool,
}

/// All vectors of a group for one tile of rows.
#[inline(always)]
unsafe fn strips<V: Vector, const ROWS: usize, const VECTORS: usize>(p: &BytesProduct, at: At) {
    let mut lane = 0;
    while lane < GROUP {
        unsafe {
            if at.fetch && lane == 0 {
                tile::<V, ROWS, VECTORS, true>(p, at, lane);
            } else {
                tile::<V, ROWS, VECTORS, false>(p, at, lane);
            }
        }
        lane += VECTORS * V::LANES;
    }
}

#[inline(always)]
unsafe fn tile<V: Vector, const ROWS: usize, const VECTORS: usize, const FETCH: bool>(
    p: &BytesProduct,
    At { group, block, row, .. }: At,
    lane: usize,
) {
    let column = group * GROUP + lane;
    let blocks = p.depth / p.block;
    // Vectors of a last group that lie beyond C's last column count for nothing.
    let there = |vector: usize| p.columns.saturating_sub(column + vector * V::LANES).min(V::LANES);
    unsafe {
        let a = p.a.add(row * p.a_stride + block * p.block);
        let b = p.b.add((group * p.depth + block * p.block) * GROUP);
        let ahead = b.wrapping_add(AHEAD * p.block * GROUP);
        let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
        for k in 0..p.block {
            if FETCH {
                V::fetch(ahead.wrapping_add(k * GROUP).cast());
            }
            let weights = |v: usize| V::load_bytes(b.add(k * GROUP + lane + v * V::LANES));
            step(&mut sums, weights, |i| V::splat(*a.add(i * p.a_stride + k)));
        }
        let scales = p.scales.add((group * blocks + block) * 2 * GROUP + lane);
        for (i, sums) in sums.into_iter().enumerate() {
            let a_sum = V::splat(*p.a_sums.add((row + i) * blocks + block));
            for (v, sum) in sums.into_iter().enumerate() {
                let count = there(v);
                if count == 0 {
                    continue;
                }
                let to = p.c.add((row + i) * p.c_stride + column + v * V::LANES);
                let before = if p.add || block > 0 { first(to, count) } else { V::splat(0.0) };
                let (scale, offset) = (V::load(scales.add(v * V::LANES)), V::load(scales.add(GROUP + v * V::LANES)));
                let total = sum.multiply_add(scale, a_sum.multiply_add(offset, before));
                if count == V::LANES { total.store(to) } else { total.store_first(to, count) }
            }
        }
    }
}
