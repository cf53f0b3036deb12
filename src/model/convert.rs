//! Writes a checkpoint as a directory in the hub's form, which mlx-lm and transformers load.

use super::checkpoint::Checkpoint;
use super::matrix::Matrix;
use super::weights::{self, LoadOptions, Weights};
use crate::scenario::Quantization;
use anyhow::{Context, Result, bail};
use mlx_rs::{Array, Dtype};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// Shards are closed when they reach this size, as the hub's are.
const SHARD_BYTES: usize = 5_000_000_000;

/// What was written.
#[derive(Debug)]
pub struct Written {
    pub tensors: usize,
    pub bytes: usize,
    /// Of everything but quantised matrices.
    pub dtype: Dtype,
    /// Of most of the matrices that are quantised.
    pub quantization: Option<Quantization>,
}

/// Converts `source` (a GGUF file or a directory) to the new directory `target`, in the precision that `options` ask
/// for. Nothing is left behind on failure.
pub fn convert(source: &Path, target: &Path, options: &LoadOptions) -> Result<Written> {
    if target.symlink_metadata().is_ok() {
        return Err(crate::usage!("{}: exists already; give a new name or remove it", target.display()));
    }
    let (checkpoint, mut weights) = weights::load(source, options)?;
    super::read_config(&checkpoint)?;
    weights.check_memory_one_by_one(SHARD_BYTES)?;
    let partial = Partial::create(target)?;
    let mut tensors = TensorWriter::new(&partial.0);
    while let Some((name, matrix)) = weights.take_next()? {
        tensors.add(&name, in_common_type(matrix, &weights)?)?;
    }
    let written = tensors.finish(&checkpoint, &partial.0)?;
    // Reads the heads back: a full disk shows here.
    weights::load(&partial.0, &LoadOptions::default()).context("what was written cannot be read back")?;
    fs::rename(&partial.0, target).with_context(|| format!("{}: cannot be created", target.display()))?;
    Ok(written)
}

/// GGUF mixes types; on the hub all that is not quantised has one.
fn in_common_type(matrix: Matrix, weights: &Weights) -> Result<Matrix> {
    match (matrix, weights.dtype()) {
        (Matrix::Dense(array), Some(dtype)) => Ok(Matrix::Dense(array.as_dtype(dtype)?)),
        (matrix, _) => Ok(matrix),
    }
}

/// A directory beside the target that is removed unless it was renamed.
struct Partial(PathBuf);

impl Partial {
    fn create(target: &Path) -> Result<Self> {
        let name =
            target.file_name().ok_or_else(|| crate::usage!("{}: is no name for a directory", target.display()))?;
        let name = format!(".{}.partial-{}", name.to_string_lossy(), std::process::id());
        let path = target.with_file_name(name);
        fs::create_dir(&path).with_context(|| format!("{}: cannot be created", path.display()))?;
        Ok(Partial(path))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Nothing is there after success; after a failure there is nothing more to be done about another one.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Collects tensors and writes them in shards.
struct TensorWriter<'a> {
    directory: &'a Path,
    pending: Vec<(String, Array)>,
    pending_bytes: usize,
    /// Names of the tensors in each shard written.
    shards: Vec<Vec<String>>,
    bytes: usize,
    dtype: Option<Dtype>,
    /// By module.
    quantized: BTreeMap<String, Quantization>,
}

impl<'a> TensorWriter<'a> {
    fn new(directory: &'a Path) -> Self {
        let (pending, shards, quantized) = Default::default();
        TensorWriter { directory, pending, pending_bytes: 0, shards, bytes: 0, dtype: None, quantized }
    }

    fn add(&mut self, name: &str, matrix: Matrix) -> Result<()> {
        if name == "model.embed_tokens.weight" {
            self.dtype = Some(matrix.dtype());
        }
        self.pending_bytes += matrix.nbytes();
        match matrix {
            Matrix::Dense(array) => self.pending.push((name.to_owned(), array)),
            Matrix::Quantized { weight, scales, biases, group_size, bits } => {
                let module = name.strip_suffix(".weight").unwrap_or(name);
                for (part, array) in [("weight", weight), ("scales", scales), ("biases", biases)] {
                    self.pending.push((format!("{module}.{part}"), array));
                }
                self.quantized.insert(module.to_owned(), Quantization { bits, group_size });
            }
        }
        if self.pending_bytes >= SHARD_BYTES { self.write_shard() } else { Ok(()) }
    }

