//! B in groups: the weights of [`GROUP`] outputs side by side for each step of the depth, so that the lanes of a vector lie
//! along the outputs and all of B is read front to back.
//!
//! The depth is taken in blocks; a block of a group stays in the first-level cache while the rows of A pass by. C carries
//! the running sums from one block to the next, which is exact. While a block is used, the next one is brought nearer.

use std::ops::Range;

use super::{Vector, first};

/// Outputs of a group: a whole number of vectors for every instruction set, and with eight rows of A all registers of the
/// largest.
pub const GROUP: usize = 48;
/// Depth of a block: 12 KiB of weights.
const DEPTH_BLOCK: usize = 64;
/// Floats of a cache line.
const LINE: usize = 16;
/// Cache lines of a step of the depth.
const LINES: usize = GROUP / LINE;

/// C = A·B or C += A·B in float32, where B lies in groups.
#[derive(Clone, Copy)]
pub(crate) struct GroupedProduct {
    /// Rows of A and C.
    pub rows: usize,
    /// Columns of C.
    pub columns: usize,
    /// Columns of A.
    pub depth: usize,
    pub a: *const f32,
    /// Floats from one row of A to the next.
    pub a_stride: usize,
    /// `[ceil(columns / GROUP), depth, GROUP]`; what a last group has too much is multiplied and dropped.
    pub b: *const f32,
    pub c: *mut f32,
    /// Floats from one row of C to the next.
    pub c_stride: usize,
    /// Add to C instead of overwriting it.
    pub add: bool,
}

// SAFETY: the pointers are only followed inside the kernels, whose callers give each thread its own part of C.
unsafe impl Send for GroupedProduct {}
unsafe impl Sync for GroupedProduct {}

/// Computes the given groups of columns of C with tiles of at most `ROWS` rows and `VECTORS` vectors, which divide a group.
///
/// # Safety
/// As [`super::Groups`].
#[inline(always)]
pub(super) unsafe fn groups<V: Vector, const ROWS: usize, const VECTORS: usize>(
    p: &GroupedProduct,
    groups: Range<usize>,
) {
    const { assert!(GROUP.is_multiple_of(VECTORS * V::LANES)) };
    // A pass over a block takes a tile of rows with a strip of a group's vectors.
    let (tiles, strips) = (p.rows.div_ceil(ROWS), GROUP / (VECTORS * V::LANES));
    for group in groups {
        let mut start = 0;
        while start < p.depth {
            let block = start..p.depth.min(start + DEPTH_BLOCK);
            let mut row = 0;
            for tile in 0..tiles {
                let height = (p.rows - row).div_ceil(tiles - tile);
                for strip in 0..strips {
                    let at = strip * VECTORS * V::LANES;
                    let fetch = Fetch::of(tile * strips + strip, tiles * strips, block.len());
                    unsafe {
                        match height {
                            1 if ROWS > 1 => pass::<V, 1, VECTORS>(p, group, row, at, &block, fetch),
                            2 if ROWS > 2 => pass::<V, 2, VECTORS>(p, group, row, at, &block, fetch),
                            3 if ROWS > 3 => pass::<V, 3, VECTORS>(p, group, row, at, &block, fetch),
                            4 if ROWS > 4 => pass::<V, 4, VECTORS>(p, group, row, at, &block, fetch),
                            5 if ROWS > 5 => pass::<V, 5, VECTORS>(p, group, row, at, &block, fetch),
                            6 if ROWS > 6 => pass::<V, 6, VECTORS>(p, group, row, at, &block, fetch),
                            7 if ROWS > 7 => pass::<V, 7, VECTORS>(p, group, row, at, &block, fetch),
                            _ => pass::<V, ROWS, VECTORS>(p, group, row, at, &block, fetch),
                        }
                    }
                }
                row += height;
            }
            start = block.end;
        }
    }
}

/// Which lines of the next block a pass fetches: from line `first` on, `each` lines every `every` steps of the depth. All
/// passes fetch as many, so that memory is busy all the time.
#[derive(Clone, Copy)]
struct Fetch {
    first: usize,
    each: usize,
    every: usize,
}

