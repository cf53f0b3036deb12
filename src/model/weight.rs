//! A weight matrix as products use it: as it is stored, or in the order in which our own products read it.

use super::matrix::Matrix;
#[cfg(target_os = "linux")]
use crate::fused::{self, bytes::Bytes, cuda};
use crate::roofline::WeightFormat;
use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::ops::{addmm, dequantize, matmul, quantized_matmul};
use mlx_rs::transforms::eval;

/// A weight matrix of shape `[out, in]`: `y = x Wᵀ`.
#[derive(Debug, Clone)]
pub enum Weight {
    Stored(Matrix),
    /// Float32 in groups of outputs, for our products on the CPU.
    #[cfg(target_os = "linux")]
    Grouped {
        /// `[ceil(out / 48), in, 48]`.
        groups: Array,
        outputs: i32,
    },
    /// 8 bits in groups of outputs, for our products on the CPU.
    #[cfg(target_os = "linux")]
    Bytes(Bytes),
}

impl Weight {
    /// In the form that products are fastest with here. Evaluated, so that the other form can go.
    pub fn prepared(self) -> Result<Weight> {
        #[cfg(target_os = "linux")]
        if let Some(weight) = Weight::grouped(&[&self])? {
            // The other form would keep the place of the weights that follow, which should lie side by side.
            drop(self);
            mlx_rs::memory::clear_cache()?;
            return Ok(weight);
        }
        #[cfg(target_os = "linux")]
        if let Weight::Stored(Matrix::Quantized { weight, scales, biases, bits: 8, .. }) = &self
            && fused::serves(scales)
            && crate::blas::wants_ours()
        {
            let bytes = Bytes::new(weight, scales, biases)?;
            eval(bytes.arrays())?;
            return Ok(Weight::Bytes(bytes));
        }
        Ok(self)
    }

    /// The outputs of all in groups for our products on the CPU; nothing where they do not serve them. Evaluated.
    #[cfg(target_os = "linux")]
    fn grouped(parts: &[&Weight]) -> Result<Option<Weight>> {
        let dense = |part: &&Weight| match part {
            Weight::Stored(Matrix::Dense(weight)) if fused::serves(weight) => Some(weight.clone()),
            _ => None,
        };
        let Some(dense) = parts.iter().map(dense).collect::<Option<Vec<_>>>().filter(|_| crate::blas::wants_ours())
        else {
            return Ok(None);
        };
        let groups = fused::grouped::grouped(&dense.iter().collect::<Vec<_>>())?;
        groups.eval()?;
        Ok(Some(Weight::Grouped { groups, outputs: dense.iter().map(|part| part.dim(0)).sum() }))
    }

