//! The corpus folder: `corpus.json`, and shards of token ids as safetensors.
//!
//! A shard holds `tokens` uint32 `[n, sequence_tokens]` (0 behind the end of a sequence), `lengths` uint32 `[n]` and
//! `loss_from` uint32 `[n]`: the first token whose prediction counts in training, where the assistant's text begins. Files
//! are written under another name and renamed, so a reader and a resumed run see whole ones only.

use crate::results::write_atomically;
use anyhow::{Context, Result, bail};
use mlx_rs::Array;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// The layout of the folder that this program writes and reads.
pub const SCHEMA_VERSION: u32 = 1;
const MANIFEST: &str = "corpus.json";
const LOCK: &str = ".lock";

/// `corpus.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema_version: u32,
    /// The target's name.
    pub target: String,
    /// SHA-256 of the target's weights, in hexadecimal.
    pub target_sha256: String,
    /// Ids that the target knows.
    pub vocab_size: u32,
    /// Tokens of the longest sequence.
    pub sequence_tokens: usize,
    /// Sequences that were written side by side.
    pub batch: usize,
    pub seed: u64,
    /// One in turn for each sequence; 0 is greedy.
    pub temperatures: Vec<f32>,
    /// The float type of the target while it wrote.
    pub precision: String,
    pub sources: Sources,
    pub shards: Vec<Shard>,
}

/// What sequences come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sources {
    /// SHA-256 of the seeds file, in hexadecimal.
    pub seeds_sha256: String,
    /// Plain texts.
    pub texts: Vec<Text>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Text {
    pub file: String,
    pub sha256: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shard {
    pub file: String,
    pub sequences: usize,
    /// Tokens of all sequences, without padding.
    pub tokens: usize,
}

/// One sequence of a shard.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    pub tokens: Vec<u32>,
    /// The first token whose prediction counts.
    pub loss_from: usize,
}

/// A corpus that is being written. It is locked against others that write.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    manifest: Manifest,
    _lock: File,
}

impl Manifest {
    /// Reads the `corpus.json` of a folder.
    pub fn read(folder: &Path) -> Result<Manifest> {
        let path = folder.join(MANIFEST);
        let shown = path.display();
        let text = std::fs::read_to_string(&path).map_err(|error| {
            crate::usage!("{shown}: cannot be read ({error}); name a folder that ridgepoint corpus made")
        })?;
        let mut json = serde_json::Deserializer::from_str(&text);
        let manifest: Manifest = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| crate::usage!("{shown}: {}: {}", error.path(), error.inner()))?;
        match manifest.schema_version {
            SCHEMA_VERSION => Ok(manifest),
            other => Err(crate::usage!("{shown}: schema_version: is {other}, this program reads {SCHEMA_VERSION}")),
        }
    }

    /// Tokens of all shards, without padding.
    pub fn tokens(&self) -> usize {
        self.shards.iter().map(|shard| shard.tokens).sum()
    }

    pub fn sequences(&self) -> usize {
        self.shards.iter().map(|shard| shard.sequences).sum()
    }
}

impl Store {
    /// Opens or makes the folder for a corpus that is `wanted`, whose list of shards does not matter. Refuses a folder with
    /// another corpus or other files.
    pub fn open(folder: &Path, wanted: Manifest) -> Result<Store> {
        let shown = folder.display();
        if !folder.join(MANIFEST).exists() && std::fs::read_dir(folder).is_ok_and(|mut entries| entries.any(|_| true)) {
            let only_lock = std::fs::read_dir(folder)?.filter_map(Result::ok).all(|entry| is_ours(&entry.file_name()));
            if !only_lock {
                return Err(crate::usage!("--out {shown}: holds other files; name a new folder"));
            }
        }
        std::fs::create_dir_all(folder).with_context(|| format!("--out {shown}: cannot be made"))?;
        let lock = lock(folder)?;
        let manifest = match folder.join(MANIFEST).exists() {
            true => resumed(folder, wanted)?,
            false => Manifest { shards: Vec::new(), ..wanted },
        };
        Ok(Store { folder: folder.to_owned(), manifest, _lock: lock })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Writes one shard and lists it.
    pub fn add(&mut self, sequences: &[Sequence]) -> Result<()> {
        let length = self.manifest.sequence_tokens;
        let padded = |sequence: &Sequence| {
            let tokens = sequence.tokens.iter().copied();
            tokens.chain(std::iter::repeat(0)).take(length).collect::<Vec<u32>>()
        };
        let count = sequences.len() as i32;
        let tokens: Vec<u32> = sequences.iter().flat_map(padded).collect();
        let column = |value: fn(&Sequence) -> usize| {
            let values: Vec<u32> = sequences.iter().map(|sequence| value(sequence) as u32).collect();
            Array::from_slice(&values, &[count])
        };
        let arrays = [
            ("tokens", Array::from_slice(&tokens, &[count, length as i32])),
            ("lengths", column(|sequence| sequence.tokens.len())),
            ("loss_from", column(|sequence| sequence.loss_from)),
        ];
        let file = format!("shard-{:05}.safetensors", self.manifest.shards.len());
        let (partial, path) = (self.folder.join(format!(".new-{file}")), self.folder.join(&file));
        let metadata = HashMap::from([("format".to_owned(), "mlx".to_owned())]);
        Array::save_safetensors(arrays.iter().map(|(name, array)| (*name, array)), &metadata, &partial)
            .with_context(|| format!("{}: cannot be written (is the disk full?)", partial.display()))?;
        std::fs::rename(&partial, &path).with_context(|| format!("{}: cannot be made", path.display()))?;
        let tokens = sequences.iter().map(|sequence| sequence.tokens.len()).sum();
        self.manifest.shards.push(Shard { file, sequences: sequences.len(), tokens });
        let text = format!("{}\n", serde_json::to_string_pretty(&self.manifest)?);
        write_atomically(&self.folder.join(MANIFEST), text.as_bytes())
    }
}

/// Whether a file is one that a run leaves which was killed before its first shard was listed.
fn is_ours(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    name == LOCK || name.starts_with(".new-shard-") || name == "shard-00000.safetensors"
}

/// What is there of the corpus that is wanted.
fn resumed(folder: &Path, wanted: Manifest) -> Result<Manifest> {
    let found = Manifest::read(folder)?;
    let (ours, theirs) = (serde_json::to_value(&wanted)?, serde_json::to_value(&found)?);
    for (field, value) in ours.as_object().into_iter().flatten() {
        if field != "shards" && theirs[field] != *value {
            return Err(crate::usage!(
                "--out {}: holds a corpus with another {field}: {}, not {value}; name a new folder",
                folder.display(),
                theirs[field]
            ));
        }
    }
    Ok(found)
}

/// Holds the folder's lock file until dropped; the system releases it when a process dies.
fn lock(folder: &Path) -> Result<File> {
    let shown = folder.display();
    let file = File::options().create(true).truncate(false).write(true).open(folder.join(LOCK));
    let file = file.with_context(|| format!("--out {shown}: cannot be written to"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("--out {shown}: another ridgepoint is writing to this folder; wait for it or name another")
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("--out {shown}: cannot be locked")),
    }
}
