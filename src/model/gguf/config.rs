//! Rebuilds the hub's `config.json` and `generation_config.json` from GGUF metadata.

use super::header::{Header, TensorInfo};
use super::metadata::Metadata;
use super::rope;
use crate::model::stored::Encoding;
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value, json};

/// Architectures that are supported: name in the file, the class on the hub. Mistral's files say `llama`.
const ARCHITECTURES: [(&str, &str); 3] =
    [("llama", "LlamaForCausalLM"), ("qwen2", "Qwen2ForCausalLM"), ("qwen3", "Qwen3ForCausalLM")];

/// Every key that an architecture may have, without the architecture's name. Another key could change what the model
/// computes, so it is refused.
const KNOWN_KEYS: [&str; 21] = [
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.causal",
    "expert_count",
    "expert_used_count",
    "tensor_data_layout",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
];

/// `config.json`. `rope_factors` are the values of the tensor `rope_freqs.weight` where there is one.
pub fn config(header: &Header, rope_factors: Option<&[f32]>) -> Result<Value> {
    let keys = Keys::new(&header.metadata)?;
    keys.refuse_unknown()?;
    keys.refuse_features()?;
    let hidden_size = keys.size("embedding_length")?;
    let heads = keys.size("attention.head_count")?;
    let head_dim = head_dim(&keys, hidden_size, heads)?;
    let rope_theta = keys.positive_or("rope.freq_base", 10_000.0)?;
    let has = |name: &str| header.tensors.iter().any(|tensor| tensor.name == name);
    let mut config = json!({
        "architectures": [keys.class],
        "model_type": keys.architecture,
        "hidden_size": hidden_size,
        "num_hidden_layers": keys.size("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": keys.size_or("attention.head_count_kv", heads)?,
        "head_dim": head_dim,
        "intermediate_size": keys.size("feed_forward_length")?,
        "hidden_act": "silu",
        "vocab_size": vocab_size(&keys, &header.tensors)?,
        "max_position_embeddings": keys.size("context_length")?,
        "rms_norm_eps": keys.positive("attention.layer_norm_rms_epsilon")?,
        "rope_theta": rope_theta,
        "rope_scaling": rope::scaling(&keys, rope_theta, head_dim, rope_factors)?,
        "tie_word_embeddings": !has("output.weight"),
        "torch_dtype": dtype_name(&header.tensors),
    });
    let family = match keys.architecture {
        "llama" => {
            json!({ "attention_bias": has("blk.0.attn_q.bias"), "mlp_bias": has("blk.0.ffn_up.bias"), "pretraining_tp": 1 })
        }
        "qwen3" => json!({ "attention_bias": false, "use_sliding_window": false }),
        _ => json!({ "use_sliding_window": false }),
    };
    extend(&mut config, family);
    extend(&mut config, special_tokens(&header.metadata)?);
    Ok(config)
}

/// `generation_config.json`: all tokens that end a text, the end of a turn among them.
pub fn generation_config(metadata: &Metadata) -> Result<Value> {
    let mut config = special_tokens(metadata)?;
    let mut ends = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        ends.extend(metadata.optional_u64(key)?.filter(|id| !ends.contains(id)));
    }
    if ends.len() > 1 {
        config["eos_token_id"] = json!(ends);
    }
    Ok(config)
}

fn special_tokens(metadata: &Metadata) -> Result<Value> {
    let mut tokens = Map::new();
    for name in ["bos_token_id", "eos_token_id"] {
        if let Some(id) = metadata.optional_u64(&format!("tokenizer.ggml.{name}"))? {
            tokens.insert(name.into(), id.into());
        }
    }
    Ok(Value::Object(tokens))
}

fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

fn head_dim(keys: &Keys, hidden_size: u64, heads: u64) -> Result<u64> {
    let head_dim = match keys.metadata.optional_u64(&keys.name("attention.key_length"))? {
        Some(_) => keys.size("attention.key_length")?,
        None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => bail!(
            "metadata key '{}' = {hidden_size} is no multiple of the {heads} heads",
            keys.name("embedding_length")
        ),
    };
    for other in ["attention.value_length", "rope.dimension_count"] {
        let size = keys.size_or(other, head_dim)?;
        if size != head_dim {
            bail!("metadata key '{}' = {size} differs from the head size {head_dim}; not supported", keys.name(other));
        }
    }
    Ok(head_dim)
}

