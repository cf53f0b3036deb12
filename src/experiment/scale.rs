//! The sizes that the experiments use on a machine: what fits its memory, and the time that may be spent.

use crate::scenario::{Dtype, Quantization, format_budget, parse_budget};
use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A model at a precision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelAt {
    /// A name of `scenarios/models/`, or a checkpoint.
    pub model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantize: Option<Quantization>,
}

/// What is measured and how large; declared before anything is, and recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// The model that most experiments take.
    pub main: ModelAt,
    /// Models of ascending size at one precision.
    pub family: Vec<ModelAt>,
    /// The type of activations, and of weights that are not quantised.
    pub dtype: Dtype,
    /// Bytes of the arrays that are copied.
    pub copy_bytes: Vec<u64>,
    /// Rows and columns of square weight matrices.
    pub squares: Vec<u64>,
    /// Tokens in the cache unless something else is said.
    pub context: u64,
    /// Tokens in the cache where that is varied.
    pub contexts: Vec<u64>,
    /// Tokens of a prompt.
    pub prompts: Vec<u64>,
    pub widths: Vec<u64>,
    pub batches: Vec<u64>,
    /// Fewest and most passes over an experiment's cases.
    pub passes: [u64; 2],
    /// Time for all experiments.
    #[serde(with = "time")]
    pub time: Duration,
}

/// The time without `--budget`.
pub const DEFAULT_TIME: Duration = Duration::from_secs(15 * 60);

impl Scale {
    /// What a machine with a GPU or without, and so many bytes of memory for models, can do in `time`.
    pub fn auto(gpu: bool, memory_bytes: u64, time: Duration) -> Scale {
        let gib = memory_bytes >> 30;
        let four_bits = Quantization::new(4, 64).ok();
        let (dtype, quantize) = if gpu { (Dtype::Bfloat16, four_bits) } else { (Dtype::Float32, None) };
        // Parameters in millions: weights, their making and what is held beside them must fit.
        let sizes = [("smollm2-135m", 135), ("smollm2-360m", 362), ("qwen3-0.6b", 596), ("llama-3.2-1b", 1236)];
        let large = [("qwen3-0.6b", 596), ("qwen3-4b", 4022), ("mistral-7b", 7248), ("qwen3-8b", 8191)];
        let candidates = if gpu && gib >= 12 { large } else { sizes };
        let bytes = |millions: u64| millions * if gpu { 1_000_000 } else { 4_000_000 };
        // On a processor a step of more than this reads for too long to be repeated often.
        let most = if gpu { memory_bytes / 2 } else { (memory_bytes / 4).min(2 << 30 | 1 << 29) };
        let at = |model: &str| ModelAt { model: model.to_owned(), dtype: Some(dtype), quantize };
        let fitting = candidates.iter().filter(|(_, millions)| bytes(*millions) <= most);
        let mut family: Vec<ModelAt> = fitting.map(|(model, _)| at(model)).collect();
        if family.is_empty() {
            family.push(at("smollm2-135m"));
        }
        let main = if gpu && gib >= 12 { at("mistral-7b") } else { at("smollm2-135m") };
        let mib = |sizes: &[u64]| sizes.iter().map(|size| size << 20).collect();
        Scale {
            main,
            family,
            dtype,
            copy_bytes: if gpu { mib(&[64, 256, 1024, 2048]) } else { mib(&[64, 256, 1024]) },
            squares: if gpu { vec![1024, 2048, 4096, 8192] } else { vec![512, 1024, 2048, 4096] },
            context: 256,
            contexts: vec![64, 128, 256, 512, 1024, 2048, 4096],
            prompts: vec![1, 8, 32, 128, 512, 1024],
            widths: vec![1, 2, 4, 8, 16, 32, 64, 128],
            batches: vec![1, 2, 4, 8, 16],
            passes: [7, 25],
            time,
        }
    }
}

impl fmt::Display for ModelAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.model)?;
        match (self.dtype, self.quantize) {
            (Some(dtype), Some(quantize)) => write!(f, " {}-bit {dtype}", quantize.bits),
            (Some(dtype), None) => write!(f, " {dtype}"),
            (None, Some(quantize)) => write!(f, " {}-bit", quantize.bits),
            (None, None) => Ok(()),
        }
    }
}

/// A time as people write it.
mod time {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_budget(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_budget(&text).map_err(|error| serde::de::Error::custom(anyhow!(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_fits_the_memory_and_comes_back_from_json() {
        let names = |scale: &Scale| scale.family.iter().map(|at| at.model.clone()).collect::<Vec<_>>();
        let small = Scale::auto(false, 24 << 30, DEFAULT_TIME);
        assert_eq!((small.main.to_string(), names(&small).len()), ("smollm2-135m float32".to_owned(), 3));
        assert_eq!(names(&Scale::auto(false, 2 << 30, DEFAULT_TIME)), ["smollm2-135m"]);
        let card = Scale::auto(true, 80 << 30, DEFAULT_TIME);
        assert_eq!((card.main.to_string(), names(&card).len()), ("mistral-7b 4-bit bfloat16".to_owned(), 4));
        assert_eq!(Scale::auto(true, 8 << 30, DEFAULT_TIME).main.model, "smollm2-135m");
        for scale in [small, card] {
            assert_eq!(serde_json::from_value::<Scale>(serde_json::to_value(&scale).unwrap()).unwrap(), scale);
        }
    }
}
