//! GGUF files: our own reader, and the translation into the hub's form.

pub mod metadata;
