//! B transposed: dot products, the lanes of a vector lie along the depth.
//!
//! A tile is a few rows of A times a few rows of B: as many accumulators as there are registers. Some tiles one below
//! the other make a group, whose part of A stays in the first-level cache while B passes by; where A is too deep for
//! that, the depth is cut and the accumulators wait in memory meanwhile, which is exact.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::{LINE, Product, Vector, first};

/// Tiles one below the other in a group.
pub const GROUP_TILES: usize = 3;
/// Tiles side by side in a panel.
pub const PANEL_TILES: usize = 16;
/// Depth that is taken at a time, where A has several tiles: as much of a tile and of the next columns as the
/// first-level cache holds.
const DEPTH_BLOCK: usize = 384;

/// Rows of A in tiles of at most `most`, as even as possible.
#[derive(Clone, Copy)]
pub struct Tiles {
    pub count: usize,
    /// Rows of a tile; the first `taller` ones have one more.
    rows: usize,
    taller: usize,
}

impl Tiles {
    pub fn new(rows: usize, most: usize) -> Tiles {
        let count = rows.div_ceil(most);
        Tiles { count, rows: rows / count, taller: rows % count }
    }

    /// The tile's first row.
    #[inline(always)]
    pub fn start(&self, tile: usize) -> usize {
        tile * self.rows + tile.min(self.taller)
    }

    /// The tile's rows.
    #[inline(always)]
    pub fn height(&self, tile: usize) -> usize {
        self.rows + usize::from(tile < self.taller)
    }
}

/// Depth in whole cache lines.
#[inline(always)]
pub fn whole(depth: usize) -> usize {
    depth - depth % LINE
}

/// Copies the given tiles of A so that a tile reads forward only: for each cache line of the depth, that line of each
/// of its rows. The copy holds `rows * whole(depth)` floats.
///
/// # Safety
/// A is valid for the product's shape, `packed` for the copy, and nobody else touches these tiles' part of it.
pub unsafe fn pack(p: &Product, tiles: &Tiles, range: Range<usize>, packed: *mut f32) {
    let lines = p.depth / LINE;
    for tile in range {
        let (start, height) = (tiles.start(tile), tiles.height(tile));
        for row in 0..height {
            for line in 0..lines {
                unsafe {
                    let from = p.a.add((start + row) * p.a_stride + line * LINE);
                    let to = packed.add(start * whole(p.depth) + (line * height + row) * LINE);
                    to.copy_from_nonoverlapping(from, LINE);
                }
            }
        }
    }
}

/// See [`super::Kernel::dots`]. A tile has at most `ROWS` rows and `COLUMNS` columns.
///
/// # Safety
/// As [`super::Dots`].
#[inline(always)]
pub(super) unsafe fn dots<V: Vector, const ROWS: usize, const COLUMNS: usize>(
    p: &Product,
    packed: *const f32,
    tiles: Range<usize>,
    columns: Range<usize>,
) {
    let job = Job { p, packed, tiles: Tiles::new(p.rows, ROWS) };
    let tiled = columns.start + columns.len() / COLUMNS * COLUMNS;
    unsafe {
        panels::<V, ROWS, COLUMNS>(&job, &tiles, columns.start..tiled);
        panels::<V, ROWS, 1>(&job, &tiles, tiled..columns.end);
    }
}

struct Job<'a> {
    p: &'a Product,
    /// The packed copy of A, or null where A has a single tile.
    packed: *const f32,
    tiles: Tiles,
}

/// The columns fill tiles.
#[inline(always)]
unsafe fn panels<V: Vector, const ROWS: usize, const COLUMNS: usize>(
    job: &Job,
    tiles: &Range<usize>,
    columns: Range<usize>,
) {
    let mut column = columns.start;
    while column < columns.end {
        let panel = column..columns.end.min(column + PANEL_TILES * COLUMNS);
        let mut tile = tiles.start;
        while tile < tiles.end {
            let group = tile..tiles.end.min(tile + GROUP_TILES);
            tile = group.end;
            unsafe { group_by_panel::<V, ROWS, COLUMNS>(job, group, &panel) };
        }
        column = panel.end;
    }
}

