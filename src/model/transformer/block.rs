//! One layer: attention and gated MLP, each behind a norm.

use super::parts::Part;
#[cfg(target_os = "linux")]
use crate::fused::{self, cuda};
use crate::model::cache::KvCache;
use crate::model::config::Config;
use crate::model::layers::{Input, Linear, RmsNorm, Rope, Stacked};
use crate::model::weights::Tensors;
use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::fast::{ScaledDotProductAttentionMask, scaled_dot_product_attention};
use mlx_rs::ops::indexing::TryIndexOp;

/// Where the tokens of a forward stand and what they attend to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Rotary position of the first token; the others follow.
    pub(super) position: i32,
    /// `[b, len + b]` bool over what the cache holds and the tokens themselves; causal if there is none.
    pub(super) mask: Option<&'a Array>,
    /// What is left out, to time the rest.
    pub(super) without: Option<Part>,
    /// Where attention is fused: the rotary angles of the tokens.
    #[cfg(target_os = "linux")]
    pub(super) rotation: Option<&'a fused::Rotation>,
    /// The same for our kernels on a GPU.
    #[cfg(target_os = "linux")]
    pub(super) cuda: Option<&'a cuda::Position>,
}

#[derive(Debug, Clone)]
pub(super) struct Attention {
    /// `q_proj`, `k_proj`, `v_proj`
    pub(super) qkv_proj: Stacked,
    pub(super) o_proj: Linear,
    /// `(q_norm, k_norm)` of the families that have them.
    pub(super) head_norms: Option<(RmsNorm, RmsNorm)>,
    pub(super) rope: Rope,
    pub(super) num_heads: i32,
    pub(super) num_kv_heads: i32,
    pub(super) head_dim: i32,
}

impl Attention {
    pub(super) fn take(weights: &mut dyn Tensors, name: &str, config: &Config, rope: &Rope) -> Result<Self> {
        let (hidden, heads, kv) =
            (config.hidden_size, config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim);
        let mut linear =
            |part: &str, outputs, inputs, bias| Linear::take(weights, &format!("{name}.{part}"), outputs, inputs, bias);
        let q_proj = linear("q_proj", heads, hidden, config.qkv_bias)?;
        let k_proj = linear("k_proj", kv, hidden, config.qkv_bias)?;
        let v_proj = linear("v_proj", kv, hidden, config.qkv_bias)?;
        let o_proj = linear("o_proj", hidden, heads, config.output_bias)?.prepared()?;
        let mut norm =
            |part: &str| RmsNorm::take(weights, &format!("{name}.{part}"), config.head_dim, config.rms_norm_eps);
        let head_norms = if config.qk_norm { Some((norm("q_norm")?, norm("k_norm")?)) } else { None };
        let (num_heads, num_kv_heads, head_dim) = (config.num_heads, config.num_kv_heads, config.head_dim);
        let qkv_proj = Stacked::new(vec![q_proj, k_proj, v_proj])?;
        let rope = rope.clone();
        Ok(Attention { qkv_proj, o_proj, head_norms, rope, num_heads, num_kv_heads, head_dim })
    }

    /// `x`: `[batch, b, hidden]`. Gives what `o_proj` is applied to.
    pub(super) fn forward(&self, x: Input, index: usize, cache: &mut KvCache, place: Place) -> Result<Array> {
        let qkv = self.qkv_proj.forward(x)?;
        if place.without == Some(Part::Attention) {
            return Ok(qkv.try_index((.., .., ..self.num_heads * self.head_dim))?);
        }
        self.attend(&qkv, index, cache, place)
    }

    /// `qkv`, what the products gave (`[batch, b, queries, keys and values]`), to `[batch, b, queries]`.
    pub(super) fn attend(&self, qkv: &Array, index: usize, cache: &mut KvCache, place: Place) -> Result<Array> {
        #[cfg(target_os = "linux")]
        if let Some(rotation) = place.rotation {
            return self.fused(qkv, index, cache, place, rotation);
        }
        #[cfg(target_os = "linux")]
        if let Some(position) = place.cuda
            && self.cuda_heads().serve(qkv, cache.len(), place.mask.is_some())
        {
            return self.cuda(qkv, index, cache, position);
        }
        self.composed(qkv, index, cache, place)
    }

