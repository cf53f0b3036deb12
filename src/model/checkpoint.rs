//! What a checkpoint is, whatever file format it comes in: a `config.json`, a `tokenizer.json`, a chat template and
//! named tensors, all as the hub's safetensors directories have them. A GGUF file is translated into this form.

use anyhow::{Context, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The parts of a checkpoint that are text, in the hub's own formats.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The file or directory it was read from.
    pub path: PathBuf,
    /// `config.json` as on the hub (for GGUF: the same keys, rebuilt from the file's metadata).
    pub config: Value,
    /// `tokenizer.json` as text (for GGUF: rebuilt from the file's metadata).
    pub tokenizer_json: String,
    /// `tokenizer_config.json` as on the hub: `chat_template`, `bos_token`, `eos_token` and so on.
    pub tokenizer_config: Value,
    /// `generation_config.json` where there is one, else null.
    pub generation_config: Value,
}

/// SHA-256 over a checkpoint's weights, in hexadecimal: of the GGUF file, or of a directory's safetensors files in the
/// order of their names.
pub fn weights_sha256(path: &Path) -> Result<String> {
    let mut files = vec![path.to_path_buf()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        files = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors"));
        files.sort();
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for file in files {
        let name = file.display();
        let mut reader = File::open(&file).with_context(|| format!("{name}: cannot be read"))?;
        loop {
            match reader.read(&mut buffer).with_context(|| format!("{name}: cannot be read"))? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