    fn write_shard(&mut self) -> Result<()> {
        let path = self.shard_path(self.shards.len());
        let format = if self.quantized.is_empty() { "pt" } else { "mlx" };
        let metadata = HashMap::from([("format".to_owned(), format.to_owned())]);
        Array::save_safetensors(self.pending.iter().map(|(name, array)| (name, array)), &metadata, &path)
            .with_context(|| format!("{}: cannot be written (is the disk full?)", path.display()))?;
        self.shards.push(self.pending.drain(..).map(|(name, _)| name).collect());
        self.bytes += std::mem::take(&mut self.pending_bytes);
        Ok(mlx_rs::memory::clear_cache()?)
    }

    fn shard_path(&self, index: usize) -> PathBuf {
        self.directory.join(format!("shard-{index}.safetensors"))
    }

    /// Writes what is pending, names the shards as the hub does, and adds the texts.
    fn finish(mut self, checkpoint: &Checkpoint, directory: &Path) -> Result<Written> {
        self.write_shard()?;
        let count = self.shards.len();
        let mut weight_map = Map::new();
        for (index, tensors) in self.shards.iter().enumerate() {
            let name = match count {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
            };
            fs::rename(self.shard_path(index), directory.join(&name))?;
            weight_map.extend(tensors.iter().map(|tensor| (tensor.clone(), name.clone().into())));
        }
        let Some(dtype) = self.dtype else {
            bail!("{}: tensor 'model.embed_tokens.weight' is missing", checkpoint.path.display());
        };
        let written =
            Written { tensors: weight_map.len(), bytes: self.bytes, dtype, quantization: most_common(&self.quantized) };
        if count > 1 {
            let index = json!({ "metadata": { "total_size": self.bytes }, "weight_map": weight_map });
            write_json(directory, "model.safetensors.index.json", &index)?;
        }
        write_texts(checkpoint, config(checkpoint, &written, &self.quantized), directory)?;
        Ok(written)
    }
}

fn most_common(quantized: &BTreeMap<String, Quantization>) -> Option<Quantization> {
    let uses = |wanted: &Quantization| quantized.values().filter(|other| *other == wanted).count();
    quantized.values().max_by_key(|quantization| uses(quantization)).copied()
}

/// `config.json` for what was written: the float type, and how which modules are quantised.
fn config(checkpoint: &Checkpoint, written: &Written, quantized: &BTreeMap<String, Quantization>) -> Value {
    let mut config = checkpoint.config.clone();
    let key = if config.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
    config[key] = format!("{:?}", written.dtype).to_lowercase().into();
    if let Value::Object(config) = &mut config {
        config.remove("quantization");
        config.remove("quantization_config");
    }
    if let Some(common) = written.quantization {
        let settings = |q: &Quantization| json!({ "group_size": q.group_size, "bits": q.bits, "mode": "affine" });
        let mut all = settings(&common);
        for (module, own) in quantized.iter().filter(|(_, own)| **own != common) {
            all[module] = settings(own);
        }
        // mlx-lm writes it under both names and reads the first; the hub shows the second.
        config["quantization"] = all.clone();
        config["quantization_config"] = all;
    }
    config
}

fn write_texts(checkpoint: &Checkpoint, config: Value, directory: &Path) -> Result<()> {
    write_json(directory, "config.json", &config)?;
    let others = [
        ("tokenizer_config.json", &checkpoint.tokenizer_config),
        ("generation_config.json", &checkpoint.generation_config),
    ];
    for (name, value) in others {
        if !value.is_null() {
            write_json(directory, name, value)?;
        }
    }
    if !checkpoint.tokenizer_json.is_empty() {
        write(directory, "tokenizer.json", &checkpoint.tokenizer_json)?;
    }
    Ok(())
}

fn write_json(directory: &Path, name: &str, value: &Value) -> Result<()> {
    write(directory, name, &format!("{value:#}\n"))
}

fn write(directory: &Path, name: &str, text: &str) -> Result<()> {
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("{}: cannot be written", path.display()))
}
