//! `ridgepoint merge`: the parts of a sweep as one.

use super::{Global, analyze};
use crate::analysis::sweep_folders;
use crate::results::{Stamp, merge_shards};
use crate::usage;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Join the folders of a sweep's parts (sweep --shard) into one, as if one process had run all of it, and print the map.
/// Parts of different scenarios, machines or versions are refused, and so is a sweep with a part missing
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The folder of every part
    #[arg(value_name = "DIR", required = true)]
    shards: Vec<PathBuf>,
    /// The whole sweep's folder; beside the first part, without its "-shard-1-of-4", if not given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the map as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, _global: &Global) -> Result<()> {
    let out = match &args.out {
        Some(out) => out.clone(),
        None => whole(&args.shards[0])?,
    };
    merge_shards(&args.shards, &out)?;
    analyze::sweep(&out, &sweep_folders(&out)?, args.json)?;
    eprintln!("Results: {}", out.display());
    Ok(())
}

/// The part's folder without its suffix.
fn whole(shard: &Path) -> Result<PathBuf> {
    let stamp = Stamp::read(shard)?.filter(|stamp| stamp.identity.shard.is_some());
    match stamp {
        Some(stamp) => Ok(shard.with_file_name(stamp.identity.scenario)),
        None => Err(usage!("{}: is no part of a sweep; name folders of sweep --shard", shard.display())),
    }
}
