//! Qwen2 and Qwen2.5 (dense): biases on query, key and value.

use super::config::{Config, Reader};
use anyhow::Result;

pub fn config(reader: &Reader) -> Result<Config> {
    let sliding = reader.flag_or("use_sliding_window", false)?;
    reader.refuse_unless("use_sliding_window", !sliding)?;
    Ok(Config { qkv_bias: true, ..Config::read(reader)? })
}
