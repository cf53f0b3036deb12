//! A decoder as a function of its weights that MLX can differentiate: no cache, no fused operations of our own (they have
//! no gradients), every array an input. The target runs through the same function, without a gradient.
//!
//! MLX has gradients of `rms_norm`, `rope` and causal `scaled_dot_product_attention` on its CPU, CUDA and Metal backends;
//! SiLU is composed here. So nothing had to be formulated anew but attention in a rollout (see [`super::rollout`]).

use crate::model::config::Config;
use crate::model::layers::Rope;
use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};
use mlx_rs::fast::{self, ScaledDotProductAttentionMask, scaled_dot_product_attention};
use mlx_rs::ops::sigmoid;
use std::collections::HashMap;

/// The feature-conditioned drafter's own matrix, `[hidden, 2 * hidden]`.
pub const FC: &str = "fc.weight";
/// The norm before the head.
pub const NORM: &str = "model.norm.weight";

/// A tensor by its name on the hub, for example `model.layers.0.mlp.up_proj.weight`, and its shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<i32>,
}

/// The shape of a decoder and the order of its weights. Embedding and head are not among them.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub config: Config,
    pub tensors: Vec<Tensor>,
    places: HashMap<String, usize>,
    rope: Rope,
}

/// Queries, keys and values of one layer, `[batch, heads, b, head_dim]`, with rotary positions.
#[derive(Debug, Clone)]
pub struct Heads {
    pub queries: Array,
    pub keys: Array,
    pub values: Array,
}

impl Decoder {
    /// `config.num_layers` layers and the last norm; with `features` also [`FC`].
    pub fn new(config: Config, features: bool) -> Self {
        let mut tensors = Vec::new();
        let mut add = |name: String, shape: &[i32]| tensors.push(Tensor { name, shape: shape.to_vec() });
        let (hidden, inner, head_dim) = (config.hidden_size, config.intermediate_size, config.head_dim);
        let (queries, keys) = (config.num_heads * head_dim, config.num_kv_heads * head_dim);
        if features {
            add(FC.into(), &[hidden, 2 * hidden]);
        }
        for layer in 0..config.num_layers {
            let mut linear = |part: &str, outputs: i32, inputs: i32, bias: bool| {
                add(format!("model.layers.{layer}.{part}.weight"), &[outputs, inputs]);
                if bias {
                    add(format!("model.layers.{layer}.{part}.bias"), &[outputs]);
                }
            };
            linear("self_attn.q_proj", queries, hidden, config.qkv_bias);
            linear("self_attn.k_proj", keys, hidden, config.qkv_bias);
            linear("self_attn.v_proj", keys, hidden, config.qkv_bias);
            linear("self_attn.o_proj", hidden, queries, config.output_bias);
            linear("mlp.gate_proj", inner, hidden, config.mlp_bias);
            linear("mlp.up_proj", inner, hidden, config.mlp_bias);
            linear("mlp.down_proj", hidden, inner, config.mlp_bias);
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                add(format!("model.layers.{layer}.{norm}.weight"), &[hidden]);
            }
            if config.qk_norm {
                for norm in ["self_attn.q_norm", "self_attn.k_norm"] {
                    add(format!("model.layers.{layer}.{norm}.weight"), &[head_dim]);
                }
            }
        }
        add(NORM.into(), &[hidden]);
        let places = tensors.iter().enumerate().map(|(place, tensor)| (tensor.name.clone(), place)).collect();
        Decoder { rope: Rope::new(&config), config, tensors, places }
    }

    /// The decoder with `weights`, as many as [`Decoder::tensors`] and in their order.
    pub fn with<'a>(&'a self, weights: &'a [Array]) -> Weighted<'a> {
        Weighted { decoder: self, weights }
    }
}

/// A decoder and its weights, all of one float type.
#[derive(Debug, Clone, Copy)]
pub struct Weighted<'a> {
    decoder: &'a Decoder,
    weights: &'a [Array],
}

