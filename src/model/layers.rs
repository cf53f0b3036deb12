//! The parts that every family is made of. Names equal the checkpoints' keys.

use super::config::{Config, RopeScaling};
use super::weight::Weight;
use super::weights::{Matrix, Tensors};
#[cfg(target_os = "linux")]
use crate::fused::{self, cuda};
use crate::roofline::WeightFormat;
use anyhow::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::{concatenate, sigmoid};
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype, fast};

/// What a layer reads: an array, or the norm of one that is yet to be computed, which some products do themselves.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    x: &'a Array,
    norm: Option<&'a RmsNorm>,
}

impl<'a> From<&'a Array> for Input<'a> {
    fn from(x: &'a Array) -> Self {
        Input { x, norm: None }
    }
}

impl Input<'_> {
    /// The array itself, or its norm by an operation of its own. Lazy.
    pub fn computed(&self) -> Result<Array> {
        self.norm.map_or_else(|| Ok(self.x.clone()), |norm| norm.forward(self.x))
    }
}

/// `y = x Wᵀ (+ bias)` over the last axis.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Weight,
    bias: Option<Array>,
}

impl Linear {
    /// Takes `{name}.weight` of shape `[outputs, inputs]` and, if `bias`, `{name}.bias`.
    pub fn take(weights: &mut dyn Tensors, name: &str, outputs: i32, inputs: i32, bias: bool) -> Result<Self> {
        let weight = Weight::Stored(weights.take_matrix(name, outputs, inputs)?);
        let bias = bias.then(|| weights.take(&format!("{name}.bias"), &[outputs])).transpose()?;
        Ok(Linear { weight, bias })
    }

    /// A layer of these weights, in the form that products are fastest with.
    pub fn new(weight: Matrix) -> Result<Self> {
        Linear { weight: Weight::Stored(weight), bias: None }.prepared()
    }

    /// The same with its weight in the form that products are fastest with.
    pub fn prepared(self) -> Result<Self> {
        Ok(Linear { weight: self.weight.prepared()?, bias: self.bias })
    }

    /// Bytes of weight and bias.
    pub fn nbytes(&self) -> u64 {
        self.weight.nbytes() + self.bias.as_ref().map_or(0, |bias| bias.nbytes() as u64)
    }

    pub fn forward<'a>(&self, input: impl Into<Input<'a>>) -> Result<Array> {
        let (Input { x, norm }, bias) = (input.into(), self.bias.as_ref());
        let Some(norm) = norm else { return self.weight.product(x, bias) };
        #[cfg(target_os = "linux")]
        {
            let epilogue = bias.map_or(cuda::Epilogue::Plain, cuda::Epilogue::Bias);
            if let Some(y) = self.weight.cuda_product(x, Some(norm.cuda()), epilogue)? {
                return Ok(y);
            }
        }
        self.weight.product(&norm.forward(x)?, bias)
    }

    /// `residual + forward(x)` as one operation; nothing where there is none for it.
    #[cfg(target_os = "linux")]
    fn fused_sum(&self, residual: &Array, x: &Array) -> Result<Option<Array>> {
        if self.bias.is_some() {
            Ok(None)
        } else {
            self.weight.cuda_product(x, None, cuda::Epilogue::Residual(residual))
        }
    }

    /// `residual + forward(x)`.
    pub fn forward_onto(&self, residual: &Array, x: &Array) -> Result<Array> {
        #[cfg(target_os = "linux")]
        if let Some(sum) = self.fused_sum(residual, x)? {
            return Ok(sum);
        }
        Ok(residual.add(self.forward(x)?)?)
    }

    /// `residual + forward(x)`, and the norm of that where it is computed along with it.
    pub fn forward_onto_normed(&self, residual: &Array, x: &Array, norm: &RmsNorm) -> Result<(Array, Option<Array>)> {
        #[cfg(target_os = "linux")]
        if let Some(sum) = self.fused_sum(residual, x)? {
            return Ok((sum, None));
        }
        let [sum, normed] = norm.forward_sum(residual, &self.forward(x)?)?;
        Ok((sum, Some(normed)))
    }

    /// The same layer with its weight quantised, for a drafter made of the target itself.
    pub fn quantized(&self, bits: i32, group_size: i32) -> Result<Self> {
        Ok(Linear { weight: self.weight.quantized(bits, group_size)?, bias: self.bias.clone() })
    }

    /// The layer with the outputs `ids` (`[n]`) alone, dense in `dtype`, in the form that products are fastest with.
    pub fn outputs(&self, ids: &Array, dtype: Dtype) -> Result<Self> {
        let rows = self.weight.rows(&ids.reshape(&[1, -1])?)?.squeeze_axes(&[0])?.as_dtype(dtype)?;
        rows.eval()?;
        let bias = self.bias.as_ref().map(|bias| bias.take_axis(ids, 0)?.as_dtype(dtype)).transpose()?;
        Linear { weight: Weight::Stored(Matrix::Dense(rows)), bias }.prepared()
    }

    /// How the weight is stored.
    pub fn format(&self) -> WeightFormat {
        self.weight.format()
    }
}

