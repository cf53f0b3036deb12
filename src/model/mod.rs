//! Models: checkpoint files, families, KV cache, tokenizer, chat template, hub.

pub mod chat;
pub mod checkpoint;
pub mod gguf;
pub mod token_stream;
pub mod tokenizer;
