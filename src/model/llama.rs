//! Llama 2 and 3, SmolLM2 and everything else that declares `"model_type": "llama"`.

use super::config::{Config, Reader};
use anyhow::Result;

pub fn config(reader: &Reader) -> Result<Config> {
    let tensor_parallel = reader.size_or("pretraining_tp", 1 << 10, 1)?;
    reader.refuse_unless("pretraining_tp", tensor_parallel == 1)?;
    let attention_bias = reader.flag_or("attention_bias", false)?;
    Ok(Config {
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        mlp_bias: reader.flag_or("mlp_bias", false)?,
        ..Config::read(reader)?
    })
}
