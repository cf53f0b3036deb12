//! `ridgepoint schema`: JSON Schemas of the TOML files, for editors.

use super::Global;
use crate::scenario::{KINDS, json_schema_of};
use anyhow::{Context, Result};

/// Print the JSON Schema of a TOML file's kind, from which editors complete and check; docs/schema has them
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The kind of file
    #[arg(value_parser = KINDS)]
    kind: String,
}

pub fn run(args: &Args, _global: &Global) -> Result<()> {
    let schema = json_schema_of(&args.kind).context("the kind was checked")?;
    println!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(())
}
