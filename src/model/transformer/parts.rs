//! A decoder taken apart, to time what a step is made of: a model without one of its parts, and one part of all layers
//! alone. What comes out means nothing; only its time does.

use super::{Block, Place, Transformer};
use crate::model::cache::KvCache;
use crate::model::layers::swiglu;
use anyhow::{Result, bail};
use mlx_rs::Array;
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::transforms::eval;
use std::fmt;

/// What can be left out of a decoder, or run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Query, key, value and output products.
    AttentionProducts,
    /// Gate, up and down products.
    MlpProducts,
    /// All RMS norms inside the layers.
    Norms,
    /// Rotary embedding.
    Rope,
    /// Scores, softmax and weighted sums over the cache, and the cache's update; with rotary embedding and head norms.
    Attention,
    /// The gated MLP: its products and its activation.
    Mlp,
    /// silu(gate) · up.
    Activation,
    /// The output head.
    Head,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::AttentionProducts => "attention products",
            Part::MlpProducts => "MLP products",
            Part::Norms => "norms",
            Part::Rope => "rotary embedding",
            Part::Attention => "attention over the cache",
            Part::Mlp => "MLP",
            Part::Activation => "activation",
            Part::Head => "head",
        })
    }
}

/// When the outputs of a part's operations are evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evaluate {
    /// Each before the next is made.
    Each,
    /// All at the end.
    Once,
}

impl Transformer {
    /// The same model without one of its parts, which is replaced by what it was given: rotary embedding, norms, MLP, or
    /// attention over the cache. What stays depends on nothing that was left out, and everything that stays is needed for
    /// the logits, so that none of it can be left uncomputed.
    pub fn without(&self, part: Part) -> Result<Transformer> {
        #[cfg(target_os = "linux")]
        let fused = {
            let h = self.embed_tokens.forward(&Array::from_slice(&[0u32], &[1, 1]))?.as_dtype(self.dtype)?;
            crate::fused::serves(&h) || crate::fused::cuda::serves(&h)
        };
        #[cfg(not(target_os = "linux"))]
        let fused = false;
        match part {
            Part::Rope if fused => {
                bail!("rotary embedding is a part of the fused attention here and cannot be left out alone")
            }
            Part::Rope | Part::Norms | Part::Mlp | Part::Attention => {}
            _ => bail!("nothing can stand in the place of the {part}"),
        }
        Ok(Transformer { without: Some(part), ..self.clone() })
    }

    /// The input of [`Transformer::run_part`]: `[1, 1, n]`, small numbers.
    pub fn part_input(&self, part: Part) -> Result<Array> {
        let config = &self.config;
        let size = match part {
            Part::Attention => (config.num_heads + 2 * config.num_kv_heads) * config.head_dim,
            Part::Activation => 2 * config.intermediate_size,
            _ => config.hidden_size,
        };
        let values: Vec<f32> = (0..size).map(|place| ((place * 37) % 101) as f32 / 101.0 - 0.5).collect();
        Ok(Array::from_slice(&values, &[1, 1, size]).as_dtype(self.dtype())?)
    }

    /// Runs one part of all layers alone on `x`, each layer on what the layer before gave (as far as sizes allow: see the
    /// cases), and gives the last output. Attention reads and writes `cache`. Lazy with [`Evaluate::Once`].
    pub fn run_part(&self, part: Part, x: &Array, cache: &mut KvCache, evaluate: Evaluate) -> Result<Array> {
        let mut x = x.clone();
        let done = |array: Array| -> Result<Array> {
            if evaluate == Evaluate::Each {
                eval([&array])?;
            }
            Ok(array)
        };
        let heads = self.config.num_heads * self.config.head_dim;
        let (inner, position) = (self.config.intermediate_size, cache.len());
        if part == Part::Head {
            return done(self.lm_head.forward(&x)?);
        }
        #[cfg(target_os = "linux")]
        let rotation = crate::fused::serves(&x).then(|| self.rotation(position, 1));
        #[cfg(target_os = "linux")]
        let cuda = self.cuda_position(&x, position, position)?;
        let place = Place {
            position,
            mask: None,
            without: None,
            #[cfg(target_os = "linux")]
            rotation: rotation.as_ref(),
            #[cfg(target_os = "linux")]
            cuda: cuda.as_ref(),
        };
        for (index, Block { input_layernorm, self_attn, post_attention_layernorm, mlp }) in
            self.layers.iter().enumerate()
        {
            x = match part {
                Part::AttentionProducts => {
                    let qkv = done(self_attn.qkv_proj.forward(&x)?)?;
                    done(self_attn.o_proj.forward(&qkv.try_index((.., .., ..heads))?)?)?
                }
                Part::MlpProducts => {
                    let gate_up = done(mlp.gate_up_proj.forward(&x)?)?;
                    done(mlp.down_proj.forward(&gate_up.try_index((.., .., ..inner))?)?)?
                }
                Part::Norms => {
                    let normed = done(input_layernorm.forward(&x)?)?;
                    done(post_attention_layernorm.forward(&normed)?)?
                }
                // Its output is smaller than its input: the next layer's is made of it and the rest of this one's.
                Part::Attention => {
                    let y = done(self_attn.attend(&x, index, cache, place)?)?;
                    concatenate(&[&y, &x.try_index((.., .., heads..))?], -1)?
                }
                Part::Activation => {
                    let y = done(swiglu(&x)?)?;
                    concatenate(&[&y, &y], -1)?
                }
                _ => bail!("the {part} cannot be run alone"),
            };
        }
        if part == Part::Attention {
            cache.advance(1);
        }
        Ok(x)
    }

    /// Bytes of the arrays that one step reads of the weights: all but an input embedding that is no head as well.
    pub fn weight_nbytes(&self) -> u64 {
        let mut bytes = self.lm_head.nbytes() + self.norm.weight().nbytes() as u64;
        for layer in &self.layers {
            let head_norms = layer.self_attn.head_norms.iter().flat_map(|(q, k)| [q, k]);
            let norms = head_norms.chain([&layer.input_layernorm, &layer.post_attention_layernorm]);
            bytes += layer.product_bytes() + norms.map(|norm| norm.weight().nbytes() as u64).sum::<u64>();
        }
        bytes
    }

    /// Builds one forward of a token behind what `cache` holds without evaluating it; nothing is stored.
    pub fn build_only(&self, token: &Array, cache: &mut KvCache) -> Result<Array> {
        let held = cache.len();
        let logits = self.forward_pipelined(token, cache)?;
        cache.truncate(held);
        Ok(logits)
    }
}
