//! Mistral (dense). A sliding window shorter than the context would change the attention, so it bounds the context.

use super::config::{Config, Reader};
use anyhow::Result;

pub fn config(reader: &Reader) -> Result<Config> {
    let config = Config::read(reader)?;
    let window = reader.size_or("sliding_window", i64::from(i32::MAX), i32::MAX)?;
    Ok(Config { max_context: config.max_context.min(window), ..config })
}
