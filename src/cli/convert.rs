//! `ridgepoint convert`: a checkpoint as a directory that mlx-lm and transformers load.

use super::Global;
use crate::model::convert;
use crate::model::hub;
use crate::model::weights::LoadOptions;
use crate::scenario::{Dtype, Quantization};
use anyhow::Result;
use std::path::PathBuf;

/// Write a checkpoint as a directory that mlx-lm and transformers load
///
/// Quantised GGUF matrices become MLX-quantised ones without loss, unless another precision is asked for.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A GGUF file, a directory of safetensors, a name under models/, or hf://org/name[@revision]
    model: String,
    /// The directory to make
    directory: PathBuf,
    /// The float type of the weights: float32, float16 or bfloat16; as stored if not given
    #[arg(long)]
    dtype: Option<Dtype>,
    /// Quantise the weights: BITS or BITS:GROUP
    #[arg(long, value_name = "BITS[:GROUP]")]
    quantize: Option<Quantization>,
}

/// Converts, and prints what was written.
pub fn run(args: &Args, _global: &Global) -> Result<()> {
    let options = LoadOptions { dtype: args.dtype.map(Into::into), quantize: args.quantize };
    let written = convert::convert(&hub::resolve(&args.model)?, &args.directory, &options)?;
    let quantised = written
        .quantization
        .map(|quantization| format!(", {} bits in groups of {}", quantization.bits, quantization.group_size));
    println!(
        "{}: {} tensors, {:.1} MB, {:?}{}",
        args.directory.display(),
        written.tensors,
        written.bytes as f64 / 1e6,
        written.dtype,
        quantised.unwrap_or_default()
    );
    Ok(())
}
