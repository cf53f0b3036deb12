//! The shape of a decoder, parsed and checked from a checkpoint's `config.json`.
//!
//! Every family fills the same [`Config`]; what differs between families is which keys they read and which flags
//! they refuse (see the family files).

use anyhow::Result;
use serde_json::Value;

/// How rotary positions are scaled, as `rope_scaling` in `config.json` says.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Positions as they are.
    None,
    /// Positions divided by a factor.
    Linear { factor: f32 },
    /// Llama 3's: low frequencies divided by a factor, high ones kept, a smooth step between.
    Llama3 { factor: f32, low_freq_factor: f32, high_freq_factor: f32, original_context: f32 },
}

/// A decoder-only transformer with grouped-query attention, rotary positions, RMS norms and a gated MLP.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub model_type: String,
    pub hidden_size: i32,
    pub num_layers: i32,
    pub num_heads: i32,
    pub num_kv_heads: i32,
    pub head_dim: i32,
    pub intermediate_size: i32,
    pub vocab_size: i32,
    pub rms_norm_eps: f32,
    pub rope_theta: f32,
    pub rope_scaling: RopeScaling,
    /// The longest context the model was trained for, in tokens.
    pub max_context: i32,
    pub tie_word_embeddings: bool,
    /// Biases on the query, key and value products.
    pub qkv_bias: bool,
    /// A bias on the attention's output product.
    pub output_bias: bool,
    /// Biases on the three products of the MLP.
    pub mlp_bias: bool,
    /// RMS norms over each head of the queries and keys, before the rotary embedding.
    pub qk_norm: bool,
}

/// Reads `config.json` keys one by one; every error names the file and the key.
pub struct Reader<'a> {
    /// What the messages call the file, for example `dir/config.json`.
    pub source: &'a str,
    pub value: &'a Value,
}

impl Reader<'_> {
    fn wrong(&self, key: &str, expected: &str) -> anyhow::Error {
        match self.value.get(key) {
            None | Some(Value::Null) => crate::usage!("{}: '{key}' is missing (expected {expected})", self.source),
            Some(found) => crate::usage!("{}: '{key}' is {found}, expected {expected}", self.source),
        }
    }

    fn present(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    /// A whole number from 1 to `max`.
    pub fn size(&self, key: &str, max: i64) -> Result<i32> {
        self.value
            .get(key)
            .and_then(Value::as_i64)
            .filter(|n| (1..=max).contains(n))
            .map(|n| n as i32)
            .ok_or_else(|| self.wrong(key, &format!("a whole number from 1 to {max}")))
    }

    pub fn size_or(&self, key: &str, max: i64, default: i32) -> Result<i32> {
        if self.present(key).is_none() { Ok(default) } else { self.size(key, max) }
    }

    /// A finite number above 0.
    pub fn positive(&self, key: &str) -> Result<f32> {
        self.value
            .get(key)
            .and_then(Value::as_f64)
            .map(|x| x as f32)
            .filter(|x| x.is_finite() && *x > 0.0)
            .ok_or_else(|| self.wrong(key, "a number above 0"))
    }

    pub fn positive_or(&self, key: &str, default: f32) -> Result<f32> {
        if self.present(key).is_none() { Ok(default) } else { self.positive(key) }
    }

    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.present(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false")),
        }
    }

    /// Refuses a feature that is not implemented, by the name of its key.
    pub fn refuse_unless(&self, key: &str, supported: bool) -> Result<()> {
        if supported {
            return Ok(());
        }
        let found = &self.value[key];
        Err(crate::usage!("{}: '{key}' = {found} is not supported by ridgepoint; use another checkpoint", self.source))
    }

    /// Refuses an activation other than SiLU.
    pub fn refuse_other_activations(&self) -> Result<()> {
        let activation = self.present("hidden_act").and_then(Value::as_str);
        self.refuse_unless("hidden_act", matches!(activation, None | Some("silu" | "swish")))
    }
}

