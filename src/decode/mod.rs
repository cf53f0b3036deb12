//! Decoding: sampling, plain decoding, the speculative round and its acceptance rules.

pub mod accept;
pub mod keys;
pub mod sampling;
