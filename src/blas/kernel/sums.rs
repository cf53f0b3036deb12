//! B not transposed: running sums, the lanes of a vector lie along the columns.

use std::ops::Range;

use super::{Product, Vector, first, height};

/// Vectors of columns that a tile takes together.
const TILE_VECTORS: usize = 4;
/// Depth that is taken at a time, so that the part of B in use stays in the cache. C carries the running sums from
/// one part to the next, which is exact.
const DEPTH_BLOCK: usize = 256;

/// See [`Kernel::sums`]. `MOST` rows a tile.
///
/// # Safety
/// As [`Block`].
#[inline(always)]
pub(super) unsafe fn sums<V: Vector, const MOST: usize>(p: &Product, rows: Range<usize>, columns: Range<usize>) {
    let mut depth = 0..DEPTH_BLOCK.min(p.depth);
    while !depth.is_empty() {
        let resume = p.add || depth.start > 0;
        let mut column = columns.start;
        while column < columns.end {
            let wide = columns.end - column >= TILE_VECTORS * V::LANES;
            let mut row = rows.start;
            while row < rows.end {
                let tile = height(rows.end - row, MOST);
                unsafe {
                    match (wide, tile) {
                        (true, 1) => sum_tile::<V, 1, TILE_VECTORS>(p, row, column, &depth, resume),
                        (true, 2) => sum_tile::<V, 2, TILE_VECTORS>(p, row, column, &depth, resume),
                        (true, 3) => sum_tile::<V, 3, TILE_VECTORS>(p, row, column, &depth, resume),
                        (true, 4) if MOST > 3 => sum_tile::<V, 4, TILE_VECTORS>(p, row, column, &depth, resume),
                        (true, 5) if MOST > 3 => sum_tile::<V, 5, TILE_VECTORS>(p, row, column, &depth, resume),
                        (true, _) if MOST > 3 => sum_tile::<V, 6, TILE_VECTORS>(p, row, column, &depth, resume),
                        _ => {
                            for i in row..row + tile {
                                sum_edge::<V>(p, i, column..columns.end, &depth, resume);
                            }
                        }
                    }
                }
                row += tile;
            }
            column = if wide { column + TILE_VECTORS * V::LANES } else { columns.end };
        }
        depth = depth.end..p.depth.min(depth.end + DEPTH_BLOCK);
    }
}

#[inline(always)]
unsafe fn sum_tile<V: Vector, const ROWS: usize, const VECTORS: usize>(
    p: &Product,
    row: usize,
    column: usize,
    depth: &Range<usize>,
    resume: bool,
) {
    unsafe {
        let c = p.c.add(row * p.c_stride + column);
        let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
        if resume {
            for i in 0..ROWS {
                for v in 0..VECTORS {
                    sums[i][v] = V::load(c.add(i * p.c_stride + v * V::LANES));
                }
            }
        }
        for k in depth.start..depth.end {
            let b = p.b.add(k * p.b_stride + column);
            let mut a_lanes = [V::splat(0.0); ROWS];
            for i in 0..ROWS {
                a_lanes[i] = V::splat(*p.a.add((row + i) * p.a_stride + k));
            }
            for v in 0..VECTORS {
                let b_lanes = V::load(b.add(v * V::LANES));
                for i in 0..ROWS {
                    sums[i][v] = a_lanes[i].multiply_add(b_lanes, sums[i][v]);
                }
            }
        }
        for i in 0..ROWS {
            for v in 0..VECTORS {
                sums[i][v].store(c.add(i * p.c_stride + v * V::LANES));
            }
        }
    }
}

/// The columns at the right edge of one row, which do not fill a tile.
#[inline(always)]
unsafe fn sum_edge<V: Vector>(p: &Product, row: usize, columns: Range<usize>, depth: &Range<usize>, resume: bool) {
    let mut column = columns.start;
    while column < columns.end {
        let count = V::LANES.min(columns.end - column);
        unsafe {
            let c = p.c.add(row * p.c_stride + column);
            let mut sum = if resume { first::<V>(c, count) } else { V::splat(0.0) };
            for k in depth.start..depth.end {
                let a = V::splat(*p.a.add(row * p.a_stride + k));
                sum = a.multiply_add(first::<V>(p.b.add(k * p.b_stride + column), count), sum);
            }
            if count == V::LANES { sum.store(c) } else { sum.store_first(c, count) }
        }
        column += count;
    }
}