impl Fetch {
    fn of(pass: usize, passes: usize, steps: usize) -> Fetch {
        let (each, every) = (LINES.div_ceil(passes), (passes / LINES).max(1));
        let first = pass * each * steps.div_ceil(every);
        Fetch { first, each: if first < LINES * steps { each } else { 0 }, every }
    }
}

/// Takes a tile of rows and a strip of a group's vectors through a block.
#[inline(always)]
unsafe fn pass<V: Vector, const ROWS: usize, const VECTORS: usize>(
    p: &GroupedProduct,
    group: usize,
    row: usize,
    at: usize,
    block: &Range<usize>,
    fetch: Fetch,
) {
    unsafe {
        match fetch.each {
            0 => tile::<V, ROWS, VECTORS, 0>(p, group, row, at, block, fetch),
            1 => tile::<V, ROWS, VECTORS, 1>(p, group, row, at, block, fetch),
            2 => tile::<V, ROWS, VECTORS, 2>(p, group, row, at, block, fetch),
            _ => tile::<V, ROWS, VECTORS, LINES>(p, group, row, at, block, fetch),
        }
    }
}

/// Adds one step of the depth to the sums of a tile. The fewer of weights and rows stay in registers while the others go by.
#[inline(always)]
pub(super) unsafe fn step<V: Vector, const ROWS: usize, const VECTORS: usize>(
    sums: &mut [[V; VECTORS]; ROWS],
    weights: impl Fn(usize) -> V,
    x: impl Fn(usize) -> V,
) {
    unsafe {
        if ROWS < VECTORS {
            let mut rows = [V::splat(0.0); ROWS];
            (0..ROWS).for_each(|i| rows[i] = x(i));
            for v in 0..VECTORS {
                let weights = weights(v);
                for i in 0..ROWS {
                    sums[i][v] = rows[i].multiply_add(weights, sums[i][v]);
                }
            }
        } else {
            let mut vectors = [V::splat(0.0); VECTORS];
            (0..VECTORS).for_each(|v| vectors[v] = weights(v));
            for i in 0..ROWS {
                let x = x(i);
                for v in 0..VECTORS {
                    sums[i][v] = x.multiply_add(vectors[v], sums[i][v]);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn tile<V: Vector, const ROWS: usize, const VECTORS: usize, const FETCHES: usize>(
    p: &GroupedProduct,
    group: usize,
    row: usize,
    at: usize,
    block: &Range<usize>,
    fetch: Fetch,
) {
    let column = group * GROUP + at;
    // Vectors of a last group that lie beyond C's last column count for nothing.
    let there = |vector: usize| p.columns.saturating_sub(column + vector * V::LANES).min(V::LANES);
    unsafe {
        let c = p.c.wrapping_add(row * p.c_stride + column);
        let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
        if p.add || block.start > 0 {
            for (i, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    if there(v) > 0 {
                        *sum = first(c.wrapping_add(i * p.c_stride + v * V::LANES), there(v));
                    }
                }
            }
        }
        let a = p.a.add(row * p.a_stride + block.start);
        let b = p.b.add((group * p.depth + block.start) * GROUP);
        let mut next = b.wrapping_add(block.len() * GROUP + fetch.first * LINE);
        let mut wait = fetch.every;
        for k in 0..block.len() {
            wait -= usize::from(FETCHES > 0);
            if FETCHES > 0 && wait == 0 {
                for line in 0..FETCHES {
                    V::fetch(next.wrapping_add(line * LINE));
                }
                next = next.wrapping_add(FETCHES * LINE);
                wait = fetch.every;
            }
            let weights = |v: usize| V::load(b.add(k * GROUP + at + v * V::LANES));
            let x = |i: usize| V::splat(*a.add(i * p.a_stride + k));
            step(&mut sums, weights, x);
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let to = c.wrapping_add(i * p.c_stride + v * V::LANES);
                match there(v) {
                    0 => {}
                    count if count == V::LANES => sum.store(to),
                    count => sum.store_first(to, count),
                }
            }
        }
    }
}
