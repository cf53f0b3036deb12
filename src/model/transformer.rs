//! The decoder itself: embedding, blocks of attention and gated MLP, final norm and head.

pub mod parts;

use super::cache::KvCache;
use super::config::Config;
use super::layers::{Embedding, Linear, RmsNorm, Rope, Stacked};
use super::weights::Tensors;
#[cfg(target_os = "linux")]
use crate::fused::{self, cuda};
use crate::roofline::{ModelShape, WeightFormat};
use anyhow::{Result, bail};
use mlx_rs::fast::{ScaledDotProductAttentionMask, scaled_dot_product_attention};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::{broadcast_to, concatenate, zeros_dtype};
use mlx_rs::{Array, Dtype};
use parts::Part;

/// Which positions of a forward need logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    /// All `b`, as a verification does.
    All,
    /// The last only, as a prompt's end does.
    Last,
}

/// Where the tokens of a forward stand and what they attend to.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    /// Rotary position of the first token; the others follow.
    position: i32,
    /// `[b, len + b]` bool over what the cache holds and the tokens themselves; causal if there is none.
    mask: Option<&'a Array>,
    /// What is left out, to time the rest.
    without: Option<Part>,
    /// Where attention is fused: the rotary angles of the tokens.
    #[cfg(target_os = "linux")]
    rotation: Option<&'a fused::Rotation>,
    /// The same for our kernels on a GPU.
    #[cfg(target_os = "linux")]
    cuda: Option<&'a cuda::Position>,
}

#[derive(Debug, Clone)]
struct Attention {
    /// `q_proj`, `k_proj`, `v_proj`
    qkv_proj: Stacked,
    o_proj: Linear,
    /// `(q_norm, k_norm)` of the families that have them.
    head_norms: Option<(RmsNorm, RmsNorm)>,
    rope: Rope,
    num_heads: i32,
    num_kv_heads: i32,
    head_dim: i32,
}

impl Attention {
    fn take(weights: &mut dyn Tensors, name: &str, config: &Config, rope: &Rope) -> Result<Self> {
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
    fn forward(&self, x: &Array, index: usize, cache: &mut KvCache, place: Place) -> Result<Array> {
        let qkv = self.qkv_proj.forward(x)?;
        if place.without == Some(Part::Attention) {
            return Ok(qkv.try_index((.., .., ..self.num_heads * self.head_dim))?);
        }
        self.attend(&qkv, index, cache, place)
    }

    /// `qkv`, what the products gave (`[batch, b, queries, keys and values]`), to `[batch, b, queries]`.
    fn attend(&self, qkv: &Array, index: usize, cache: &mut KvCache, place: Place) -> Result<Array> {
        #[cfg(target_os = "linux")]
        if let Some(rotation) = place.rotation {
            return self.fused(qkv, index, cache, place, rotation);
        }
        #[cfg(target_os = "linux")]
        if let Some(position) = place.cuda
            && self.cuda_heads().serve(qkv, place.mask.is_some())
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

    fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.qkv_proj.linears().chain([&mut self.o_proj])
    }

    fn norms(&mut self) -> impl Iterator<Item = &mut RmsNorm> {
        self.head_norms.iter_mut().flat_map(|(q, k)| [q, k])
    }
}

#[derive(Debug, Clone)]
struct Mlp {
    /// `gate_proj`, `up_proj`
    gate_up_proj: Stacked,
    down_proj: Linear,
}

impl Mlp {
    fn take(weights: &mut dyn Tensors, name: &str, config: &Config) -> Result<Self> {
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
    fn forward_onto(&self, residual: &Array, x: &Array) -> Result<Array> {
        self.down_proj.forward_onto(residual, &self.gate_up_proj.swiglu(x)?)
    }
}

#[derive(Debug, Clone)]
struct Block {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

impl Block {
    fn take(weights: &mut dyn Tensors, name: &str, config: &Config, rope: &Rope) -> Result<Self> {
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

    fn forward(&self, x: &Array, index: usize, cache: &mut KvCache, place: Place) -> Result<Array> {
        if place.without == Some(Part::Norms) {
            let h = self.self_attn.o_proj.forward_onto(x, &self.self_attn.forward(x, index, cache, place)?)?;
            return self.mlp.forward_onto(&h, &h);
        }
        let y = self.self_attn.forward(&self.input_layernorm.forward(x)?, index, cache, place)?;
        let [h, normed] = self.self_attn.o_proj.forward_onto_normed(x, &y, &self.post_attention_layernorm)?;
        if place.without == Some(Part::Mlp) {
            return Ok(h.add(normed)?);
        }
        self.mlp.forward_onto(&h, &normed)
    }

    fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.self_attn.linears().chain(self.mlp.gate_up_proj.linears()).chain([&mut self.mlp.down_proj])
    }

