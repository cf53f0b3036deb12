//! GGUF files: our own reader, and the translation into the hub's form.
//!
//! How to add an architecture: one line in `config.rs`, and in `names.rs` the tensors that it adds. How to add a type of
//! quantised blocks: one line in `header.rs` and one case in `blocks.rs`.

pub mod blocks;
mod config;
pub mod header;
pub mod metadata;
mod names;
mod rope;
pub mod tokenizer;

use super::checkpoint::Checkpoint;
use super::stored::{Catalogue, Encoding, Stored, TensorFile, dimensions};
use anyhow::{Context, Result, bail};
use header::{Header, TensorInfo};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Llama 3's scaling of rotary positions, one value for each period; part of the configuration on the hub.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Opens a GGUF file. Reads its head only; the error names the file.
pub fn open(path: &Path) -> Result<(Checkpoint, Catalogue)> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| format!("{name}: cannot be opened"))?;
    let length = file.metadata().with_context(|| format!("{name}: cannot be read"))?.len();
    let header = header::parse(BufReader::new(&file), length).context(name.clone())?;
    let file = TensorFile { path: path.to_owned(), file };
    translate(file, header).context(name)
}

fn translate(file: TensorFile, header: Header) -> Result<(Checkpoint, Catalogue)> {
    let path = file.path.clone();
    let mut catalogue = Catalogue { path: path.clone(), files: vec![file], tensors: BTreeMap::new() };
    let rope_factors = rope_factors(&header, &catalogue)?;
    let config = config::config(&header, rope_factors.as_deref())?;
    for tensor in header.tensors.iter().filter(|tensor| tensor.name != ROPE_FACTORS) {
        add_tensor(&mut catalogue, tensor, &config)?;
    }
    let (tokenizer_json, tokenizer_config) = tokenizer::read(&header.metadata)?;
    let checkpoint = Checkpoint {
        path,
        config,
        tokenizer_json,
        tokenizer_config,
        generation_config: config::generation_config(&header.metadata)?,
    };
    Ok((checkpoint, catalogue))
}

fn add_tensor(catalogue: &mut Catalogue, tensor: &TensorInfo, config: &serde_json::Value) -> Result<()> {
    let shown = tensor.name.escape_debug();
    let Some(name) = names::hub_name(&tensor.name) else {
        bail!(
            "tensor '{shown}' is not part of the architecture '{}'",
            config["model_type"].as_str().unwrap_or_default()
        );
    };
    let mut stored = stored(tensor).with_context(|| format!("tensor '{shown}'"))?;
    if config["model_type"] == "llama" {
        let heads = |key: &str| config[key].as_u64().map(|heads| heads as usize);
        stored.interleaved_heads = match tensor.name.rsplit('.').nth(1) {
            Some("attn_q") => heads("num_attention_heads"),
            Some("attn_k") => heads("num_key_value_heads"),
            _ => None,
        };
    }
    match catalogue.tensors.entry(name) {
        Entry::Occupied(other) => bail!("tensors '{}' and '{shown}' are the same one", other.get().name_in_file),
        Entry::Vacant(entry) => entry.insert(stored),
    };
    Ok(())
}

fn stored(tensor: &TensorInfo) -> Result<Stored> {
    Ok(Stored {
        file: 0,
        name_in_file: tensor.name.clone(),
        encoding: tensor.kind.encoding,
        shape: dimensions(tensor.shape.iter().copied())?,
        offset: tensor.offset,
        bytes: tensor.bytes,
        interleaved_heads: None,
    })
}

fn rope_factors(header: &Header, catalogue: &Catalogue) -> Result<Option<Vec<f32>>> {
    let Some(tensor) = header.tensors.iter().find(|tensor| tensor.name == ROPE_FACTORS) else { return Ok(None) };
    if tensor.kind.encoding != Encoding::F32 || tensor.bytes > 1 << 16 {
        bail!(
            "tensor '{ROPE_FACTORS}' is of type {} and shape {:?}, not a short F32 vector",
            tensor.kind.name,
            tensor.shape
        );
    }
    let bytes = catalogue.read(&stored(tensor)?)?;
    Ok(Some(bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()))
}
