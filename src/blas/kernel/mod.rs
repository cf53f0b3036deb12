//! The inner loops, written once over a vector type and compiled once for each instruction set.
//!
//! Both loops give every element of C its own accumulator and a fixed order of additions that depends on nothing but
//! the depth of the product. Rows, columns, tiles, blocks and threads decide when an element is computed, never how:
//! this is what makes a row's result independent of the rows computed with it.
//!
//! How to add an instruction set: write one file with a type that implements [`Vector`] and the two entry points that
//! enable its features, and add one line to [`select`].

#![allow(clippy::needless_range_loop)] // rows and columns of a matrix, not items of a list

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

/// Columns of B that a tile takes together.
const TILE_COLUMNS: usize = 4;
/// Floats in a cache line; the loops advance by this much.
const LINE: usize = 16;

/// C = A·B or C += A·B in float32, row-major. B is given as `columns` rows of length `depth` to [`Kernel::dots`] and
/// as `depth` rows of length `columns` to [`Kernel::sums`].
#[derive(Clone, Copy)]
pub(super) struct Product {
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

/// Computes the given rows and columns of C.
///
/// # Safety
/// The ranges lie inside the product, its pointers are valid for its shape, C overlaps neither A nor B, and nobody
/// else touches that part of C meanwhile. The processor has the instructions that the kernel is named after.
type Block = unsafe fn(&Product, Range<usize>, Range<usize>);

/// The two loops for one instruction set.
pub(super) struct Kernel {
    /// `avx512`, `avx2`, `neon` or `portable`.
    pub name: &'static str,
    /// Rows of A that a tile takes together.
    pub tile_rows: usize,
    /// B transposed: each element is a dot product, its lanes summed in a fixed tree at the end.
    pub dots: Block,
    /// B not transposed: each element is a running sum over the depth in order, so zeros at the end of a row of A
    /// (masked positions) leave the result as it is.
    pub sums: Block,
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
    /// Loads `count` floats, fewer than there are lanes; the other lanes are zero and their memory is not touched.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_first(self, to: *mut f32, count: usize);
    /// self · other + sum.
    unsafe fn multiply_add(self, other: Self, sum: Self) -> Self;
    /// The sum over the lanes of each vector, in an order that does not depend on the other vectors.
    unsafe fn sums(vectors: [Self; TILE_COLUMNS]) -> [f32; TILE_COLUMNS];
    unsafe fn prefetch(from: *const f32);
}

/// The next tile's height: as even as possible, at most `most`.
#[inline(always)]
fn height(rows_left: usize, most: usize) -> usize {
    rows_left.div_ceil(rows_left.div_ceil(most))
}

/// See [`Kernel::dots`]. `MOST` rows a tile.
///
/// # Safety
/// As [`Block`].
#[inline(always)]
unsafe fn dots<V: Vector, const MOST: usize>(p: &Product, rows: Range<usize>, columns: Range<usize>) {
    let mut column = columns.start;
    while column < columns.end {
        let wide = columns.end - column >= TILE_COLUMNS;
        let mut row = rows.start;
        while row < rows.end {
            let tile = height(rows.end - row, MOST);
            // The first tile brings in the rows of B that the next group of columns needs.
            let first = row == rows.start;
            unsafe {
                match (wide, tile) {
                    (true, 1) => dot_tile::<V, 1, TILE_COLUMNS>(p, row, column, first),
                    (true, 2) => dot_tile::<V, 2, TILE_COLUMNS>(p, row, column, first),
                    (true, 3) => dot_tile::<V, 3, TILE_COLUMNS>(p, row, column, first),
                    (true, 4) if MOST > 3 => dot_tile::<V, 4, TILE_COLUMNS>(p, row, column, first),
                    (true, 5) if MOST > 3 => dot_tile::<V, 5, TILE_COLUMNS>(p, row, column, first),
                    (true, _) if MOST > 3 => dot_tile::<V, 6, TILE_COLUMNS>(p, row, column, first),
                    _ => {
                        for i in row..row + tile {
                            dot_tile::<V, 1, 1>(p, i, column, false);
                        }
                    }
                }
            }
            row += tile;
        }
        column += if wide { TILE_COLUMNS } else { 1 };
    }
}

#[inline(always)]
unsafe fn dot_tile<V: Vector, const ROWS: usize, const COLUMNS: usize>(
    p: &Product,
    row: usize,
    column: usize,
    prefetch: bool,
) {
    unsafe {
        let a = p.a.add(row * p.a_stride);
        let b = p.b.add(column * p.b_stride);
        let whole = p.depth - p.depth % LINE;
        let zero = [[V::splat(0.0); COLUMNS]; ROWS];
        let lines = if prefetch {
            dot_lines::<V, ROWS, COLUMNS, true>(a, p.a_stride, b, p.b_stride, whole, zero)
        } else {
            dot_lines::<V, ROWS, COLUMNS, false>(a, p.a_stride, b, p.b_stride, whole, zero)
        };
        let sums = dot_rest::<V, ROWS, COLUMNS>(p, a, b, whole, lines);
        for i in 0..ROWS {
            let mut padded = [V::splat(0.0); TILE_COLUMNS];
            padded[..COLUMNS].copy_from_slice(&sums[i]);
            let totals = V::sums(padded);
            let c = p.c.add((row + i) * p.c_stride + column);
            for j in 0..COLUMNS {
                *c.add(j) = if p.add { *c.add(j) + totals[j] } else { totals[j] };
            }
        }
    }
}

/// The part of the depth that fills cache lines: the loop that everything else is about. A tile's accumulators, one
/// vector for each of its rows and one of B take exactly the sixteen registers of AVX2.
#[inline(always)]
unsafe fn dot_lines<V: Vector, const ROWS: usize, const COLUMNS: usize, const PREFETCH: bool>(
    mut a: *const f32,
    a_stride: usize,
    mut b: *const f32,
    b_stride: usize,
    whole: usize,
    mut sums: [[V; COLUMNS]; ROWS],
) -> [[V; COLUMNS]; ROWS] {
    unsafe {
        let mut ahead = b.wrapping_add(COLUMNS * b_stride);
        let end = a.add(whole);
        while a != end {
            if PREFETCH {
                for j in 0..COLUMNS {
                    V::prefetch(ahead.wrapping_add(j * b_stride));
                }
                ahead = ahead.wrapping_add(LINE);
            }
            for part in 0..LINE / V::LANES {
                let mut a_lanes = [V::splat(0.0); ROWS];
                for i in 0..ROWS {
                    a_lanes[i] = V::load(a.add(i * a_stride + part * V::LANES));
                }
                for j in 0..COLUMNS {
                    let b_lanes = V::load(b.add(j * b_stride + part * V::LANES));
                    for i in 0..ROWS {
                        sums[i][j] = a_lanes[i].multiply_add(b_lanes, sums[i][j]);
                    }
                }
            }
            a = a.add(LINE);
            b = b.add(LINE);
        }
        sums
    }
}

/// What is left of the depth after whole cache lines.
#[inline(always)]
unsafe fn dot_rest<V: Vector, const ROWS: usize, const COLUMNS: usize>(
    p: &Product,
    a: *const f32,
    b: *const f32,
    whole: usize,
    mut sums: [[V; COLUMNS]; ROWS],
) -> [[V; COLUMNS]; ROWS] {
    let mut k = whole;
    while k < p.depth {
        let count = V::LANES.min(p.depth - k);
        for j in 0..COLUMNS {
            unsafe {
                let b_lanes = first::<V>(b.add(j * p.b_stride + k), count);
                for i in 0..ROWS {
                    sums[i][j] = first::<V>(a.add(i * p.a_stride + k), count).multiply_add(b_lanes, sums[i][j]);
                }
            }
        }
        k += count;
    }
    sums
}

/// Loads `count` floats, at most as many as there are lanes.
#[inline(always)]
unsafe fn first<V: Vector>(from: *const f32, count: usize) -> V {
    unsafe { if count == V::LANES { V::load(from) } else { V::load_first(from, count) } }
}

/// Depth that is taken at a time, so that the part of B in use stays in the cache. C carries the running sums from
/// one part to the next, which is exact.
const DEPTH_BLOCK: usize = 256;

/// See [`Kernel::sums`]. `MOST` rows a tile.
///
/// # Safety
/// As [`Block`].
#[inline(always)]
unsafe fn sums<V: Vector, const MOST: usize>(p: &Product, rows: Range<usize>, columns: Range<usize>) {
    let mut depth = 0..DEPTH_BLOCK.min(p.depth);
    while !depth.is_empty() {
        let resume = p.add || depth.start > 0;
        let mut column = columns.start;
        while column < columns.end {
            let wide = columns.end - column >= TILE_COLUMNS * V::LANES;
            let mut row = rows.start;
            while row < rows.end {
                let tile = height(rows.end - row, MOST);
                unsafe {
                    match (wide, tile) {
                        (true, 1) => sum_tile::<V, 1, TILE_COLUMNS>(p, row, column, &depth, resume),
                        (true, 2) => sum_tile::<V, 2, TILE_COLUMNS>(p, row, column, &depth, resume),
                        (true, 3) => sum_tile::<V, 3, TILE_COLUMNS>(p, row, column, &depth, resume),
                        (true, 4) if MOST > 3 => sum_tile::<V, 4, TILE_COLUMNS>(p, row, column, &depth, resume),
                        (true, 5) if MOST > 3 => sum_tile::<V, 5, TILE_COLUMNS>(p, row, column, &depth, resume),
                        (true, _) if MOST > 3 => sum_tile::<V, 6, TILE_COLUMNS>(p, row, column, &depth, resume),
                        _ => {
                            for i in row..row + tile {
                                sum_edge::<V>(p, i, column..columns.end, &depth, resume);
                            }
                        }
                    }
                }
                row += tile;
            }
            column = if wide { column + TILE_COLUMNS * V::LANES } else { columns.end };
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
