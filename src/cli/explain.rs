//! `ridgepoint explain`: how a decision came about.

use super::Global;
use crate::analysis::{Derived, derive, sweep_folders};
use crate::report::explain;
use crate::results::{Kind, Stamp};
use crate::usage;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Say in plain words how the decision of a results folder came about: what was traced, measured, predicted, timed, compared
/// and confirmed, each step with its numbers
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Results folders of `tune` or `sweep`
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// Explain a folder although it mixes machines or versions, and say so
    #[arg(long)]
    allow_mixed: bool,
}

pub fn run(args: &Args, _global: &Global) -> Result<()> {
    for folder in &args.folders {
        for derived in decided(folder, args.allow_mixed)? {
            println!("{}\n", explain(&derived).trim_end());
        }
    }
    Ok(())
}

fn decided(folder: &Path, allow_mixed: bool) -> Result<Vec<Derived>> {
    let shown = folder.display();
    match Stamp::read(folder)?.map(|stamp| stamp.identity.kind) {
        Some(Kind::Tune) => Ok(vec![derive(folder, allow_mixed)?]),
        Some(Kind::Sweep) => {
            let derived = |cell: PathBuf| derive(&cell, allow_mixed).with_context(|| cell.display().to_string());
            sweep_folders(folder)?.into_iter().map(derived).collect()
        }
        Some(other) => {
            Err(usage!("{shown}: was measured by {}, which decides nothing; ridgepoint analyze shows it", other.name()))
        }
        None => Err(usage!("{shown}: has no environment.json; name a results folder of tune or sweep")),
    }
}