impl Weighted<'_> {
    /// What the head reads: the last layer's output after the norm. `x`: embedded tokens, `[batch, b, hidden]`, the first
    /// at position 0.
    pub fn hidden(&self, x: &Array) -> Result<Array> {
        let mut x = x.clone();
        for layer in 0..self.decoder.config.num_layers {
            let heads = self.heads(layer, &x)?;
            let mask = Some(ScaledDotProductAttentionMask::Causal);
            let y = scaled_dot_product_attention(&heads.queries, &heads.keys, &heads.values, self.scale(), mask, None)?;
            x = self.after_attention(layer, &x, &y)?;
        }
        self.norm(NORM, &x)
    }

    /// The input of a feature-conditioned drafter: `embedded` tokens and the hidden states `features` of the positions
    /// before them, both `[batch, b, hidden]`.
    pub fn conditioned(&self, embedded: &Array, features: &Array) -> Result<Array> {
        let both = mlx_rs::ops::concatenate(&[embedded, features], -1)?;
        both.matmul(self.get(FC)?.t())
    }

    /// Queries, keys and values of a layer with input `x`.
    pub fn heads(&self, layer: i32, x: &Array) -> Result<Heads> {
        let config = &self.decoder.config;
        let x = self.norm(&format!("model.layers.{layer}.input_layernorm.weight"), x)?;
        let split = |part: &str, count: i32| -> Result<Array> {
            let y = self.linear(&format!("model.layers.{layer}.self_attn.{part}_proj"), &x)?;
            y.reshape(&[x.dim(0), x.dim(1), count, config.head_dim])
        };
        let positioned = |part: &str, count: i32| -> Result<Array> {
            let mut y = split(part, count)?;
            if config.qk_norm {
                y = self.norm(&format!("model.layers.{layer}.self_attn.{part}_norm.weight"), &y)?;
            }
            let y = y.transpose_axes(&[0, 2, 1, 3])?;
            self.decoder.rope.forward(&y, 0).map_err(|error| Exception::custom(error.to_string()))
        };
        Ok(Heads {
            queries: positioned("q", config.num_heads)?,
            keys: positioned("k", config.num_kv_heads)?,
            values: split("v", config.num_kv_heads)?.transpose_axes(&[0, 2, 1, 3])?,
        })
    }

    /// The rest of a layer with input `x` after its attention gave `y`, `[batch, heads, b, head_dim]`.
    pub fn after_attention(&self, layer: i32, x: &Array, y: &Array) -> Result<Array> {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let y = y.transpose_axes(&[0, 2, 1, 3])?.reshape(&[x.dim(0), x.dim(1), -1])?;
        let x = x.add(self.linear(&name("self_attn.o_proj"), &y)?)?;
        let y = self.norm(&name("post_attention_layernorm.weight"), &x)?;
        let gate = self.linear(&name("mlp.gate_proj"), &y)?;
        let inner = gate.multiply(sigmoid(&gate)?)?.multiply(self.linear(&name("mlp.up_proj"), &y)?)?;
        x.add(self.linear(&name("mlp.down_proj"), &inner)?)
    }

    /// The factor of attention scores.
    pub fn scale(&self) -> f32 {
        (self.decoder.config.head_dim as f32).powf(-0.5)
    }

    /// RMS norm by the tensor `name`.
    pub fn norm(&self, name: &str, x: &Array) -> Result<Array> {
        fast::rms_norm(x, Some(self.get(name)?), self.decoder.config.rms_norm_eps)
    }

    fn linear(&self, name: &str, x: &Array) -> Result<Array> {
        let y = x.matmul(self.get(&format!("{name}.weight"))?.t())?;
        match self.decoder.places.get(&format!("{name}.bias")) {
            Some(&place) => y.add(&self.weights[place]),
            None => Ok(y),
        }
    }

    fn get(&self, name: &str) -> Result<&Array> {
        let place = self.decoder.places.get(name);
        place.map(|&place| &self.weights[place]).ok_or_else(|| Exception::custom(format!("no tensor '{name}'")))
    }
}
