//! Affine 8-bit weights in the order in which products read them: see `kernel::bytes`.

use super::kernel::{BytesProduct, GROUP};
use super::product::Engine;
use std::cell::RefCell;

thread_local! {
    /// The sums over the blocks of A, kept from call to call.
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that `outputs` rows of `inputs` weights take in groups.
pub fn bytes_len(outputs: usize, inputs: usize) -> usize {
    outputs.next_multiple_of(GROUP) * inputs
}

/// c = a · weightsᵀ: `a` is `[rows, inputs]`, `values` the bytes of `outputs` outputs in groups, `scales` scale and offset of each
/// output and block of inputs (`[groups, inputs / block, 2, 48]`), `c` `[rows, outputs]`.
///
/// # Panics
/// If a slice has another length.
pub fn multiply(
    a: &[f32],
    (values, scales): (&[u8], &[f32]),
    block: usize,
    c: &mut [f32],
    [rows, outputs, inputs]: [usize; 3],
) {
    assert_eq!([a.len(), values.len(), c.len()], [rows * inputs, bytes_len(outputs, inputs), rows * outputs]);
    assert_eq!(scales.len() * block, 2 * values.len());
    let product = BytesProduct {
        rows,
        columns: outputs,
        depth: inputs,
        block,
        a: a.as_ptr(),
        a_stride: inputs,
        a_sums: std::ptr::null(),
        b: values.as_ptr(),
        scales: scales.as_ptr(),
        c: c.as_mut_ptr(),
        c_stride: outputs,
        add: false,
    };
    // SAFETY: the lengths are those of the product.
    unsafe { multiply_bytes(&product) }
}

/// Computes a product with 8-bit weights in groups; its `a_sums` are filled in here.
///
/// # Safety
/// The product's other pointers are valid for its shape and strides, and C overlaps neither A nor B. The depth is a whole
/// number of blocks, of at least one weight each.
pub(crate) unsafe fn multiply_bytes(p: &BytesProduct) {
    unsafe { super::engine().multiply_bytes(p) }
}

impl Engine {
    /// # Safety
    /// As [`multiply_bytes`].
    pub(super) unsafe fn multiply_bytes(&self, p: &BytesProduct) {
        if p.rows == 0 || p.columns == 0 || p.depth == 0 {
            // SAFETY: the caller's promise.
            return (0..p.rows).filter(|_| !p.add).for_each(|row| unsafe {
                p.c.add(row * p.c_stride).write_bytes(0, p.columns);
            });
        }
        SUMS.with_borrow_mut(|sums| {
            sums.clear();
            for row in 0..p.rows {
                // SAFETY: the caller's promise.
                let row = unsafe { std::slice::from_raw_parts(p.a.add(row * p.a_stride), p.depth) };
                sums.extend(row.chunks_exact(p.block).map(|block| block.iter().sum::<f32>()));
            }
            let p = BytesProduct { a_sums: sums.as_ptr(), ..*p };
            self.share_groups([p.rows, p.columns, p.depth], &|groups| {
                // SAFETY: the parts are disjoint; the rest is the caller's promise.
                unsafe { (self.kernel.bytes)(&p, groups) };
            });
        });
    }
}
