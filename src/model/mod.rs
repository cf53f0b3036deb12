//! Models: checkpoint files, families, KV cache, tokenizer, chat template, hub.

pub mod checkpoint;
pub mod gguf;
pub mod hub;
