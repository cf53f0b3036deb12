//! Cuts a product into blocks for the threads. The cut decides who computes an element, never how.

use super::kernel::{Kernel, Product};
use super::pool::Pool;

/// Below this many multiplications a product is done before another thread would have joined.
const ALONE: usize = 1 << 17;
/// Bytes of B in a block: long enough to stream, short enough that threads finish together.
const B_BLOCK_BYTES: usize = 128 << 10;
/// Bytes of A in a block, so that it stays in a core's second-level cache.
const A_BLOCK_BYTES: usize = 192 << 10;
/// Blocks a thread should get at least, where that leaves them long enough.
const BLOCKS_PER_THREAD: usize = 4;

/// The kernel for this processor and the threads that run it.
pub(super) struct Engine {
    pub kernel: &'static Kernel,
    pub pool: Pool,
}

impl Engine {
    /// Computes the whole product; `transposed` says how B is stored.
    ///
    /// # Safety
    /// The product's pointers are valid for its shape and strides, and C overlaps neither A nor B.
    pub(super) unsafe fn multiply(&self, product: &Product, transposed: bool) {
        if product.rows == 0 || product.columns == 0 {
            return;
        }
        if product.depth == 0 {
            unsafe { clear(product) };
            return;
        }
        let block = if transposed { self.kernel.dots } else { self.kernel.sums };
        let cut = Cut::new(product, self.kernel, self.pool.threads());
        let work = |part: usize| {
            let (row, column) = (part / cut.across * cut.rows, part % cut.across * cut.columns);
            let rows = row..product.rows.min(row + cut.rows);
            let columns = column..product.columns.min(column + cut.columns);
            // SAFETY: the blocks are disjoint parts of the product; the rest is the caller's promise.
            unsafe { block(product, rows, columns) };
        };
        if product.rows * product.columns * product.depth < ALONE {
            (0..cut.parts).for_each(work);
        } else {
            self.pool.run(cut.parts, &work);
        }
    }
}

/// C = 0 for a product of depth 0, unless it is added to C.
unsafe fn clear(product: &Product) {
    if !product.add {
        for row in 0..product.rows {
            unsafe { product.c.add(row * product.c_stride).write_bytes(0, product.columns) };
        }
    }
}

/// Blocks of `rows` by `columns`, numbered along the rows of C, `across` of them side by side.
struct Cut {
    rows: usize,
    columns: usize,
    across: usize,
    parts: usize,
}

impl Cut {
    fn new(product: &Product, kernel: &Kernel, threads: usize) -> Cut {
        let row_bytes = product.depth * size_of::<f32>();
        let rows =
            (A_BLOCK_BYTES / row_bytes).max(kernel.tile_rows).next_multiple_of(kernel.tile_rows).min(product.rows);
        // Columns in multiples of the widest tile: four vectors of sixteen floats.
        let share = product.columns.div_ceil(threads * BLOCKS_PER_THREAD);
        let columns = share.min(B_BLOCK_BYTES / row_bytes).next_multiple_of(64).min(product.columns);
        let across = product.columns.div_ceil(columns);
        Cut { rows, columns, across, parts: across * product.rows.div_ceil(rows) }
    }
}