    fn norms(&mut self) -> impl Iterator<Item = &mut RmsNorm> {
        [&mut self.input_layernorm, &mut self.post_attention_layernorm].into_iter().chain(self.self_attn.norms())
    }
}

/// A decoder with its weights. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Transformer {
    pub config: Config,
    embed_tokens: Embedding,
    /// Joins the embedding of a token with a hidden state of the target, in a drafter that reads both.
    fc: Option<Linear>,
    layers: Vec<Block>,
    norm: RmsNorm,
    lm_head: Linear,
    /// The token ids that the head's outputs stand for, `[n]` uint32, ascending; none where they are all ids in order.
    head_ids: Option<Array>,
    dtype: Dtype,
    /// What forwards leave out; see [`parts`].
    without: Option<Part>,
}

impl Transformer {
    /// Takes every tensor that `config` calls for out of `weights`.
    pub fn take(config: Config, weights: &mut dyn Tensors) -> Result<Self> {
        let rope = Rope::new(&config);
        let mut embed_tokens = Embedding::take(weights, "model.embed_tokens", config.vocab_size, config.hidden_size)?;
        let layers = take_layers(&config, &rope, weights)?;
        let norm = RmsNorm::take(weights, "model.norm", config.hidden_size, config.rms_norm_eps)?;
        let lm_head = if config.tie_word_embeddings {
            embed_tokens = embed_tokens.prepared()?;
            embed_tokens.as_head()
        } else {
            Linear::take(weights, "lm_head", config.vocab_size, config.hidden_size, false)?.prepared()?
        };
        let dtype = embed_tokens.forward(&Array::from_slice(&[0u32], &[1, 1]))?.dtype();
        let (fc, head_ids) = (None, None);
        let mut model = Transformer { config, embed_tokens, fc, layers, norm, lm_head, head_ids, dtype, without: None };
        model.cast_norms()?;
        Ok(model)
    }

    /// A drafter for `target`: layers and norm of its own, out of `weights`, between the target's embedding and the
    /// outputs `ids` of the target's head. `config` has the target's width and vocabulary, and `ids` is ascending. A
    /// `conditioned` one reads the target's hidden states too.
    pub fn take_drafter(
        target: &Transformer,
        config: Config,
        ids: &[u32],
        conditioned: bool,
        dtype: Dtype,
        weights: &mut dyn Tensors,
    ) -> Result<Self> {
        let rope = Rope::new(&config);
        let hidden = config.hidden_size;
        let fc = conditioned.then(|| Linear::take(weights, "fc", hidden, 2 * hidden, false)?.prepared()).transpose()?;
        let layers = take_layers(&config, &rope, weights)?;
        let norm = RmsNorm::take(weights, "model.norm", config.hidden_size, config.rms_norm_eps)?;
        let all = ids.len() == config.vocab_size as usize;
        let head_ids = (!all).then(|| Array::from_slice(ids, &[ids.len() as i32]));
        let lm_head = match &head_ids {
            Some(ids) => target.lm_head.outputs(ids, dtype)?,
            None => target.lm_head.clone(),
        };
        let embed_tokens = target.embed_tokens.clone();
        let mut model = Transformer { config, embed_tokens, fc, layers, norm, lm_head, head_ids, dtype, without: None };
        model.cast_norms()?;
        Ok(model)
    }

    /// Norms in the type of the activations.
    fn cast_norms(&mut self) -> Result<()> {
        let dtype = self.dtype;
        self.norm.cast(dtype)?;
        self.layers.iter_mut().flat_map(Block::norms).try_for_each(|norm| norm.cast(dtype))
    }

