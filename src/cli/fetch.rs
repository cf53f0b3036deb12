//! `ridgepoint fetch`: a checkpoint from the hub into its cache.

use super::Global;
use crate::model::hub::{self, Reference, Settings};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Fetch a checkpoint from the hub into its cache
///
/// Only the configuration, the tokenizer and the safetensors weights (or one GGUF file) are fetched; what broke off
/// goes on. The hub's own variables are followed: HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// hf://org/name[@revision], or hf://org/name/file.gguf[@revision]
    model: String,
}

/// Fetches, and prints the path in the cache.
pub fn run(args: &Args, _global: &Global) -> Result<()> {
    let reference = Reference::parse(&args.model)?;
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
        "{msg:30!} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
    )?);
    let path = hub::fetch(&reference, &Settings::from_env()?, &bar);
    bar.finish_and_clear();
    println!("{}", path?.display());
    Ok(())
}
