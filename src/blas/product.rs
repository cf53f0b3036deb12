//! Cuts a product into parts for the threads. The cut decides who computes an element, never how.

use std::cell::RefCell;
use std::ops::Range;

use super::kernel::{GROUP_TILES, Kernel, PANEL_TILES, Product, Tiles, pack, whole};
use super::pool::Pool;

/// Below this many multiplications a product is done before another thread would have joined.
const ALONE: usize = 1 << 17;
/// Parts a thread should get at least, so that one that was held up leaves the rest to the others.
const PARTS_PER_THREAD: usize = 4;
/// Rows and columns of a part of running sums.
const SUMS_PART: (usize, usize) = (24, 64);
/// Floats of A above which copying it is shared out, too.
const PACK_ALONE: usize = 1 << 16;

/// The kernel for this processor and the threads that run it.
pub(super) struct Engine {
    pub kernel: &'static Kernel,
    pub pool: Pool,
}

thread_local! {
    /// The packed copy of A, kept from call to call.
    static PACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
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
        unsafe {
            match (product.depth, transposed) {
                (0, _) => clear(product),
                (_, true) => self.dots(product),
                (_, false) => self.sums(product),
            }
        }
    }

    unsafe fn dots(&self, p: &Product) {
        let tiles = Tiles::new(p.rows, self.kernel.tile.0);
        if tiles.count == 1 {
            unsafe { self.dots_packed(p, &tiles, std::ptr::null()) };
            return;
        }
        PACKED.with_borrow_mut(|packed| {
            let size = p.rows * whole(p.depth);
            packed.clear();
            packed.reserve(size);
            let to = Shared(packed.as_mut_ptr());
            let groups = tiles.count.div_ceil(GROUP_TILES);
            let work = |group: usize| {
                let range = group * GROUP_TILES..tiles.count.min((group + 1) * GROUP_TILES);
                // SAFETY: the tiles are disjoint, and there is room for all of them.
                unsafe { pack(p, &tiles, range, to.pointer()) };
            };
            if size < PACK_ALONE {
                (0..groups).for_each(work)
            } else {
                self.pool.run(groups, &work)
            }
            // SAFETY: all of the copy has been written.
            unsafe { self.dots_packed(p, &tiles, to.pointer()) };
        });
    }

    unsafe fn dots_packed(&self, p: &Product, tiles: &Tiles, packed: *const f32) {
        let panels = Panels::new(p.columns, self.kernel.tile.1, self.pool.threads());
        // Rows are divided only where the columns do not give every thread enough parts.
        let wanted = (self.pool.threads() * PARTS_PER_THREAD).div_ceil(panels.count);
        let down = tiles.count.div_ceil(wanted).next_multiple_of(GROUP_TILES);
        let bands = tiles.count.div_ceil(down);
        let packed = Shared(packed.cast_mut());
        self.share(p, panels.count * bands, &|part| {
            let tile = part % bands * down;
            let range = tile..tiles.count.min(tile + down);
            // SAFETY: the parts are disjoint; the rest is the caller's promise.
            unsafe { (self.kernel.dots)(p, packed.pointer(), range, panels.columns(part / bands)) };
        });
    }

    unsafe fn sums(&self, p: &Product) {
        let (down, across) = SUMS_PART;
        let panels = p.columns.div_ceil(across);
        self.share(p, panels * p.rows.div_ceil(down), &|part| {
            let (row, column) = (part / panels * down, part % panels * across);
            let (rows, columns) = (row..p.rows.min(row + down), column..p.columns.min(column + across));
            // SAFETY: the parts are disjoint; the rest is the caller's promise.
            unsafe { (self.kernel.sums)(p, rows, columns) };
        });
    }

    fn share(&self, p: &Product, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        if p.rows * p.columns * p.depth < ALONE { (0..parts).for_each(work) } else { self.pool.run(parts, work) }
    }
}

/// The columns of C in panels: wide ones first, narrow ones at the end, so that the threads finish together.
struct Panels {
    columns: usize,
    /// Columns of a wide panel, and how many there are.
    wide: (usize, usize),
    /// Columns of a narrow panel.
    narrow: usize,
    /// All panels.
    count: usize,
}

impl Panels {
    fn new(columns: usize, tile: usize, threads: usize) -> Panels {
        let wide = PANEL_TILES * tile;
        let narrow = (wide / 4).min(columns.div_ceil(threads * PARTS_PER_THREAD).next_multiple_of(tile));
        let wides = columns.saturating_sub(2 * threads * wide) / wide;
        Panels { columns, wide: (wide, wides), narrow, count: wides + (columns - wides * wide).div_ceil(narrow) }
    }

    fn columns(&self, panel: usize) -> Range<usize> {
        let (wide, wides) = self.wide;
        let start = wide * panel.min(wides) + self.narrow * panel.saturating_sub(wides);
        let length = if panel < wides { wide } else { self.narrow };
        start..self.columns.min(start + length)
    }
}

/// A pointer that the threads of one job share; each follows it to its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared(pub(crate) *mut f32);

// SAFETY: see above; the job ends before the memory does.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn pointer(&self) -> *mut f32 {
        self.0
    }
}

/// C = 0 for a product of depth 0, unless it is added to C.
unsafe fn clear(p: &Product) {
    if !p.add {
        for row in 0..p.rows {
            unsafe { p.c.add(row * p.c_stride).write_bytes(0, p.columns) };
        }
    }
}
