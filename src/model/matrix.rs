//! A weight matrix, dense or quantised, and the change from one to the other.

use anyhow::{Result, anyhow, bail};
use mlx_rs::ops::{concatenate, dequantize, quantize};
use mlx_rs::{Array, Dtype};
use std::str::FromStr;

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

/// How matrices are quantised: MLX's affine mode with so many bits a value and so many values a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantization {
    pub bits: i32,
    pub group_size: i32,
}

impl Quantization {
    pub const BITS: [i32; 6] = [2, 3, 4, 5, 6, 8];
    pub const GROUP_SIZES: [i32; 3] = [32, 64, 128];

    /// Refuses what MLX has no kernels for.
    pub fn new(bits: i32, group_size: i32) -> Result<Self> {
        if !Self::BITS.contains(&bits) {
            bail!("{bits} bits are not possible (2, 3, 4, 5, 6 and 8 are)");
        }
        if !Self::GROUP_SIZES.contains(&group_size) {
            bail!("groups of {group_size} are not possible (32, 64 and 128 are)");
        }
        Ok(Quantization { bits, group_size })
    }
}

impl FromStr for Quantization {
    type Err = anyhow::Error;

    /// `BITS` or `BITS:GROUP`; groups of 64 unless told.
    fn from_str(text: &str) -> Result<Self> {
        let (bits, group_size) = text.split_once(':').unwrap_or((text, "64"));
        let number =
            |part: &str| part.parse().map_err(|_| anyhow!("'{text}' is not BITS or BITS:GROUP, as in 4 or 8:32"));
        Quantization::new(number(bits)?, number(group_size)?)
    }
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
        let Quantization { bits, group_size } = Quantization::new(bits, group_size)?;
        let dense = self.dense(self.dtype())?;
        if dense.dim(-1) % group_size != 0 {
            return Ok(Matrix::Dense(dense));
        }
        let (weight, scales, biases) = quantize(&dense, group_size, bits)?;
        Ok(Matrix::Quantized { weight, scales, biases, group_size, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantisation_is_read_and_checked() {
        let parse = |text: &str| Quantization::from_str(text).map_err(|error| error.to_string());
        assert_eq!(parse("4"), Ok(Quantization { bits: 4, group_size: 64 }));
        assert_eq!(parse("8:32"), Ok(Quantization { bits: 8, group_size: 32 }));
        assert_eq!(parse("7").unwrap_err(), "7 bits are not possible (2, 3, 4, 5, 6 and 8 are)");
        assert_eq!(parse("4:16").unwrap_err(), "groups of 16 are not possible (32, 64 and 128 are)");
        for wrong in ["", "four", "4:", "4:32:1", "4.0"] {
            assert!(parse(wrong).unwrap_err().contains("not BITS or BITS:GROUP"));
        }
    }
}