/// Linear layers on the same input, their outputs side by side: one product where the weights are of one kind.
#[derive(Debug, Clone)]
pub struct Stacked(Vec<Linear>);

impl Stacked {
    pub fn new(parts: Vec<Linear>) -> Result<Self> {
        let weights: Vec<&Weight> = parts.iter().map(|part| &part.weight).collect();
        let biases: Option<Vec<&Array>> = parts.iter().map(|part| part.bias.as_ref()).collect();
        let with_or_without = biases.is_some() || parts.iter().all(|part| part.bias.is_none());
        let joined = if with_or_without { Weight::stacked(&weights)? } else { None };
        let Some(weight) = joined else { return Ok(Stacked(parts)) };
        let bias = biases.map(|biases| concatenate(&biases, 0)).transpose()?;
        eval(&bias)?;
        // The parts would keep the place of the weights that follow, which should lie side by side.
        drop(parts);
        mlx_rs::memory::clear_cache()?;
        Ok(Stacked(vec![Linear { weight, bias }]))
    }

    /// silu(gate) · up of a stack of gate and up: `[.., inputs]` to `[.., outputs of one]`.
    pub fn swiglu<'a>(&self, input: impl Into<Input<'a>>) -> Result<Array> {
        let input = input.into();
        #[cfg(target_os = "linux")]
        if let [Linear { weight, bias: None }] = &self.0[..] {
            let fused =
                |Input { x, norm }: Input| weight.cuda_product(x, norm.map(RmsNorm::cuda), cuda::Epilogue::Swiglu);
            if let Some(y) = fused(input)? {
                return Ok(y);
            }
            if input.norm.is_some() {
                return self.swiglu(&input.computed()?);
            }
        }
        swiglu(&self.forward(input)?)
    }

    /// `[.., inputs]` to `[.., outputs of all]`.
    pub fn forward<'a>(&self, input: impl Into<Input<'a>>) -> Result<Array> {
        let input = input.into();
        match &self.0[..] {
            [joined] => joined.forward(input),
            parts => {
                let x = &input.computed()?;
                let parts = parts.iter().map(|part| part.forward(x)).collect::<Result<Vec<_>>>()?;
                Ok(concatenate(&parts, -1)?)
            }
        }
    }

    pub fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.0.iter_mut()
    }

    /// Bytes of all weights and biases.
    pub fn nbytes(&self) -> u64 {
        self.0.iter().map(Linear::nbytes).sum()
    }

    /// How the weights are stored; those of the first layer stand for all.
    pub fn format(&self) -> WeightFormat {
        self.0[0].format()
    }
}

/// silu(gate) · up, where `gate_up` (`[.., 2 · inner]`) holds the gate's outputs, then the other's.
pub fn swiglu(gate_up: &Array) -> Result<Array> {
    #[cfg(target_os = "linux")]
    if fused::serves(gate_up) {
        return fused::swiglu(gate_up);
    }
    let inner = gate_up.dim(-1) / 2;
    let gate = gate_up.try_index((.., .., ..inner))?;
    let gate = gate.multiply(sigmoid(&gate)?)?;
    Ok(gate.multiply(gate_up.try_index((.., .., inner..))?)?)
}

/// Token embeddings, `[vocab, hidden]`; also the head where the two are tied.
#[derive(Debug, Clone)]
pub struct Embedding {
    weight: Weight,
}

impl Embedding {
    pub fn take(weights: &mut dyn Tensors, name: &str, vocab: i32, hidden: i32) -> Result<Self> {
        Ok(Embedding { weight: Weight::Stored(weights.take_matrix(name, vocab, hidden)?) })
    }

    /// Rows of `ids`: `[batch, b]` to `[batch, b, hidden]`.
    pub fn forward(&self, ids: &Array) -> Result<Array> {
        self.weight.rows(ids)
    }

    /// The same in the form that the head's product is fastest with.
    pub fn prepared(self) -> Result<Self> {
        Ok(Embedding { weight: self.weight.prepared()? })
    }

    /// The head that shares this matrix.
    pub fn as_head(&self) -> Linear {
        Linear { weight: self.weight.clone(), bias: None }
    }

    pub fn quantized(&self, bits: i32, group_size: i32) -> Result<Self> {
        Ok(Embedding { weight: self.weight.quantized(bits, group_size)? })
    }
}

