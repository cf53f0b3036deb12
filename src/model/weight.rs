//! A weight matrix as products use it: as it is stored, or in the order in which our own products read it.

use super::matrix::Matrix;
#[cfg(target_os = "linux")]
use crate::fused::{self, cuda};
use crate::roofline::WeightFormat;
use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::ops::{addmm, dequantize, matmul, quantized_matmul};

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
}

impl Weight {
    /// In the form that products are fastest with here. Evaluated, so that the other form can go.
    pub fn prepared(self) -> Result<Weight> {
        #[cfg(target_os = "linux")]
        if let Weight::Stored(Matrix::Dense(weight)) = &self
            && fused::serves(weight)
            && crate::blas::wants_ours()
        {
            let (outputs, groups) = (weight.dim(0), fused::grouped::grouped(weight)?);
            groups.eval()?;
            // The other form would keep the place of the weights that follow, which should lie side by side.
            drop(self);
            mlx_rs::memory::clear_cache()?;
            return Ok(Weight::Grouped { groups, outputs });
        }
        Ok(self)
    }

    /// x Wᵀ and `epilogue` by our own kernel on an NVIDIA GPU; nothing where it does not serve them.
    #[cfg(target_os = "linux")]
    pub fn cuda_product(&self, x: &Array, epilogue: cuda::Epilogue) -> Result<Option<Array>> {
        let weights = match self {
            Weight::Stored(Matrix::Dense(weight)) => cuda::Weights { weight, quantized: None },
            Weight::Stored(Matrix::Quantized { weight, scales, biases, group_size, bits }) => {
                cuda::Weights { weight, quantized: Some((scales, biases, *group_size, *bits)) }
            }
            Weight::Grouped { .. } => return Ok(None),
        };
        cuda::product(x, weights, epilogue)
    }

    /// x Wᵀ (+ bias) over the last axis.
    pub fn product(&self, x: &Array, bias: Option<&Array>) -> Result<Array> {
        #[cfg(target_os = "linux")]
        if let Some(y) = self.cuda_product(x, bias.map_or(cuda::Epilogue::Plain, cuda::Epilogue::Bias))? {
            return Ok(y);
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
        }
    }

    pub fn quantized(&self, bits: i32, group_size: i32) -> Result<Weight> {
        Ok(Weight::Stored(self.stored()?.quantized(bits, group_size)?))
    }

    /// One matrix with the rows of all, or none where they are not stored alike.
    pub fn stacked(parts: &[&Weight]) -> Result<Option<Weight>> {
        let parts = parts.iter().map(|part| part.stored()).collect::<Result<Vec<_>>>()?;
        Ok(Matrix::stacked(&parts.iter().collect::<Vec<_>>())?.map(Weight::Stored))
    }

    /// The arrays it consists of.
    pub fn arrays(&self) -> Vec<&Array> {
        match self {
            Weight::Stored(matrix) => matrix.arrays(),
            #[cfg(target_os = "linux")]
            Weight::Grouped { groups, .. } => vec![groups],
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
        }
    }
}
