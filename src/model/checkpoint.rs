//! What a checkpoint is, whatever file format it comes in: a `config.json`, a `tokenizer.json`, a chat template and
//! named tensors, all as the hub's safetensors directories have them. A GGUF file is translated into this form.

use serde_json::Value;
use std::path::PathBuf;

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