    /// The token ids of choices among the logits, `[..]` uint32. Lazy.
    pub fn token_ids(&self, choices: Array) -> Result<Array> {
        match &self.head_ids {
            Some(ids) => Ok(ids.take(choices)?),
            None => Ok(choices),
        }
    }

    /// Probabilities `[n, logits]` as probabilities of every token id, `[n, vocab]`: 0 for one that the head cannot
    /// give. Lazy.
    pub fn over_vocabulary(&self, probabilities: Array) -> Result<Array> {
        let Some(ids) = &self.head_ids else { return Ok(probabilities) };
        let rows = probabilities.dim(0);
        let nothing = zeros_dtype(&[rows, self.config.vocab_size], probabilities.dtype())?;
        let places = broadcast_to(ids.reshape(&[1, -1])?, &[rows, ids.dim(0)])?;
        Ok(nothing.put_along_axis(&places, &probabilities, -1)?)
    }

    /// Runs `tokens` (`[batch, b]`, uint32) behind what `cache` holds, and stores their keys and values there.
    /// Gives logits `[batch, b, vocab]`, or `[batch, 1, vocab]` for [`Logits::Last`]; a drafter's of the ids that its head
    /// has (see [`token_ids`](Self::token_ids)). Lazy.
    pub fn forward(&self, tokens: &Array, cache: &mut KvCache, logits: Logits) -> Result<Array> {
        let mut h = self.hidden(tokens, None, cache, cache.len(), None)?;
        if logits == Logits::Last && h.dim(1) > 1 {
            h = h.try_index((.., -1.., ..))?;
        }
        self.lm_head.forward(&self.norm.forward(&h)?)
    }

    /// The normed hidden states that the logits of `tokens` come from, `[batch, b, hidden]`; keys and values are stored as
    /// in [`forward`](Self::forward). A drafter that reads its target's hidden states (see [`is_conditioned`](Self::is_conditioned))
    /// is given them as `features`, for each token that of the position before it. Lazy.
    pub fn hidden_states(&self, tokens: &Array, features: Option<&Array>, cache: &mut KvCache) -> Result<Array> {
        self.norm.forward(&self.hidden(tokens, features, cache, cache.len(), None)?)
    }

    /// Logits of normed hidden states. Lazy.
    pub fn head(&self, hidden: &Array) -> Result<Array> {
        self.lm_head.forward(hidden)
    }

    /// Runs `tokens` (`[1, b]`) as branches of one text: the first stands at `position`, the others follow, and `mask`
    /// (`[b, len + b]` bool) says which of the tokens in the cache and of themselves each one follows.
    /// Gives normed hidden states `[1, b, hidden]`; `features` as of [`hidden_states`](Self::hidden_states). Lazy.
    pub fn hidden_branches(
        &self,
        tokens: &Array,
        features: Option<&Array>,
        cache: &mut KvCache,
        position: i32,
        mask: &Array,
    ) -> Result<Array> {
        self.norm.forward(&self.hidden(tokens, features, cache, position, Some(mask))?)
    }

    /// Whether it reads the hidden states of a target.
    pub fn is_conditioned(&self) -> bool {
        self.fc.is_some()
    }

    /// Runs `tokens` for their keys and values only. Gives what must be evaluated for them to be there.
    pub fn prefill(&self, tokens: &Array, cache: &mut KvCache) -> Result<()> {
        self.hidden(tokens, None, cache, cache.len(), None)?;
        Ok(mlx_rs::transforms::eval(cache.arrays())?)
    }

