//! The decoder itself: embedding, blocks of attention and gated MLP, final norm and head.

mod block;
pub mod parts;

use super::cache::KvCache;
use super::config::Config;
use super::layers::{Embedding, Linear, RmsNorm, Rope};
use super::weights::Tensors;
#[cfg(target_os = "linux")]
use crate::fused::{self, cuda};
use crate::roofline::{ModelShape, WeightFormat};
use anyhow::{Result, bail};
use block::{Block, Place};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::{broadcast_to, concatenate, zeros_dtype};
#[cfg(target_os = "linux")]
use mlx_rs::transforms::async_eval;
use mlx_rs::{Array, Dtype};
use parts::Part;

/// How many layers an NVIDIA GPU is given at a time. Measured on an H200 alone.
#[cfg(target_os = "linux")]
const LAYERS_AT_ONCE: usize = 4;

/// Which positions of a forward need logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    /// All `b`, as a verification does.
    All,
    /// The last only, as a prompt's end does.
    Last,
}

/// A decoder with its weights. Cloning shares them.
///
/// What is said to be lazy here is evaluated when it is asked for; with ridgepoint's kernels an NVIDIA GPU begins before,
/// as layers are handed over on the way.
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

    /// The last logits of a forward that nothing waits for, as the next step of pipelined decoding is: nothing is handed over
    /// on the way. Otherwise as [`forward`](Self::forward).
    pub fn forward_pipelined(&self, tokens: &Array, cache: &mut KvCache) -> Result<Array> {
        lazily(|| self.forward(tokens, cache, Logits::Last))
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

    /// Evaluates the keys and values of `tokens`, `features` as of [`hidden_states`](Self::hidden_states), and no more: what the
    /// last layer makes of them is not computed.
    pub fn prefill(&self, tokens: &Array, features: Option<&Array>, cache: &mut KvCache) -> Result<()> {
        lazily(|| self.hidden(tokens, features, cache, cache.len(), None))?;
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
            #[cfg(target_os = "linux")]
            self.submit_early(&h, index + 1)?;
        }
        cache.advance(tokens.dim(1));
        Ok(h)
    }

    /// Has an NVIDIA GPU begin with the first `layers` layers, which give `h`, while what is behind them is described. An H100
    /// would wait for 100 operations otherwise.
    #[cfg(target_os = "linux")]
    fn submit_early(&self, h: &Array, layers: usize) -> Result<()> {
        let complete = layers.is_multiple_of(LAYERS_AT_ONCE) || layers == self.layers.len();
        if complete && cuda::submits_early(h) {
            async_eval([h])?;
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn rotation(&self, position: i32, width: i32) -> fused::Rotation {
        fused::Rotation::new(self.layers[0].self_attn.rope.frequencies(), position, width)
    }

    /// Where our attention on a GPU finds the tokens of `h`, if it is used. It knows no tokens that do not stand where the cache
    /// ends.
    #[cfg(target_os = "linux")]
    fn cuda_position(&self, h: &Array, held: i32, position: i32) -> Result<Option<cuda::Position>> {
        if !cuda::serves(h) || position != held {
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
        if model.config.tie_word_embeddings {
            model.lm_head = model.embed_tokens.as_head();
            model.layers_quantized(bits, group_size)
        } else {
            model.products_quantized(bits, group_size)
        }
    }

    /// The same model with everything quantised that it multiplies by; the embedding, of which a token reads a row, is shared.
    pub fn products_quantized(&self, bits: i32, group_size: i32) -> Result<Self> {
        let mut model = self.clone();
        model.lm_head = model.lm_head.quantized(bits, group_size)?;
        model.layers_quantized(bits, group_size)
    }

    fn layers_quantized(mut self, bits: i32, group_size: i32) -> Result<Self> {
        for linear in self.fc.iter_mut().chain(self.layers.iter_mut().flat_map(Block::linears)) {
            *linear = linear.quantized(bits, group_size)?;
        }
        Ok(self)
    }
}

fn take_layers(config: &Config, rope: &Rope, weights: &mut dyn Tensors) -> Result<Vec<Block>> {
    (0..config.num_layers).map(|i| Block::take(weights, &format!("model.layers.{i}"), config, rope)).collect()
}

fn bytes_of(dtype: Dtype) -> u64 {
    if dtype == Dtype::Float32 { 4 } else { 2 }
}

/// Runs `work` with no layers handed over on the way.
fn lazily<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_os = "linux")]
    return cuda::lazily(work);
    #[cfg(not(target_os = "linux"))]
    work()
}