    #[cfg(target_os = "linux")]
    fn cuda_weights(&self) -> Option<cuda::Weights<'_>> {
        match self {
            Weight::Stored(Matrix::Dense(weight)) => Some(cuda::Weights { weight, quantized: None }),
            Weight::Stored(Matrix::Quantized { weight, scales, biases, group_size, bits }) => {
                Some(cuda::Weights { weight, quantized: Some((scales, biases, *group_size, *bits)) })
            }
            Weight::Grouped { .. } | Weight::Bytes(_) => None,
        }
    }

    /// x Wᵀ, or the norm of x in its place, and `epilogue` by our own kernel on an NVIDIA GPU; nothing where it does not serve
    /// them.
    #[cfg(target_os = "linux")]
    pub fn cuda_product(&self, x: &Array, norm: Option<cuda::Norm>, epilogue: cuda::Epilogue) -> Result<Option<Array>> {
        let rows = rows_of(x);
        match self.cuda_weights() {
            Some(weights) if weights.wins(rows) && norm.is_none_or(|norm| norm.wins(rows)) => {
                cuda::product(x, norm, weights, epilogue)
            }
            _ => Ok(None),
        }
    }

    /// Quantised weights as 16-bit ones, where a product with `x` on an NVIDIA GPU is the faster for it.
    #[cfg(target_os = "linux")]
    fn cuda_unpacked(&self, x: &Array) -> Result<Option<Weight>> {
        match self.cuda_weights() {
            Some(weights) if !weights.wins(rows_of(x)) => {
                Ok(cuda::unpacked(weights)?.map(|dense| Weight::Stored(Matrix::Dense(dense))))
            }
            _ => Ok(None),
        }
    }

    /// x Wᵀ (+ bias) over the last axis.
    pub fn product(&self, x: &Array, bias: Option<&Array>) -> Result<Array> {
        #[cfg(target_os = "linux")]
        if let Some(y) = self.cuda_product(x, None, bias.map_or(cuda::Epilogue::Plain, cuda::Epilogue::Bias))? {
            return Ok(y);
        }
        #[cfg(target_os = "linux")]
        if let Some(dense) = self.cuda_unpacked(x)? {
            return dense.product(x, bias);
        }
        #[cfg(target_os = "linux")]
        if let Weight::Stored(Matrix::Dense(weight)) = self
            && fused::serves(x)
            && fused::serves(weight)
        {
            return fused::linear(x, weight, bias);
        }
        match (self, bias) {
            #[cfg(target_os = "linux")]
            (Weight::Grouped { groups, outputs }, bias) => fused::grouped::linear(x, groups, *outputs, bias),
            #[cfg(target_os = "linux")]
            (Weight::Bytes(bytes), bias) => bytes.linear(x, bias),
            (Weight::Stored(Matrix::Dense(weight)), None) => Ok(matmul(x, weight.t())?),
            (Weight::Stored(Matrix::Dense(weight)), Some(bias)) => Ok(addmm(bias, x, weight.t(), None, None)?),
            (Weight::Stored(Matrix::Quantized { weight, scales, biases, group_size, bits }), bias) => {
                let y = quantized_matmul(x, weight, scales, biases, true, *group_size, *bits)?;
                Ok(match bias {
                    Some(bias) => y.add(bias)?,
                    None => y,
                })
            }
        }
    }

    /// Rows of `ids`: `[batch, b]` to `[batch, b, in]`.
    pub fn rows(&self, ids: &Array) -> Result<Array> {
        match self {
            #[cfg(target_os = "linux")]
            Weight::Grouped { groups, .. } => fused::grouped::rows(groups, ids),
            #[cfg(target_os = "linux")]
            Weight::Bytes(bytes) => bytes.rows(ids),
            Weight::Stored(Matrix::Dense(weight)) => Ok(weight.take_axis(ids, 0)?),
            Weight::Stored(Matrix::Quantized { weight, scales, biases, group_size, bits }) => {
                let (weight, scales) = (weight.take_axis(ids, 0)?, scales.take_axis(ids, 0)?);
                let biases = biases.take_axis(ids, 0)?;
                Ok(dequantize(weight, scales, &biases, *group_size, *bits)?)
            }
        }
    }

    /// As it would be stored.
    fn stored(&self) -> Result<Matrix> {
        match self {
            Weight::Stored(matrix) => Ok(matrix.clone()),
            #[cfg(target_os = "linux")]
            Weight::Grouped { groups, outputs } => Ok(Matrix::Dense(fused::grouped::ungrouped(groups, *outputs)?)),
            #[cfg(target_os = "linux")]
            Weight::Bytes(bytes) => {
                let ([weight, scales, biases], group_size) = (bytes.stored()?, bytes.block());
                Ok(Matrix::Quantized { weight, scales, biases, group_size, bits: 8 })
            }
        }
    }

    pub fn quantized(&self, bits: i32, group_size: i32) -> Result<Weight> {
        Weight::Stored(self.stored()?.quantized(bits, group_size)?).prepared()
    }

    /// One matrix with the rows of all in the form that products are fastest with, or none where they are not stored alike.
    /// Evaluated, so that the parts can go.
    pub fn stacked(parts: &[&Weight]) -> Result<Option<Weight>> {
        #[cfg(target_os = "linux")]
        if let Some(weight) = Weight::grouped(parts)? {
            return Ok(Some(weight));
        }
        let parts = parts.iter().map(|part| part.stored()).collect::<Result<Vec<_>>>()?;
        let Some(stacked) = Matrix::stacked(&parts.iter().collect::<Vec<_>>())? else { return Ok(None) };
        eval(stacked.arrays())?;
        Ok(Some(Weight::Stored(stacked).prepared()?))
    }

    /// The arrays it consists of.
    pub fn arrays(&self) -> Vec<&Array> {
        match self {
            Weight::Stored(matrix) => matrix.arrays(),
            #[cfg(target_os = "linux")]
            Weight::Grouped { groups, .. } => vec![groups],
            #[cfg(target_os = "linux")]
            Weight::Bytes(bytes) => bytes.arrays().to_vec(),
        }
    }

    /// Bytes that it occupies.
    pub fn nbytes(&self) -> u64 {
        self.arrays().iter().map(|array| array.nbytes() as u64).sum()
    }

    /// How the values are stored, whatever their order.
    pub fn format(&self) -> WeightFormat {
        match self {
            Weight::Stored(Matrix::Dense(weight)) => WeightFormat::Float { bytes: weight.item_size() as u64 },
            Weight::Stored(Matrix::Quantized { scales, bits, group_size, .. }) => WeightFormat::Affine {
                bits: *bits as u64,
                group_size: *group_size as u64,
                scale_bytes: scales.item_size() as u64,
            },
            #[cfg(target_os = "linux")]
            Weight::Grouped { groups, .. } => WeightFormat::Float { bytes: groups.item_size() as u64 },
            #[cfg(target_os = "linux")]
            Weight::Bytes(bytes) => {
                WeightFormat::Affine { bits: 8, group_size: bytes.block() as u64, scale_bytes: size_of::<f32>() as u64 }
            }
        }
    }
}

/// Vectors that `x` (`[.., in]`) holds.
#[cfg(target_os = "linux")]
fn rows_of(x: &Array) -> i32 {
    x.shape().iter().rev().skip(1).product()
}
