//! A product with a weight matrix, and its bias. MLX's own takes four operations for it: two change the shape and one
//! transposes.

use super::host_op::{Output, View, add};
use crate::blas::cblas::{NO_TRANSPOSE, ROW_MAJOR, TRANSPOSE, cblas_sgemm};
use anyhow::Result;
use mlx_rs::Array;

/// x · weightᵀ (+ bias): `x` is `[batch, b, inputs]`, `weight` `[outputs, inputs]`, `bias` `[outputs]`, all float32.
/// Gives `[batch, b, outputs]`. Lazy.
pub fn linear(x: &Array, weight: &Array, bias: Option<&Array>) -> Result<Array> {
    let output = Output::new(&[x.dim(0), x.dim(1), weight.dim(0)]);
    let [y] = match bias {
        Some(bias) => add(&[x, weight, bias], [output], biased_kernel, ())?,
        None => add(&[x, weight], [output], plain_kernel, ())?,
    };
    Ok(y)
}

unsafe extern "C" fn plain_kernel(inputs: *const View, outputs: *const View, _: *const u8) {
    // SAFETY: what `linear` gave.
    unsafe { product(&*inputs, &*inputs.add(1), &*outputs, 0.0) }
}

unsafe extern "C" fn biased_kernel(inputs: *const View, outputs: *const View, _: *const u8) {
    // SAFETY: what `linear` gave.
    unsafe {
        let (bias, y) = (&*inputs.add(2), &*outputs);
        let outputs = y.size(3);
        for row in 0..y.rows() {
            y.write(row * outputs, outputs).copy_from_slice(bias.read(0, outputs));
        }
        product(&*inputs, &*inputs.add(1), y, 1.0);
    }
}

/// y = x · weightᵀ + factor · y.
unsafe fn product(x: &View, weight: &View, y: &View, factor: f32) {
    let (outputs, inputs) = (y.size(3), x.size(3));
    let (products, rows, step) = x.products();
    for index in 0..products {
        let (a, c) = (x.row(index * rows), index * rows * outputs);
        // SAFETY: the caller's promise; the sizes are those of MLX's arrays, which fit.
        unsafe {
            cblas_sgemm(
                ROW_MAJOR,
                NO_TRANSPOSE,
                TRANSPOSE,
                rows as i32,
                outputs as i32,
                inputs as i32,
                1.0,
                x.pointer().add(a),
                step as i32,
                weight.pointer(),
                weight.stride(2) as i32,
                factor,
                y.pointer().add(c),
                outputs as i32,
            );
        }
    }
}
