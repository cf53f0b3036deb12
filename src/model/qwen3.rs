//! Qwen3 (dense): RMS norms over each head of the queries and keys.

use super::config::{Config, Reader};
use anyhow::Result;

pub fn config(reader: &Reader) -> Result<Config> {
    let sliding = reader.flag_or("use_sliding_window", false)?;
    reader.refuse_unless("use_sliding_window", !sliding)?;
    let attention_bias = reader.flag_or("attention_bias", false)?;
    Ok(Config { qk_norm: true, qkv_bias: attention_bias, output_bias: attention_bias, ..Config::read(reader)? })
}
