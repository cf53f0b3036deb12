//! A weight matrix, dense or quantised, and the change from one to the other.

use crate::scenario::Quantization;
use anyhow::{Result, anyhow};
use mlx_rs::ops::{concatenate, dequantize, quantize};
use mlx_rs::{Array, Dtype};

/// A weight matrix of shape `[out, in]`: `y = x Wᵀ`.
#[derive(Clone, Debug)]
pub enum Matrix {
    Dense(Array),
    /// MLX's affine quantisation: each group of `group_size` values of a row is `scale * q + bias`.
    Quantized {
        /// `[out, in * bits / 32]`, uint32.
        weight: Array,
        /// `[out, in / group_size]`.
        scales: Array,
        /// `[out, in / group_size]`.
        biases: Array,
        group_size: i32,
        bits: i32,
    },
}

impl Matrix {
    /// The type of the values, or of the scales.
    pub fn dtype(&self) -> Dtype {
        match self {
            Matrix::Dense(weight) => weight.dtype(),
            Matrix::Quantized { scales, .. } => scales.dtype(),
        }
    }

    /// Bytes that it occupies.
    pub fn nbytes(&self) -> usize {
        self.arrays().iter().map(|array| array.nbytes()).sum()
    }

    /// The arrays it consists of.
    pub fn arrays(&self) -> Vec<&Array> {
        match self {
            Matrix::Dense(weight) => vec![weight],
            Matrix::Quantized { weight, scales, biases, .. } => vec![weight, scales, biases],
        }
    }

    /// One matrix with the rows of all, or none where they are not stored alike.
    pub fn stacked(parts: &[&Matrix]) -> Result<Option<Matrix>> {
        let rows = |arrays: Vec<&Array>| concatenate(&arrays, 0);
        let alike = parts.windows(2).all(|pair| pair[0].kind() == pair[1].kind());
        match parts.first() {
            Some(Matrix::Dense(_)) if alike => {
                Ok(Some(Matrix::Dense(rows(parts.iter().map(|part| part.arrays()[0]).collect())?)))
            }
            Some(&&Matrix::Quantized { group_size, bits, .. }) if alike => {
                let column = |place: usize| rows(parts.iter().map(|part| part.arrays()[place]).collect());
                let (weight, scales, biases) = (column(0)?, column(1)?, column(2)?);
                Ok(Some(Matrix::Quantized { weight, scales, biases, group_size, bits }))
            }
            _ => Ok(None),
        }
    }

    /// What matrices must have in common to be stacked.
    fn kind(&self) -> (Dtype, Option<(i32, i32)>) {
        match self {
            Matrix::Dense(weight) => (weight.dtype(), None),
            Matrix::Quantized { scales, group_size, bits, .. } => (scales.dtype(), Some((*group_size, *bits))),
        }
    }

    /// Dense in `dtype`. A quantised matrix is computed in float32 and rounded once.
    pub fn dense(&self, dtype: Dtype) -> Result<Array> {
        match self {
            Matrix::Dense(weight) => Ok(weight.as_dtype(dtype)?),
            Matrix::Quantized { weight, scales, biases, group_size, bits } => {
                let (scales, biases) = (scales.as_dtype(Dtype::Float32)?, biases.as_dtype(Dtype::Float32)?);
                Ok(dequantize(weight, scales, &biases, *group_size, *bits)?.as_dtype(dtype)?)
            }
        }
    }

    /// Quantised as mlx-lm's `convert` does it: with scales of the matrix's own type, and left dense where a row is
    /// not whole groups.
    pub fn quantized(&self, bits: i32, group_size: i32) -> Result<Matrix> {
        let Quantization { bits, group_size } = Quantization::new(bits, group_size).map_err(|error| anyhow!(error))?;
        let dense = self.dense(self.dtype())?;
        if dense.dim(-1) % group_size != 0 {
            return Ok(Matrix::Dense(dense));
        }
        let (weight, scales, biases) = quantize(&dense, group_size, bits)?;
        Ok(Matrix::Quantized { weight, scales, biases, group_size, bits })
    }
}
