//! Random weights in the exact shapes of a model, at any precision, made on the device. For timing: no step is faster or
//! slower because a weight has another value. What such a model says, and so what it would accept, means nothing.

use super::matrix::Matrix;
use super::weights::{LoadOptions, Tensors};
use crate::roofline::WeightFormat;
use crate::scenario::Quantization;
use anyhow::Result;
use mlx_rs::memory::clear_cache;
use mlx_rs::ops::{multiply, ones_dtype, zeros_dtype};
use mlx_rs::random::{self, RandomState};
use mlx_rs::{Array, Dtype, transforms};

/// Makes every tensor that it is asked for.
pub struct Synthetic {
    dtype: Dtype,
    quantize: Option<Quantization>,
    random: RandomState,
    /// Where the weights lie; see [`crate::blas::pages`].
    #[cfg(target_os = "linux")]
    _heap: crate::blas::pages::LoadingHeap,
}

impl Synthetic {
    /// Weights in `options.dtype` (float32 if not given), matrices quantised if it says so, that take `bytes` at most while they
    /// are made.
    pub fn new(options: &LoadOptions, seed: u64, bytes: u64) -> Result<Self> {
        Ok(Synthetic {
            dtype: options.dtype.unwrap_or(Dtype::Float32),
            quantize: options.quantize,
            random: RandomState::with_seed(seed)?,
            #[cfg(target_os = "linux")]
            _heap: crate::blas::pages::LoadingHeap::grow(bytes as usize),
        })
    }

    /// Uniform in ±`limit`.
    fn uniform(&mut self, shape: &[i32], limit: f32) -> Result<Array> {
        let key = self.random.next_key()?;
        let values = random::uniform::<_, f32>(-limit, limit, shape, &key)?;
        Ok(values.as_dtype(self.dtype)?)
    }
}

/// Bytes of so many weights.
pub fn bytes(options: &LoadOptions, weights: u64) -> u64 {
    let float = WeightFormat::Float { bytes: if matches!(options.dtype, None | Some(Dtype::Float32)) { 4 } else { 2 } };
    let format = options.quantize.map_or(float, |Quantization { bits, group_size }| WeightFormat::Affine {
        bits: bits as u64,
        group_size: group_size as u64,
        scale_bytes: float.bytes(1),
    });
    format.bytes(weights)
}

/// The limit of a uniform distribution with which a product keeps the size of what it is applied to: variance 1/inputs.
fn limit(inputs: i32) -> f32 {
    (3.0 / inputs as f32).sqrt()
}

impl Tensors for Synthetic {
    /// Ones for a norm, zeros for a bias.
    fn take(&mut self, name: &str, shape: &[i32]) -> Result<Array> {
        let array =
            if name.ends_with(".bias") { zeros_dtype(shape, self.dtype)? } else { ones_dtype(shape, self.dtype)? };
        array.eval()?;
        Ok(array)
    }

    fn take_matrix(&mut self, _module: &str, outputs: i32, inputs: i32) -> Result<Matrix> {
        let matrix = match self.quantize.filter(|quantize| inputs % quantize.group_size == 0) {
            None => Matrix::Dense(self.uniform(&[outputs, inputs], limit(inputs))?),
            Some(Quantization { bits, group_size }) => {
                // 16 bits at a time: a float32 holds them all.
                let key = self.random.next_key()?;
                let halves = random::randint::<_, u16>(0, 1 << 16, &[outputs, inputs / 32 * bits * 2], &key)?;
                let weight = halves.view::<u32>()?;
                // 0 and 2^bits - 1 stand for the limits of the distribution that is quantised; groups differ a little.
                let biases = self.uniform(&[outputs, inputs / group_size], 0.01 * limit(inputs))?;
                let biases = biases.subtract(Array::from_f32(limit(inputs)).as_dtype(self.dtype)?)?;
                let steps = Array::from_f32(-2.0 / ((1 << bits) - 1) as f32).as_dtype(self.dtype)?;
                let scales = multiply(&biases, &steps)?;
                Matrix::Quantized { weight, scales, biases, group_size, bits }
            }
        };
        transforms::eval(matrix.arrays())?;
        // What it was made with is as large as it, and would take the place of the weights that follow.
        clear_cache()?;
        Ok(matrix)
    }
}
