//! B not transposed: running sums, the lanes of a vector lie along the columns.
//!
//! The depth is taken in blocks, so that a block of B stays in the first-level cache while the rows of A pass by. C
//! carries the running sums from one block to the next, which is exact.

use std::ops::Range;

use super::{Product, Vector, first};

/// Depth of a block: with the columns of one part, half of a first-level cache.
const DEPTH_BLOCK: usize = 64;

/// See [`super::Kernel::sums`]. A tile has at most `ROWS` rows.
///
/// # Safety
/// As [`super::Sums`].
#[inline(always)]
pub(super) unsafe fn sums<V: Vector, const ROWS: usize>(p: &Product, rows: Range<usize>, columns: Range<usize>) {
    let mut start = 0;
    while start < p.depth {
        let block = start..p.depth.min(start + DEPTH_BLOCK);
        let mut row = rows.start;
        while row < rows.end {
            let left = rows.end - row;
            let tile = left.div_ceil(left.div_ceil(ROWS));
            // As many vectors of columns as leave the registers for a tile's accumulators.
            unsafe {
                match tile {
                    1 => strips::<V, 1, 8>(p, row, &columns, &block),
                    2 => strips::<V, 2, 4>(p, row, &columns, &block),
                    3 if ROWS >= 3 => strips::<V, 3, 4>(p, row, &columns, &block),
                    4 if ROWS >= 4 => strips::<V, 4, 4>(p, row, &columns, &block),
                    5 if ROWS >= 5 => strips::<V, 5, 4>(p, row, &columns, &block),
                    _ => strips::<V, ROWS, 4>(p, row, &columns, &block),
                }
            }
            row += tile;
        }
        start = block.end;
    }
}

/// All columns of one tile of rows: tiles of `VECTORS` vectors, then single vectors, the last of them cut short.
#[inline(always)]
unsafe fn strips<V: Vector, const ROWS: usize, const VECTORS: usize>(
    p: &Product,
    row: usize,
    columns: &Range<usize>,
    block: &Range<usize>,
) {
    let mut column = columns.start;
    unsafe {
        while column + VECTORS * V::LANES <= columns.end {
            sum_tile::<V, ROWS, VECTORS>(p, row, column, V::LANES, block);
            column += VECTORS * V::LANES;
        }
        while column < columns.end {
            let count = V::LANES.min(columns.end - column);
            sum_tile::<V, ROWS, 1>(p, row, column, count, block);
            column += count;
        }
    }
}

/// `ROWS` rows times `VECTORS` vectors, or one vector of which `count` columns are there.
#[inline(always)]
unsafe fn sum_tile<V: Vector, const ROWS: usize, const VECTORS: usize>(
    p: &Product,
    row: usize,
    column: usize,
    count: usize,
    block: &Range<usize>,
) {
    unsafe {
        let c = p.c.add(row * p.c_stride + column);
        let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
        if p.add || block.start > 0 {
            for i in 0..ROWS {
                for v in 0..VECTORS {
                    sums[i][v] = first(c.add(i * p.c_stride + v * V::LANES), count);
                }
            }
        }
        for k in block.start..block.end {
            let b = p.b.add(k * p.b_stride + column);
            let mut a_lanes = [V::splat(0.0); ROWS];
            for i in 0..ROWS {
                a_lanes[i] = V::splat(*p.a.add((row + i) * p.a_stride + k));
            }
            for v in 0..VECTORS {
                let b_lanes: V = first(b.add(v * V::LANES), count);
                for i in 0..ROWS {
                    sums[i][v] = a_lanes[i].multiply_add(b_lanes, sums[i][v]);
                }
            }
        }
        for i in 0..ROWS {
            for v in 0..VECTORS {
                let to = c.add(i * p.c_stride + v * V::LANES);
                if count == V::LANES { sums[i][v].store(to) } else { sums[i][v].store_first(to, count) }
            }
        }
    }
}