/// The rows of the embedding, which every file has; the metadata need not say.
fn vocab_size(keys: &Keys, tensors: &[TensorInfo]) -> Result<u64> {
    let embedding = tensors.iter().find(|tensor| tensor.name == "token_embd.weight");
    let rows = embedding.map(|tensor| tensor.shape[0]).context("tensor 'token_embd.weight' is missing")?;
    let declared = keys.size_or("vocab_size", rows)?;
    if declared != rows {
        bail!(
            "metadata key '{}' = {declared} differs from the {rows} rows of 'token_embd.weight'",
            keys.name("vocab_size")
        );
    }
    Ok(rows)
}

/// The float type of the matrices, or of their scales.
fn dtype_name(tensors: &[TensorInfo]) -> &'static str {
    let embedding = tensors.iter().find(|tensor| tensor.name == "token_embd.weight");
    match embedding.map(|tensor| tensor.kind.encoding) {
        Some(Encoding::F32) => "float32",
        Some(Encoding::Bf16) => "bfloat16",
        _ => "float16",
    }
}

/// The keys of the file's architecture.
pub(super) struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
    class: &'static str,
}

impl<'a> Keys<'a> {
    fn new(metadata: &'a Metadata) -> Result<Self> {
        let architecture = metadata.str("general.architecture")?;
        let class = ARCHITECTURES.iter().find(|(name, _)| *name == architecture).map(|(_, class)| *class);
        let names: Vec<_> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
        let class = class.ok_or_else(|| {
            let architecture = architecture.escape_debug();
            anyhow!("'general.architecture' = \"{architecture}\" is not supported ({} are)", names.join(", "))
        })?;
        Ok(Keys { metadata, architecture, class })
    }

    pub fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A whole number from 1 to 2³¹ - 1.
    pub fn size(&self, key: &str) -> Result<u64> {
        let name = self.name(key);
        match self.metadata.u64(&name)? {
            size @ 1..=0x7fff_ffff => Ok(size),
            size => bail!("metadata key '{name}' is {size}, not from 1 to {}", i32::MAX),
        }
    }

    pub fn size_or(&self, key: &str, default: u64) -> Result<u64> {
        if self.metadata.get(&self.name(key)).is_none() { Ok(default) } else { self.size(key) }
    }

    /// A finite number above 0. The file has it as float32; the shortest decimal that means the same is given, which
    /// is what `config.json` on the hub says.
    pub fn positive(&self, key: &str) -> Result<f64> {
        let name = self.name(key);
        let value = self.metadata.f64(&name)?;
        if !value.is_finite() || value <= 0.0 {
            bail!("metadata key '{name}' is {value}, not a number above 0");
        }
        Ok((value as f32).to_string().parse()?)
    }

    pub fn positive_or(&self, key: &str, default: f64) -> Result<f64> {
        if self.metadata.get(&self.name(key)).is_none() { Ok(default) } else { self.positive(key) }
    }

    pub fn optional_str(&self, key: &str) -> Result<Option<&str>> {
        self.metadata.optional_str(&self.name(key))
    }

    fn refuse_unknown(&self) -> Result<()> {
        for key in self.metadata.keys() {
            let Some((prefix, rest)) = key.split_once('.') else { continue };
            let known = KNOWN_KEYS.contains(&rest);
            let shown = key.escape_debug();
            if prefix == self.architecture && !known {
                bail!("metadata key '{shown}' is not known, so the model might be run wrongly; use another checkpoint");
            }
            if prefix != self.architecture && known {
                bail!("metadata key '{shown}' belongs to another architecture than '{}'", self.architecture);
            }
        }
        Ok(())
    }

    fn refuse_features(&self) -> Result<()> {
        let parts = self.metadata.optional_u64("split.count")?.unwrap_or(1);
        if parts > 1 {
            bail!(
                "'split.count' = {parts}: one part of a split file; merge the parts first (llama-gguf-split --merge)"
            );
        }
        for key in ["expert_count", "expert_used_count"] {
            let name = self.name(key);
            let experts = self.metadata.optional_u64(&name)?.unwrap_or(0);
            if experts > 0 {
                bail!("metadata key '{name}' = {experts}: mixtures of experts are not supported");
            }
        }
        let causal = self.name("attention.causal");
        if self.metadata.optional_bool(&causal)? == Some(false) {
            bail!("metadata key '{causal}' = false: only causal attention is supported");
        }
        Ok(())
    }
}