/// RMS norm over the last axis.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Array,
    eps: f32,
}

impl RmsNorm {
    pub fn take(weights: &mut dyn Tensors, name: &str, size: i32, eps: f32) -> Result<Self> {
        Ok(RmsNorm { weight: weights.take(&format!("{name}.weight"), &[size])?, eps })
    }

    pub fn forward(&self, x: &Array) -> Result<Array> {
        #[cfg(target_os = "linux")]
        if fused::serves(x) {
            return fused::rms_norm(x, &self.weight, self.eps);
        }
        Ok(fast::rms_norm(x, Some(&self.weight), self.eps)?)
    }

    /// x + y, and the norm of that.
    pub fn forward_sum(&self, x: &Array, y: &Array) -> Result<[Array; 2]> {
        #[cfg(target_os = "linux")]
        if fused::serves(x) {
            return fused::add_rms_norm(x, y, &self.weight, self.eps);
        }
        let sum = x.add(y)?;
        let normed = self.forward(&sum)?;
        Ok([sum, normed])
    }

    /// The norm of `x` as what a layer reads.
    pub fn of<'a>(&'a self, x: &'a Array) -> Input<'a> {
        Input { x, norm: Some(self) }
    }

    #[cfg(target_os = "linux")]
    fn cuda(&self) -> cuda::Norm<'_> {
        cuda::Norm { weight: &self.weight, eps: self.eps }
    }

    pub fn weight(&self) -> &Array {
        &self.weight
    }

    pub fn eps(&self) -> f32 {
        self.eps
    }

    /// The norm with its weight in another float type, so that it does not promote what passes through it.
    pub fn cast(&mut self, dtype: Dtype) -> Result<()> {
        if self.weight.dtype() != dtype {
            self.weight = self.weight.as_dtype(dtype)?;
        }
        Ok(())
    }
}

/// Rotary position embedding over the whole head, halves rotated (the hub's layout).
#[derive(Debug, Clone)]
pub struct Rope {
    head_dim: i32,
    theta: f32,
    scale: f32,
    /// Wavelengths over 2π, `[head_dim / 2]`, where the scaling is not uniform.
    periods: Option<Array>,
    frequencies: Vec<f32>,
    /// The same, `[1, head_dim / 2]`.
    #[cfg(target_os = "linux")]
    pub frequency_row: Array,
}

impl Rope {
    pub fn new(config: &Config) -> Self {
        let even = || (0..config.head_dim / 2).map(|i| config.rope_theta.powf(2.0 * i as f32 / config.head_dim as f32));
        let (scale, periods) = match &config.rope_scaling {
            RopeScaling::None => (1.0, None),
            RopeScaling::Linear { factor } => (1.0 / factor, None),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let stretch =
                    |period| llama3_period(period, *factor, *low_freq_factor, *high_freq_factor, *original_context);
                (1.0, Some(even().map(stretch).collect::<Vec<f32>>()))
            }
        };
        let frequencies: Vec<f32> = match &periods {
            Some(periods) => periods.iter().map(|period| 1.0 / period).collect(),
            None => even().map(|period| scale / period).collect(),
        };
        let periods = periods.map(|periods| Array::from_slice(&periods, &[config.head_dim / 2]));
        Rope {
            head_dim: config.head_dim,
            theta: config.rope_theta,
            scale,
            periods,
            #[cfg(target_os = "linux")]
            frequency_row: Array::from_slice(&frequencies, &[1, config.head_dim / 2]),
            frequencies,
        }
    }

    /// `x`: `[batch, heads, b, head_dim]`; its first token stands at `position`.
    pub fn forward(&self, x: &Array, position: i32) -> Result<Array> {
        let theta = self.periods.is_none().then_some(self.theta);
        Ok(fast::rope(x, self.head_dim, false, theta, self.scale, position, self.periods.as_ref())?)
    }

    /// Radians a position, `head_dim / 2` of them.
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }
}

/// The Llama 3.1 scaling of one rotary period, as `rope_scaling` of type `llama3` is defined in transformers:
/// periods that fit the original context `high_freq_factor` times or more stay; those that fit it fewer than
/// `low_freq_factor` times are stretched by `factor`; between the two the frequencies are interpolated.
fn llama3_period(period: f32, factor: f32, low: f32, high: f32, original_context: f32) -> f32 {
    let turns = original_context / (2.0 * std::f32::consts::PI * period);
    if turns >= high {
        period
    } else if turns <= low {
        period * factor
    } else {
        let smooth = (turns - low) / (high - low);
        1.0 / ((1.0 - smooth) / (factor * period) + smooth / period)
    }
}