#[inline(always)]
unsafe fn group_by_panel<V: Vector, const ROWS: usize, const COLUMNS: usize>(
    job: &Job,
    group: Range<usize>,
    panel: &Range<usize>,
) {
    let p = job.p;
    let mut waiting = [const { MaybeUninit::<[[V; COLUMNS]; ROWS]>::uninit() }; GROUP_TILES * PANEL_TILES];
    // Twice the block is still better done at once.
    let cut = group.len() > 1 && p.depth > 2 * DEPTH_BLOCK;
    let cuts = if cut { p.depth.div_ceil(DEPTH_BLOCK) } else { 1 };
    let step = p.depth.div_ceil(cuts).next_multiple_of(LINE);
    // The tiles of a group share the work of bringing the next columns' part of B nearer.
    let prefetches = COLUMNS.div_ceil(group.len());
    let mut depth = 0..step.min(p.depth);
    while !depth.is_empty() {
        let mut slot = 0;
        let mut column = panel.start;
        while column < panel.end {
            let next = column + COLUMNS;
            let mut ahead = if next == panel.end && depth.end < p.depth {
                p.b.wrapping_add(panel.start * p.b_stride + depth.end)
            } else {
                p.b.wrapping_add(next * p.b_stride + depth.start)
            };
            for tile in group.start..group.end {
                let row = job.tiles.start(tile);
                let at = At { row, column, start: depth.start, end: depth.end, ahead, prefetches };
                unsafe {
                    let waiting = waiting[slot].as_mut_ptr();
                    match job.tiles.height(tile) {
                        1 if ROWS > 1 => dot_tile::<V, 1, COLUMNS>(job, at, waiting.cast()),
                        2 if ROWS > 2 => dot_tile::<V, 2, COLUMNS>(job, at, waiting.cast()),
                        3 if ROWS > 3 => dot_tile::<V, 3, COLUMNS>(job, at, waiting.cast()),
                        4 if ROWS > 4 => dot_tile::<V, 4, COLUMNS>(job, at, waiting.cast()),
                        5 if ROWS > 5 => dot_tile::<V, 5, COLUMNS>(job, at, waiting.cast()),
                        6 if ROWS > 6 => dot_tile::<V, 6, COLUMNS>(job, at, waiting.cast()),
                        7 if ROWS > 7 => dot_tile::<V, 7, COLUMNS>(job, at, waiting.cast()),
                        8 if ROWS > 8 => dot_tile::<V, 8, COLUMNS>(job, at, waiting.cast()),
                        9 if ROWS > 9 => dot_tile::<V, 9, COLUMNS>(job, at, waiting.cast()),
                        10 if ROWS > 10 => dot_tile::<V, 10, COLUMNS>(job, at, waiting.cast()),
                        11 if ROWS > 11 => dot_tile::<V, 11, COLUMNS>(job, at, waiting.cast()),
                        12 if ROWS > 12 => dot_tile::<V, 12, COLUMNS>(job, at, waiting.cast()),
                        13 if ROWS > 13 => dot_tile::<V, 13, COLUMNS>(job, at, waiting.cast()),
                        14 if ROWS > 14 => dot_tile::<V, 14, COLUMNS>(job, at, waiting.cast()),
                        15 if ROWS > 15 => dot_tile::<V, 15, COLUMNS>(job, at, waiting.cast()),
                        _ => dot_tile::<V, ROWS, COLUMNS>(job, at, waiting),
                    }
                }
                slot += 1;
                ahead = ahead.wrapping_add(prefetches * p.b_stride);
            }
            column = next;
        }
        depth = depth.end..p.depth.min(depth.end + step);
    }
}

/// A tile's place in the product.
struct At {
    row: usize,
    column: usize,
    /// Part of the depth: from here ...
    start: usize,
    /// ... to here.
    end: usize,
    /// B that is needed soon: the tile brings this part of `prefetches` of its rows nearer while it computes.
    ahead: *const f32,
    prefetches: usize,
}

