//! The trained drafter as a folder that the drafter kind `distilled` loads.

use super::decoder::Tensor;
use crate::model::matrix::Matrix;
use crate::results::write_atomically;
use crate::scenario::Quantization;
use anyhow::{Context, Result};
use mlx_rs::{Array, Dtype};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// What is said about a drafter besides its weights.
#[derive(Debug)]
pub struct Description<'a> {
    /// The target's name.
    pub target: &'a str,
    pub target_sha256: &'a str,
    /// The target's `config.json`.
    pub target_config: &'a Value,
    pub layers: usize,
    pub features: bool,
    /// `[n]` uint32.
    pub draft_ids: &'a Array,
    /// How it was trained, for people.
    pub training: Value,
}

/// The weights as they are stored: matrices quantised if asked for, and what a reader will compute with.
#[derive(Debug)]
pub struct Stored {
    arrays: Vec<(String, Array)>,
    quantization: Option<Quantization>,
    /// In the decoder's order, float32.
    pub as_read: Vec<Array>,
}

/// Prepares float32 `weights`. A matrix whose rows are no whole groups stays as it is. Scales and biases of quantised matrices are float16: their rounding is below a tenth of a
/// step of 8 bits, and float32 would take 6 % more room.
pub fn stored(tensors: &[Tensor], weights: &[Array], quantization: Option<Quantization>) -> Result<Stored> {
    let mut all = Stored { arrays: Vec::new(), quantization, as_read: Vec::new() };
    for (Tensor { name, .. }, weight) in tensors.iter().zip(weights) {
        let matrix = match quantization {
            Some(Quantization { bits, group_size }) if weight.ndim() == 2 => {
                Matrix::Dense(weight.clone()).quantized(bits, group_size)?
            }
            _ => Matrix::Dense(weight.clone()),
        };
        let matrix = match matrix {
            Matrix::Quantized { weight, scales, biases, group_size, bits } => {
                let [scales, biases] = [scales, biases].map(|array| array.as_dtype(Dtype::Float16));
                Matrix::Quantized { weight, scales: scales?, biases: biases?, group_size, bits }
            }
            dense => dense,
        };
        all.as_read.push(matrix.dense(Dtype::Float32)?);
        match matrix {
            Matrix::Dense(array) => all.arrays.push((name.clone(), array)),
            Matrix::Quantized { weight, scales, biases, .. } => {
                let module = name.strip_suffix(".weight").unwrap_or(name);
                let parts = [("weight", weight), ("scales", scales), ("biases", biases)];
                all.arrays.extend(parts.map(|(part, array)| (format!("{module}.{part}"), array)));
            }
        }
    }
    Ok(all)
}

/// Writes a safetensors file. MLX writes metadata that it is not given as null, which is not in the format.
pub fn save<'a>(arrays: impl IntoIterator<Item = (&'a str, &'a Array)>, path: &Path) -> Result<()> {
    let metadata = HashMap::from([("format".to_owned(), "mlx".to_owned())]);
    Array::save_safetensors(arrays, &metadata, path)
        .with_context(|| format!("{}: cannot be written (is the disk full?)", path.display()))
}

/// Writes `model.safetensors`, then `config.json`, each atomically. Gives the bytes of both.
pub fn write(folder: &Path, stored: &Stored, description: &Description) -> Result<u64> {
    let path = folder.join("model.safetensors");
    let temporary = folder.join(".model.safetensors");
    let draft_ids = ("draft_ids".to_owned(), description.draft_ids.clone());
    save(stored.arrays.iter().chain([&draft_ids]).map(|(name, array)| (name.as_str(), array)), &temporary)?;
    // Read back: a full disk shows here.
    crate::model::safetensors::open_file(&temporary)
        .context("what was written cannot be read back (is the disk full?)")?;
    fs::rename(&temporary, &path).with_context(|| format!("{}: cannot be written", path.display()))?;
    let mut model = description.target_config.clone();
    if let Value::Object(model) = &mut model {
        model.insert("num_hidden_layers".into(), description.layers.into());
        model.remove("quantization");
        model.remove("quantization_config");
    }
    let mut config = json!({
        "schema_version": 1,
        "kind": "distilled",
        "target": description.target,
        "target_sha256": description.target_sha256,
        "feature_conditioned": description.features,
        "head_vocabulary": description.draft_ids.dim(0),
        "model": model,
        "training": description.training,
    });
    if let Some(Quantization { bits, group_size }) = stored.quantization {
        config["quantization"] = json!({ "bits": bits, "group_size": group_size });
    }
    let config = format!("{config:#}\n");
    write_atomically(&folder.join("config.json"), config.as_bytes())?;
    let bytes = path.metadata().with_context(|| format!("{}: cannot be read", path.display()))?.len();
    Ok(bytes + config.len() as u64)
}
