//! Weights in the order in which products read them: see `kernel::groups`.

use super::kernel::{GROUP, GroupedProduct};
use super::product::{Engine, Shared};
use std::ops::Range;

/// Multiplications below which one thread does a product.
const ALONE: usize = 1 << 17;
/// Groups that a thread takes at a time, so that it reads far ahead in one stretch, and at the end of a product.
const WIDE: usize = 16;

/// Floats that `outputs` rows of `inputs` weights take in groups.
pub fn grouped_len(outputs: usize, inputs: usize) -> usize {
    outputs.next_multiple_of(GROUP) * inputs
}

/// Rows of weights as they are stored.
#[derive(Clone, Copy)]
pub struct Rows {
    pub first: *const f32,
    /// Floats from one to the next.
    pub stride: usize,
    pub count: usize,
}

// SAFETY: an address; who follows it answers for that.
unsafe impl Sync for Rows {}

/// Puts the rows of all `parts`, one after the other, of `inputs` weights each, into groups at `to`, which has
/// [`grouped_len`] floats. What a last group has too much is zero.
///
/// # Safety
/// All pointers are valid for that, and nothing overlaps what is written.
pub unsafe fn group(parts: &[Rows], inputs: usize, to: *mut f32) {
    let to = Shared(to);
    let outputs: usize = parts.iter().map(|part| part.count).sum();
    super::share(outputs.div_ceil(GROUP), &|group| {
        let mut rows = [std::ptr::null::<f32>(); GROUP];
        let mut count = 0;
        let mut first = 0;
        // SAFETY: each part writes a group of its own; the rest is the caller's promise.
        unsafe {
            for part in parts {
                let start = (group * GROUP).max(first);
                let end = ((group + 1) * GROUP).min(first + part.count);
                for row in start..end {
                    rows[count] = part.first.add((row - first) * part.stride);
                    count += 1;
                }
                first += part.count;
            }
            let to = to.pointer().add(group * GROUP * inputs);
            if count < GROUP {
                to.write_bytes(0, GROUP * inputs);
            }
            // A line of each row at a time: the rows are read in whole cache lines, and what is written stays near.
            for start in (0..inputs).step_by(16) {
                for (place, row) in rows[..count].iter().enumerate() {
                    for k in start..inputs.min(start + 16) {
                        *to.add(k * GROUP + place) = *row.add(k);
                    }
                }
            }
        }
    });
}

/// Copies the weights of one output out of groups.
///
/// # Safety
/// `groups` holds more outputs than `output`, of `to.len()` inputs each.
pub unsafe fn ungroup(groups: *const f32, output: usize, to: &mut [f32]) {
    let depth = to.len();
    for (k, to) in to.iter_mut().enumerate() {
        *to = unsafe { *groups.add((output / GROUP * depth + k) * GROUP + output % GROUP) };
    }
}

/// c = a · weightsᵀ: `a` is `[rows, inputs]`, `grouped` the weights of `outputs` outputs in groups, `c` `[rows, outputs]`.
///
/// # Panics
/// If a slice has another length.
pub fn multiply(a: &[f32], grouped: &[f32], c: &mut [f32], [rows, outputs, inputs]: [usize; 3]) {
    assert_eq!([a.len(), grouped.len(), c.len()], [rows * inputs, grouped_len(outputs, inputs), rows * outputs]);
    let product = GroupedProduct {
        rows,
        columns: outputs,
        depth: inputs,
        a: a.as_ptr(),
        a_stride: inputs,
        b: grouped.as_ptr(),
        c: c.as_mut_ptr(),
        c_stride: outputs,
        add: false,
    };
    // SAFETY: the lengths are those of the product.
    unsafe { multiply_grouped(&product) }
}

/// Computes a product with weights in groups.
///
/// # Safety
/// The product's pointers are valid for its shape and strides, and C overlaps neither A nor B.
pub(crate) unsafe fn multiply_grouped(p: &GroupedProduct) {
    unsafe { super::engine().multiply_grouped(p) }
}

impl Engine {
    /// Computes a product with weights in groups.
    ///
    /// # Safety
    /// As [`multiply_grouped`].
    pub(super) unsafe fn multiply_grouped(&self, p: &GroupedProduct) {
        if p.rows == 0 || p.columns == 0 {
            return;
        }
        if p.depth == 0 {
            for row in (0..p.rows).filter(|_| !p.add) {
                unsafe { p.c.add(row * p.c_stride).write_bytes(0, p.columns) };
            }
            return;
        }
        self.share_groups([p.rows, p.columns, p.depth], &|groups| {
            // SAFETY: the parts are disjoint; the rest is the caller's promise.
            unsafe { (self.kernel.groups)(p, groups) };
        });
    }

    /// Calls `work` with groups of columns, all of them once, shared out between the threads where that pays.
    pub(super) fn share_groups(&self, [rows, columns, depth]: [usize; 3], work: &(dyn Fn(Range<usize>) + Sync)) {
        let groups = columns.div_ceil(GROUP);
        if rows * columns * depth < ALONE {
            return work(0..groups);
        }
        let parts = Parts::new(groups, self.pool.threads());
        self.pool.run(parts.count(), &|part| work(parts.groups(part)));
    }
}

/// Groups in parts: wide ones first, narrow ones at the end, so that the threads finish together.
struct Parts {
    groups: usize,
    wide: usize,
    wides: usize,
    narrow: usize,
}

impl Parts {
    fn new(groups: usize, threads: usize) -> Parts {
        let wide = WIDE.min(groups.div_ceil(2 * threads));
        let narrow = wide.div_ceil(4);
        let wides = groups.saturating_sub(threads * wide) / wide;
        Parts { groups, wide, wides, narrow }
    }

    fn count(&self) -> usize {
        self.wides + (self.groups - self.wides * self.wide).div_ceil(self.narrow)
    }

    fn groups(&self, part: usize) -> Range<usize> {
        let start = self.wide * part.min(self.wides) + self.narrow * part.saturating_sub(self.wides);
        let length = if part < self.wides { self.wide } else { self.narrow };
        start..self.groups.min(start + length)
    }
}