    /// Attention as one operation.
    #[cfg(target_os = "linux")]
    fn fused(
        &self,
        qkv: &Array,
        index: usize,
        cache: &mut KvCache,
        place: Place,
        rotation: &fused::Rotation,
    ) -> Result<Array> {
        let eps = self.head_norms.as_ref().map_or(0.0, |(norm, _)| norm.eps());
        let heads = fused::Heads::new(self.num_heads, self.num_kv_heads, self.head_dim, cache.len(), eps);
        let norms = self.head_norms.as_ref().map(|(q_norm, k_norm)| [q_norm.weight(), k_norm.weight()]);
        let sizes = [qkv.dim(0), self.num_kv_heads, self.head_dim];
        let layer = cache.layer(index, qkv.dim(1), &sizes, qkv.dtype())?;
        let buffers = fused::Buffers { keys: &layer.keys, values: &layer.values, written: layer.written.as_ref() };
        let y = fused::attention(qkv, buffers, heads, rotation, norms, place.mask)?;
        layer.written = Some(y.clone());
        Ok(y)
    }

    /// Attention as one kernel of ours.
    #[cfg(target_os = "linux")]
    fn cuda(&self, qkv: &Array, index: usize, cache: &mut KvCache, position: &cuda::Position) -> Result<Array> {
        let heads = self.cuda_heads();
        let norms = self.head_norms.as_ref().map(|(q_norm, k_norm)| [q_norm.weight(), k_norm.weight()]);
        let sizes = [qkv.dim(0), self.num_kv_heads, self.head_dim];
        let layer = cache.layer(index, qkv.dim(1), &sizes, qkv.dtype())?;
        let turns = match layer.turns.take() {
            Some(turns) => turns,
            None => heads.turns(qkv.dim(0))?,
        };
        let turns = layer.turns.insert(turns);
        let buffers =
            cuda::Buffers { keys: &layer.keys, values: &layer.values, turns, written: layer.written.as_ref() };
        let y = cuda::attention(qkv, buffers, heads, position, norms)?;
        layer.written = Some(y.clone());
        Ok(y)
    }

    #[cfg(target_os = "linux")]
    fn cuda_heads(&self) -> cuda::Heads {
        let eps = self.head_norms.as_ref().map_or(0.0, |(norm, _)| norm.eps());
        cuda::Heads { queries: self.num_heads, keys: self.num_kv_heads, head_dim: self.head_dim, eps }
    }

    /// Attention out of MLX's operations.
    fn composed(&self, qkv: &Array, index: usize, cache: &mut KvCache, place: Place) -> Result<Array> {
        let (batch, width) = (qkv.dim(0), qkv.dim(1));
        let heads = |from: i32, count: i32| -> Result<Array> {
            let part = qkv.try_index((.., .., from * self.head_dim..(from + count) * self.head_dim))?;
            Ok(part.reshape(&[batch, width, count, self.head_dim])?)
        };
        let mut queries = heads(0, self.num_heads)?;
        let mut keys = heads(self.num_heads, self.num_kv_heads)?;
        let values = heads(self.num_heads + self.num_kv_heads, self.num_kv_heads)?.transpose_axes(&[0, 2, 1, 3])?;
        if let Some((q_norm, k_norm)) = &self.head_norms {
            queries = q_norm.forward(&queries)?;
            keys = k_norm.forward(&keys)?;
        }
        let rotated = |heads: &Array| -> Result<Array> {
            let heads = heads.transpose_axes(&[0, 2, 1, 3])?;
            if place.without == Some(Part::Rope) { Ok(heads) } else { self.rope.forward(&heads, place.position) }
        };
        let (queries, keys) = (rotated(&queries)?, rotated(&keys)?);
        let (keys, values) = cache.update(index, &keys, &values)?;
        let causal = (width > 1).then_some(ScaledDotProductAttentionMask::Causal);
        let mask = place.mask.map(ScaledDotProductAttentionMask::Array).or(causal);
        let scale = (self.head_dim as f32).powf(-0.5);
        let y = scaled_dot_product_attention(queries, keys, values, scale, mask, None)?;
        Ok(y.transpose_axes(&[0, 2, 1, 3])?.reshape(&[batch, width, -1])?)
    }

