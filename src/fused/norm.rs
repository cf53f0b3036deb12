//! RMS norm over the last axis, alone or behind the residual addition that comes before it.

use super::host_op::{Output, View, add, parameters};
use super::vector::{Loop, sum, vectorised};
use anyhow::Result;
use mlx_rs::Array;

/// x / sqrt(mean(x²) + eps) · weight over the last axis; `x` is float32 and `weight` has the size of that axis. Lazy.
pub fn rms_norm(x: &Array, weight: &Array, eps: f32) -> Result<Array> {
    let [normed] = add(&[x, weight], [Output::new(x.shape())], norm_kernel, eps)?;
    Ok(normed)
}

/// x + y, and its RMS norm as [`rms_norm`] gives it. Lazy.
pub fn add_rms_norm(x: &Array, y: &Array, weight: &Array, eps: f32) -> Result<[Array; 2]> {
    add(&[x, y, weight], [Output::new(x.shape()), Output::new(x.shape())], add_norm_kernel, eps)
}

/// One row.
struct Norm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    normed: &'a mut [f32],
}

impl Loop for Norm<'_> {
    #[inline(always)]
    fn run(self) {
        let scale = scale(self.x, self.eps);
        for ((normed, x), weight) in self.normed.iter_mut().zip(self.x).zip(self.weight) {
            *normed = x * scale * weight;
        }
    }
}

/// What a row is multiplied by: 1 / sqrt(mean(x²) + eps).
#[inline(always)]
pub fn scale(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum(x, |value| value * value) / x.len() as f32 + eps).sqrt()
}

struct AddNorm<'a> {
    x: &'a [f32],
    y: &'a [f32],
    sum: &'a mut [f32],
    norm: Norm<'a>,
}

impl Loop for AddNorm<'_> {
    #[inline(always)]
    fn run(self) {
        for ((sum, x), y) in self.sum.iter_mut().zip(self.x).zip(self.y) {
            *sum = x + y;
        }
        Norm { x: self.sum, ..self.norm }.run();
    }
}

unsafe extern "C" fn norm_kernel(inputs: *const View, outputs: *const View, block: *const u8) {
    // SAFETY: what `rms_norm` gave.
    unsafe {
        let (x, weight, normed) = (&*inputs, &*inputs.add(1), &*outputs);
        let (size, eps) = (weight.size(3), parameters(block));
        for row in 0..x.rows() {
            let (x, normed) = (x.read(x.row(row), size), normed.write(row * size, size));
            vectorised(Norm { x, weight: weight.read(0, size), eps, normed });
        }
    }
}

unsafe extern "C" fn add_norm_kernel(inputs: *const View, outputs: *const View, block: *const u8) {
    // SAFETY: what `add_rms_norm` gave.
    unsafe {
        let (x, y, weight) = (&*inputs, &*inputs.add(1), &*inputs.add(2));
        let (sum, normed) = (&*outputs, &*outputs.add(1));
        let (size, eps) = (weight.size(3), parameters(block));
        for row in 0..x.rows() {
            let at = row * size;
            let norm = Norm { x: &[], weight: weight.read(0, size), eps, normed: normed.write(at, size) };
            let (x, y) = (x.read(x.row(row), size), y.read(y.row(row), size));
            vectorised(AddNorm { x, y, sum: sum.write(at, size), norm });
        }
    }
}
