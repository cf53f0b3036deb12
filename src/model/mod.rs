//! Models: checkpoint files, families, KV cache, tokenizer, chat template, hub.
//!
//! How to add a family: write `src/model/MODEL_TYPE.rs`, named after the checkpoint's `model_type`, with a function
//! that fills a [`config::Config`] and refuses by name what it cannot do, and add one line to [`FAMILIES`].

pub mod cache;
pub mod chat;
pub mod checkpoint;
pub mod config;
pub mod convert;
pub mod gguf;
pub mod hub;
pub mod language_model;
pub mod layers;
mod llama;
pub mod matrix;
pub(crate) mod memory;
mod mistral;
mod qwen2;
mod qwen3;
pub mod safetensors;
pub mod stored;
pub mod synthetic;
pub mod timed;
pub mod token_stream;
pub mod tokenizer;
pub mod transformer;
mod weight;
pub mod weights;

use anyhow::Result;
use checkpoint::Checkpoint;
use config::{Config, Reader};
use serde_json::Value;
use std::path::Path;
use transformer::Transformer;
use weights::LoadOptions;

/// Reads the shape of one family's models.
type Family = fn(&Reader) -> Result<Config>;

/// Every `model_type` that can be run.
const FAMILIES: &[(&str, Family)] =
    &[("llama", llama::config), ("mistral", mistral::config), ("qwen2", qwen2::config), ("qwen3", qwen3::config)];

/// Loads a checkpoint: a GGUF file, or a directory of safetensors as on the hub.
pub fn load(path: &Path, options: &LoadOptions) -> Result<(Checkpoint, Transformer)> {
    let (checkpoint, mut weights) = weights::load(path, options)?;
    weights.check_memory()?;
    let config = read_config(&checkpoint)?;
    // Products stream the weights once a step; looking up small pages would take a tenth of the time.
    #[cfg(target_os = "linux")]
    let _heap = weights.heap()?;
    let model = Transformer::take(config, &mut weights)?;
    weights.finish()?;
    Ok((checkpoint, model))
}

/// Makes a model of the shapes that `config` (a `config.json`) declares, with random weights. `source` names the file that
/// declares them.
pub fn synthetic(source: &Path, config: &Value, options: &LoadOptions, seed: u64) -> Result<Transformer> {
    synthetic_of(source, config_of(&source.display().to_string(), config)?, options, seed)
}

/// The same for shapes that are there already.
pub fn synthetic_of(source: &Path, config: Config, options: &LoadOptions, seed: u64) -> Result<Transformer> {
    let bytes = synthetic::bytes(options, config.parameters());
    memory::check_bytes(source, "the weights", bytes, "take fewer bits (--quantize 4) or a smaller model")?;
    // While it is made, the largest matrix takes three times its values in float32.
    let largest = config.vocab_size as u64 * config.hidden_size as u64 * 4;
    let mut weights = synthetic::Synthetic::new(options, seed, bytes + 3 * largest)?;
    Transformer::take(config, &mut weights)
}

/// The shape that a checkpoint's `config.json` declares.
pub fn read_config(checkpoint: &Checkpoint) -> Result<Config> {
    config_of(&checkpoint.path.display().to_string(), &checkpoint.config)
}

/// The shape that a `config.json` declares; `source` names it in messages.
pub fn config_of(source: &str, config: &Value) -> Result<Config> {
    let model_type = config["model_type"].as_str().unwrap_or_default();
    let names: Vec<_> = FAMILIES.iter().map(|(name, _)| *name).collect();
    let (_, family) = FAMILIES.iter().find(|(name, _)| *name == model_type).ok_or_else(|| {
        crate::usage!(
            "{source}: 'model_type' = \"{model_type}\" is not supported by ridgepoint ({} are)",
            names.join(", ")
        )
    })?;
    family(&Reader { source, value: config })
}