impl Config {
    /// The keys that all families share. Biases and head norms are off; the family sets them.
    pub fn read(reader: &Reader) -> Result<Self> {
        reader.refuse_other_activations()?;
        let hidden_size = reader.size("hidden_size", 1 << 17)?;
        let num_heads = reader.size("num_attention_heads", 1 << 12)?;
        let num_kv_heads = reader.size_or("num_key_value_heads", 1 << 12, num_heads)?;
        if num_heads % num_kv_heads != 0 {
            return Err(reader.wrong("num_key_value_heads", &format!("a divisor of num_attention_heads = {num_heads}")));
        }
        let head_dim = match reader.present("head_dim") {
            Some(_) => reader.size("head_dim", 1 << 12)?,
            None if hidden_size % num_heads == 0 => hidden_size / num_heads,
            None => {
                return Err(reader.wrong("hidden_size", &format!("a multiple of num_attention_heads = {num_heads}")));
            }
        };
        if head_dim % 2 != 0 {
            return Err(reader.wrong("head_dim", "an even number"));
        }
        // transformers 5 moved the rotary parameters into one object; earlier files have them at the top level.
        let rope = reader.present("rope_parameters").or(reader.present("rope_scaling")).cloned().unwrap_or(Value::Null);
        let rope_theta = match rope.get("rope_theta") {
            Some(_) => Reader { source: reader.source, value: &rope }.positive("rope_theta")?,
            None => reader.positive_or("rope_theta", 10_000.0)?,
        };
        Ok(Config {
            model_type: reader.value["model_type"].as_str().unwrap_or_default().to_owned(),
            hidden_size,
            num_layers: reader.size("num_hidden_layers", 1 << 12)?,
            num_heads,
            num_kv_heads,
            head_dim,
            intermediate_size: reader.size("intermediate_size", 1 << 20)?,
            vocab_size: reader.size("vocab_size", 1 << 24)?,
            rms_norm_eps: reader.positive_or("rms_norm_eps", 1e-6)?,
            rope_theta,
            rope_scaling: rope_scaling(reader, &rope)?,
            max_context: reader.size_or("max_position_embeddings", i64::from(i32::MAX), i32::MAX)?,
            tie_word_embeddings: reader.flag_or("tie_word_embeddings", false)?,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            qk_norm: false,
        })
    }
}

impl Config {
    /// Weights of all matrices, norms and biases; those of a tied head once.
    pub fn parameters(&self) -> u64 {
        let [hidden, inner, heads, kv_heads, head_dim, vocab, layers] = [
            self.hidden_size,
            self.intermediate_size,
            self.num_heads,
            self.num_kv_heads,
            self.head_dim,
            self.vocab_size,
            self.num_layers,
        ]
        .map(|size| size as u64);
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let matrices = hidden * (2 * queries + 2 * keys) + 3 * hidden * inner;
        let flag = |flag: bool, size: u64| if flag { size } else { 0 };
        let biases = flag(self.qkv_bias, queries + 2 * keys)
            + flag(self.output_bias, hidden)
            + flag(self.mlp_bias, 2 * inner + hidden);
        let norms = 2 * hidden + flag(self.qk_norm, 2 * head_dim);
        let embeddings = vocab * hidden * if self.tie_word_embeddings { 1 } else { 2 };
        layers * (matrices + biases + norms) + hidden + embeddings
    }
}

fn rope_scaling(reader: &Reader, rope: &Value) -> Result<RopeScaling> {
    let kind = rope.get("rope_type").or(rope.get("type")).and_then(Value::as_str);
    let scaling = Reader { source: reader.source, value: rope };
    match kind {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: scaling.positive("factor")? }),
        Some("llama3") => Ok(RopeScaling::Llama3 {
            factor: scaling.positive("factor")?,
            low_freq_factor: scaling.positive("low_freq_factor")?,
            high_freq_factor: scaling.positive("high_freq_factor")?,
            original_context: scaling.positive("original_max_position_embeddings")?,
        }),
        Some(other) => Err(crate::usage!(
            "{}: 'rope_scaling' of type '{other}' is not supported by ridgepoint (default, linear and llama3 are)",
            reader.source
        )),
    }
}
