//! Loading, tokenizing, decoding and drafting, as a library. One program of many files, because linking one takes longer
//! than running it.

mod batch;
mod chat;
mod corrupt_models;
mod gguf;
mod gguf_errors;
mod models;
mod prompt_lookup;
mod safetensors_errors;
mod sampled_replay;
mod sampling;
mod speculative_sampling;
mod stopping;
mod tokenizer;
mod trace;