#[inline(always)]
unsafe fn dot_tile<V: Vector, const ROWS: usize, const COLUMNS: usize>(
    job: &Job,
    at: At,
    waiting: *mut [[V; COLUMNS]; ROWS],
) {
    unsafe {
        let begin = if at.start == 0 { [[V::splat(0.0); COLUMNS]; ROWS] } else { waiting.read() };
        let sums = match (job.packed.is_null(), at.prefetches) {
            (true, _) => lines::<V, ROWS, COLUMNS, COLUMNS, false>(job, &at, begin),
            (false, 1) => lines::<V, ROWS, COLUMNS, 1, true>(job, &at, begin),
            (false, _) => lines::<V, ROWS, COLUMNS, 2, true>(job, &at, begin),
        };
        if at.end < job.p.depth {
            waiting.write(sums);
        } else {
            finish(job.p, &at, rest(job.p, &at, sums));
        }
    }
}

/// The part of the depth that fills cache lines: the loop that everything else is about. A tile's accumulators, one
/// vector for each of its columns and one of A take the registers: sixteen with AVX2, thirty-two with AVX-512.
#[inline(always)]
unsafe fn lines<V: Vector, const ROWS: usize, const COLUMNS: usize, const PREFETCHES: usize, const PACKED: bool>(
    job: &Job,
    at: &At,
    mut sums: [[V; COLUMNS]; ROWS],
) -> [[V; COLUMNS]; ROWS] {
    let p = job.p;
    let count = (at.end - at.start) / LINE;
    unsafe {
        let (mut a, row_step, line_step) = if PACKED {
            (job.packed.add(at.row * whole(p.depth) + at.start * ROWS), LINE, ROWS * LINE)
        } else {
            (p.a.add(at.row * p.a_stride + at.start), p.a_stride, LINE)
        };
        let mut b = p.b.add(at.column * p.b_stride + at.start);
        let mut ahead = at.ahead;
        for _ in 0..count {
            for j in 0..PREFETCHES {
                V::prefetch(ahead.wrapping_add(j * p.b_stride));
            }
            for part in 0..LINE / V::LANES {
                let mut b_lanes = [V::splat(0.0); COLUMNS];
                for j in 0..COLUMNS {
                    b_lanes[j] = V::load(b.add(j * p.b_stride + part * V::LANES));
                }
                for i in 0..ROWS {
                    let a_lanes = V::load(a.add(i * row_step + part * V::LANES));
                    for j in 0..COLUMNS {
                        sums[i][j] = a_lanes.multiply_add(b_lanes[j], sums[i][j]);
                    }
                }
            }
            a = a.add(line_step);
            b = b.add(LINE);
            ahead = ahead.wrapping_add(LINE);
        }
    }
    sums
}

/// What is left of the depth after whole cache lines.
#[inline(always)]
unsafe fn rest<V: Vector, const ROWS: usize, const COLUMNS: usize>(
    p: &Product,
    at: &At,
    mut sums: [[V; COLUMNS]; ROWS],
) -> [[V; COLUMNS]; ROWS] {
    let mut k = whole(p.depth);
    while k < p.depth {
        let count = V::LANES.min(p.depth - k);
        for j in 0..COLUMNS {
            unsafe {
                let b_lanes = first::<V>(p.b.add((at.column + j) * p.b_stride + k), count);
                for i in 0..ROWS {
                    let a_lanes = first::<V>(p.a.add((at.row + i) * p.a_stride + k), count);
                    sums[i][j] = a_lanes.multiply_add(b_lanes, sums[i][j]);
                }
            }
        }
        k += count;
    }
    sums
}

/// Adds up the lanes and writes the tile to C.
#[inline(always)]
unsafe fn finish<V: Vector, const ROWS: usize, const COLUMNS: usize>(p: &Product, at: &At, sums: [[V; COLUMNS]; ROWS]) {
    for j in 0..COLUMNS {
        let mut begin = 0;
        while begin < ROWS {
            let count = (ROWS - begin).min(4);
            unsafe {
                let mut four = [V::splat(0.0); 4];
                for i in 0..count {
                    four[i] = sums[begin + i][j];
                }
                let totals = V::sums(four);
                for i in 0..count {
                    let c = p.c.add((at.row + begin + i) * p.c_stride + at.column + j);
                    *c = if p.add { *c + totals[i] } else { totals[i] };
                }
            }
            begin += count;
        }
    }
}