    fn hidden(
        &self,
        tokens: &Array,
        features: Option<&Array>,
        cache: &mut KvCache,
        position: i32,
        mask: Option<&Array>,
    ) -> Result<Array> {
        let mut h = self.embed_tokens.forward(tokens)?.as_dtype(self.dtype)?;
        h = match (&self.fc, features) {
            (None, None) => h,
            (Some(fc), Some(features)) => fc.forward(&concatenate(&[h, features.as_dtype(self.dtype)?], -1)?)?,
            _ => bail!("hidden states are for drafters that were trained with them, and those need them"),
        };
        #[cfg(target_os = "linux")]
        let rotation = fused::serves(&h).then(|| self.rotation(position, tokens.dim(1)));
        #[cfg(target_os = "linux")]
        let cuda = self.cuda_position(&h, cache.len(), position)?;
        let place = Place {
            position,
            mask,
            without: self.without,
            #[cfg(target_os = "linux")]
            rotation: rotation.as_ref(),
            #[cfg(target_os = "linux")]
            cuda: cuda.as_ref(),
        };
        for (index, layer) in self.layers.iter().enumerate() {
            h = layer.forward(&h, index, cache, place)?;
        }
        cache.advance(tokens.dim(1));
        Ok(h)
    }

    #[cfg(target_os = "linux")]
    fn rotation(&self, position: i32, width: i32) -> fused::Rotation {
        fused::Rotation::new(self.layers[0].self_attn.rope.frequencies(), position, width)
    }

    /// Where our attention on a GPU finds the tokens of `h`, if it is used. It knows no tokens that do not stand where the cache
    /// ends, and no attention without rotary embedding.
    #[cfg(target_os = "linux")]
    fn cuda_position(&self, h: &Array, held: i32, position: i32) -> Result<Option<cuda::Position>> {
        if !cuda::serves(h) || position != held || self.without == Some(Part::Rope) {
            return Ok(None);
        }
        Ok(Some(cuda::Position::new(&self.layers[0].self_attn.rope.frequency_row, held)?))
    }

    /// An empty cache for this model.
    pub fn new_cache(&self) -> KvCache {
        KvCache::new(self.layers.len())
    }

    /// The type that activations have.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The sizes that bytes and operations of a forward follow from. Matrices of the layers are taken to be stored as
    /// the first layer's gate is.
    pub fn shape(&self) -> ModelShape {
        let config = &self.config;
        ModelShape {
            layers: self.layers.len() as u64,
            hidden: config.hidden_size as u64,
            intermediate: config.intermediate_size as u64,
            heads: config.num_heads as u64,
            kv_heads: config.num_kv_heads as u64,
            head_dim: config.head_dim as u64,
            vocab: self.head_ids.as_ref().map_or(config.vocab_size, |ids| ids.dim(0)) as u64,
            weights: self.layers[0].mlp.gate_up_proj.format(),
            head: self.lm_head.format(),
            activation_bytes: bytes_of(self.dtype),
            kv_bytes: bytes_of(self.dtype),
        }
    }

    /// How the weights are held, for people: `float32`, or `4-bit` with the type of the activations.
    pub fn precision(&self) -> String {
        let dtype = format!("{:?}", self.dtype).to_lowercase();
        match self.layers[0].mlp.gate_up_proj.format() {
            WeightFormat::Float { .. } => dtype,
            WeightFormat::Affine { bits, group_size, .. } => format!("{bits}-bit:{group_size} {dtype}"),
        }
    }

    /// The first `layers` layers with this model's norm and head. Shares the weights.
    pub fn truncated(&self, layers: usize) -> Self {
        let mut model = self.clone();
        model.layers.truncate(layers);
        model.config.num_layers = model.layers.len() as i32;
        model
    }

    /// The same model with its matrices quantised; norms and biases are shared.
    pub fn quantized(&self, bits: i32, group_size: i32) -> Result<Self> {
        let mut model = self.clone();
        model.embed_tokens = model.embed_tokens.quantized(bits, group_size)?;
        model.lm_head = if model.config.tie_word_embeddings {
            model.embed_tokens.as_head()
        } else {
            model.lm_head.quantized(bits, group_size)?
        };
        for linear in model.layers.iter_mut().flat_map(Block::linears) {
            *linear = linear.quantized(bits, group_size)?;
        }
        Ok(model)
    }
}

fn take_layers(config: &Config, rope: &Rope, weights: &mut dyn Tensors) -> Result<Vec<Block>> {
    (0..config.num_layers).map(|i| Block::take(weights, &format!("model.layers.{i}"), config, rope)).collect()
}

fn bytes_of(dtype: Dtype) -> u64 {
    if dtype == Dtype::Float32 { 4 } else { 2 }
}