    pub(super) fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.qkv_proj.linears().chain([&mut self.o_proj])
    }

    pub(super) fn norms(&mut self) -> impl Iterator<Item = &mut RmsNorm> {
        self.head_norms.iter_mut().flat_map(|(q, k)| [q, k])
    }
}

#[derive(Debug, Clone)]
pub(super) struct Mlp {
    /// `gate_proj`, `up_proj`
    pub(super) gate_up_proj: Stacked,
    pub(super) down_proj: Linear,
}

impl Mlp {
    pub(super) fn take(weights: &mut dyn Tensors, name: &str, config: &Config) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let mut linear = |part: &str, outputs, inputs| {
            Linear::take(weights, &format!("{name}.{part}"), outputs, inputs, config.mlp_bias)
        };
        Ok(Mlp {
            gate_up_proj: Stacked::new(vec![linear("gate_proj", inner, hidden)?, linear("up_proj", inner, hidden)?])?,
            down_proj: linear("down_proj", hidden, inner)?.prepared()?,
        })
    }

    /// `residual` and the MLP of `x`.
    fn forward_onto(&self, residual: &Array, x: Input) -> Result<Array> {
        self.down_proj.forward_onto(residual, &self.gate_up_proj.swiglu(x)?)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) input_layernorm: RmsNorm,
    pub(super) self_attn: Attention,
    pub(super) post_attention_layernorm: RmsNorm,
    pub(super) mlp: Mlp,
}

impl Block {
    pub(super) fn take(weights: &mut dyn Tensors, name: &str, config: &Config, rope: &Rope) -> Result<Self> {
        let norm = |weights: &mut dyn Tensors, part: &str| {
            RmsNorm::take(weights, &format!("{name}.{part}"), config.hidden_size, config.rms_norm_eps)
        };
        Ok(Block {
            input_layernorm: norm(weights, "input_layernorm")?,
            self_attn: Attention::take(weights, &format!("{name}.self_attn"), config, rope)?,
            post_attention_layernorm: norm(weights, "post_attention_layernorm")?,
            mlp: Mlp::take(weights, &format!("{name}.mlp"), config)?,
        })
    }

    pub(super) fn forward(&self, x: &Array, index: usize, cache: &mut KvCache, place: Place) -> Result<Array> {
        if place.without == Some(Part::Norms) {
            let h = self.self_attn.o_proj.forward_onto(x, &self.self_attn.forward(x.into(), index, cache, place)?)?;
            return self.mlp.forward_onto(&h, (&h).into());
        }
        let y = self.self_attn.forward(self.input_layernorm.of(x), index, cache, place)?;
        let norm = &self.post_attention_layernorm;
        let (h, normed) = self.self_attn.o_proj.forward_onto_normed(x, &y, norm)?;
        if place.without == Some(Part::Mlp) {
            // A norm that the MLP's first product computes is left out with it.
            return normed.map_or(Ok(h.clone()), |normed| Ok(h.add(normed)?));
        }
        self.mlp.forward_onto(&h, normed.as_ref().map_or_else(|| norm.of(&h), Input::from))
    }

    /// Bytes of the weights of all products.
    pub(super) fn product_bytes(&self) -> u64 {
        let (attention, mlp) = (&self.self_attn, &self.mlp);
        let stacked = attention.qkv_proj.nbytes() + mlp.gate_up_proj.nbytes();
        stacked + attention.o_proj.nbytes() + mlp.down_proj.nbytes()
    }

    pub(super) fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.self_attn.linears().chain(self.mlp.gate_up_proj.linears()).chain([&mut self.mlp.down_proj])
    }

    pub(super) fn norms(&mut self) -> impl Iterator<Item = &mut RmsNorm> {
        [&mut self.input_layernorm, &mut self.post_attention_layernorm].into_iter().chain(self.self_attn.norms())
    }
}
