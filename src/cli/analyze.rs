//! `ridgepoint analyze`: derived files and decisions from raw ones, without a model.

use super::Global;
use crate::analysis::{Choice, Derived, Rules, choose, complete_blocks, derive, read_minimal};
use crate::report::{decision_table, opinions, race, sentence};
use crate::results::PredictionRow;
use anyhow::Result;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Rebuild every derived file of a results folder from its raw files, byte for byte, and print the decisions; or decide
/// on any CSV with the columns prompt, arm (the draft length), seconds and tokens
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A results folder, or a CSV file
    #[arg(value_name = "DIR|FILE.csv")]
    path: PathBuf,
    /// Print one JSON object a decision instead of tables
    #[arg(long)]
    json: bool,
    /// Simultaneous confidence (CSV files; a folder has its scenario's)
    #[arg(long, default_value_t = 0.95)]
    confidence: f64,
    /// Loss to the best length that does not matter (CSV files; a folder has its scenario's)
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    margin: f64,
    /// Seed of the resampling (CSV files; a folder has its scenario's)
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Analyse a folder although it mixes machines or versions, and say so
    #[arg(long)]
    allow_mixed: bool,
}

pub fn run(args: &Args, _global: &Global) -> Result<()> {
    if args.path.is_dir() { folder(&args.path, args.json, args.allow_mixed) } else { analyze_file(args) }
}

/// Rebuilds and shows a results folder.
pub fn folder(path: &Path, json: bool, allow_mixed: bool) -> Result<()> {
    let derived = derive(path, allow_mixed)?;
    derived.write(path)?;
    show(&derived, json)
}

/// Prints every decision, then the warnings.
pub fn show(derived: &Derived, json: bool) -> Result<()> {
    for regime in &derived.choices {
        if json {
            println!("{}", as_json(&regime.choice)?);
        } else {
            print(&regime.choice, &derived.predictions);
            println!("{}\n", sentence(&regime.choice, regime.why));
        }
    }
    derived.warnings.iter().for_each(|warning| eprintln!("ridgepoint: warning: {warning}"));
    Ok(())
}

fn analyze_file(args: &Args) -> Result<()> {
    let (confidence, practical_margin, seed) = (args.confidence, args.margin, args.seed);
    let rules = Rules { confidence, practical_margin, seed, method: None };
    let complete = complete_blocks(&read_minimal(&args.path)?, "tune", &[])?;
    let choice = choose(&args.path.display().to_string(), &complete, &rules)?;
    if args.json {
        println!("{}", as_json(&choice)?);
    } else {
        print(&choice, &[]);
        println!("{}", sentence(&choice, None));
    }
    Ok(())
}

fn print(choice: &Choice, predictions: &[PredictionRow]) {
    println!("{}", decision_table(choice, predictions));
    race(choice).iter().for_each(|line| println!("{line}"));
    opinions(choice).iter().for_each(|line| println!("{line}"));
    choice.warnings.iter().for_each(|warning| println!("warning: {warning}"));
}

/// The whole decision, with the drafter's name, the confirmation, the looks of a race and the second opinions.
fn as_json(choice: &Choice) -> Result<Value> {
    let mut value = serde_json::to_value(&choice.decision)?;
    value["drafter"] = json!(choice.drafter);
    value["warnings"] = json!(choice.warnings);
    value["looks"] = json!(choice.looks);
    value["sensitivity"] = json!(choice.sensitivity);
    value["validity"] = json!(choice.validity);
    value["confirmed"] = json!(choice.confirmation.as_ref().map(|confirmed| {
        let speedup = &confirmed.speedup;
        json!({ "draft_length": confirmed.draft_length, "speedup": speedup.value, "low": speedup.low,
                "high": speedup.high, "prompts": confirmed.prompts })
    }));
    Ok(value)
}
