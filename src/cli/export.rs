//! `ridgepoint export`: results in the formats of other programs.

use super::Global;
use crate::results::{CostRow, Stamp, llama_bench_tests, read_raw, write_atomically};
use crate::usage;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Write results in another program's format: every CSV as Parquet, or a cost curve as llama-bench writes its tests
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A results folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[arg(long, value_enum)]
    format: Format,
    /// Where the files go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

// How to add one: a variant, its line in `run`, and a function in `src/results/` that makes its bytes.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Format {
    /// NAME.parquet for each NAME.csv, with the types of its columns
    #[cfg(feature = "parquet")]
    Parquet,
    /// llama-bench.json, which ridgepoint analyze reads too: the target's forwards of one sequence
    LlamaBench,
}

pub fn run(args: &Args, _global: &Global) -> Result<()> {
    let files = match args.format {
        #[cfg(feature = "parquet")]
        Format::Parquet => parquet(&args.folder)?,
        Format::LlamaBench => vec![("llama-bench.json".to_string(), llama_bench(&args.folder)?)],
    };
    std::fs::create_dir_all(&args.out).with_context(|| format!("--out {}", args.out.display()))?;
    for (name, bytes) in files {
        let path = args.out.join(name);
        write_atomically(&path, &bytes)?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Every known CSV of the folder.
#[cfg(feature = "parquet")]
fn parquet(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let schema = crate::results::schema();
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .map_err(|error| usage!("{}: cannot be read ({error}); name a results folder", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    // The samples of an experiment lie in files like 01-bandwidth.csv.
    let numbered = |name: &str| matches!(name.as_bytes(), [b'0'..=b'9', b'0'..=b'9', b'-', ..]);
    let known = |name: &str| match numbered(name) && name.ends_with(".csv") {
        true => schema.iter().find(|(file, _)| *file == "NN-name.csv"),
        false => schema.iter().find(|(file, _)| *file == name),
    };
    let mut files = Vec::new();
    for name in &names {
        let Some((_, columns)) = known(name) else { continue };
        let bytes = crate::results::parquet_of(&folder.join(name), columns)?;
        files.push((format!("{}.parquet", name.trim_end_matches(".csv")), bytes));
    }
    if files.is_empty() {
        return Err(usage!("{}: has no CSV of results; name a folder of a scenario", folder.display()));
    }
    Ok(files)
}

fn llama_bench(folder: &Path) -> Result<Vec<u8>> {
    let rows: Vec<CostRow> = read_raw(folder)?;
    let stamp = Stamp::read(folder)?;
    let launch = stamp.as_ref().and_then(|stamp| stamp.launches.last()).cloned().unwrap_or_default();
    let tests = llama_bench_tests(&rows, &launch);
    if tests.is_empty() {
        return Err(usage!("{}: has no cost.csv with forwards of one sequence", folder.display()));
    }
    Ok((serde_json::to_string_pretty(&tests)? + "\n").into_bytes())
}
