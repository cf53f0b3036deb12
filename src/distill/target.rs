//! The target of a distillation: its weights for a differentiable forward, and the drafter that starts as some of its
//! layers.

use super::decoder::{Decoder, FC, Tensor};
use crate::model::checkpoint::weights_sha256;
use crate::model::config::Config;
use crate::model::weights::{self, LoadOptions, Tensors, Weights};
use anyhow::{Context, Result};
use mlx_rs::{Array, Dtype};
use serde_json::Value;
use std::path::Path;

/// A target in float32.
#[derive(Debug)]
pub struct Target {
    /// Its file's or folder's name.
    pub name: String,
    pub sha256: String,
    /// `config.json` as on the hub.
    pub config_json: Value,
    pub decoder: Decoder,
    /// In the decoder's order.
    pub weights: Vec<Array>,
    /// `[vocab, hidden]`
    pub embedding: Array,
    /// `[vocab, hidden]`; the embedding where the two are tied.
    pub head: Array,
}

impl Target {
    /// Loads a GGUF file or a directory of safetensors.
    pub fn load(path: &Path) -> Result<Target> {
        let (checkpoint, mut weights) =
            weights::load(path, &LoadOptions { dtype: Some(Dtype::Float32), quantize: None })?;
        weights.check_memory()?;
        let config = crate::model::read_config(&checkpoint)?;
        let decoder = Decoder::new(config, false);
        let config = &decoder.config;
        let tensors = decoder.tensors.iter().map(|tensor| take(&mut weights, tensor)).collect::<Result<_>>()?;
        let matrix = |weights: &mut Weights, module: &str| -> Result<Array> {
            weights.take_matrix(module, config.vocab_size, config.hidden_size)?.dense(Dtype::Float32)
        };
        let embedding = matrix(&mut weights, "model.embed_tokens")?;
        let head = if config.tie_word_embeddings { embedding.clone() } else { matrix(&mut weights, "lm_head")? };
        weights.finish()?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Target {
            name,
            sha256: weights_sha256(path)?,
            config_json: checkpoint.config,
            weights: tensors,
            decoder,
            embedding,
            head,
        })
    }

    /// A drafter whose layers are the target's layers `init`, with its weights. With `features`, the matrix that joins a
    /// token and a hidden state passes the token on and leaves the state out, so that both kinds start alike.
    pub fn drafter(&self, init: &[usize], features: bool) -> Result<(Decoder, Vec<Array>)> {
        let config = Config { num_layers: init.len() as i32, ..self.decoder.config.clone() };
        let decoder = Decoder::new(config, features);
        let weights = decoder.tensors.iter().map(|tensor| self.initial(tensor, init)).collect::<Result<_>>()?;
        Ok((decoder, weights))
    }

    fn initial(&self, tensor: &Tensor, init: &[usize]) -> Result<Array> {
        if tensor.name == FC {
            let [hidden, both] = tensor.shape[..] else { unreachable!("a matrix") };
            return Ok(mlx_rs::ops::eye::<f32>(hidden, Some(both), None)?);
        }
        let name = match tensor.name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) {
            Some((layer, part)) => format!("model.layers.{}.{part}", init[layer.parse::<usize>()?]),
            None => tensor.name.clone(),
        };
        let place = self.decoder.tensors.iter().position(|other| other.name == name);
        Ok(self.weights[place.with_context(|| format!("the target has no tensor '{name}'"))?].clone())
    }
}

fn take(weights: &mut Weights, Tensor { name, shape }: &Tensor) -> Result<Array> {
    match shape[..] {
        [outputs, inputs] => {
            let module = name.strip_suffix(".weight").unwrap_or(name);
            weights.take_matrix(module, outputs, inputs)?.dense(Dtype::Float32)
        }
        _ => weights.take(name, shape),
    }
}
