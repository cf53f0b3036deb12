//! `ridgepoint analyze`: derived files and decisions from raw ones, without a model.

use super::{Global, cost_report};
use crate::analysis::cost::{Settings, analyze_curves};
use crate::analysis::page::page;
use crate::analysis::{
    Choice, Derived, Neighbour, RegimeMap, Rules, choose, complete_blocks, derive, read_minimal, reference, regime_map,
    sweep_folders,
};
use crate::experiment::Baseline;
use crate::report::{
    baseline_notes, category_line, contrast_sentence, decision_table, hypothesis_table, opinions, policy_line, race,
    reference_text, regime_page, regime_table, sentence,
};
use crate::results::{Kind, PredictionRow, RunRow, Stamp, read_llama_bench, read_vllm, write, write_text};
use crate::scenario::REFERENCE_FILE;
use crate::usage;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Rebuild every derived file of a results folder from its raw files, byte for byte, and print the decisions; or decide
/// on any CSV with the columns prompt, arm (the draft length), seconds and tokens; or, of several folders, print the map of
/// their regimes and whether the best draft length differs between them; or, of a published cost curve (reference.toml
/// beside cost.csv), what it implies and what it does not; or, of llama-bench -o json, the cost curve in it; or decide on
/// what vllm bench serve --save-result --save-detailed wrote, one file for each draft length
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Results folders, or one CSV file, or one JSON file of llama-bench, or several of vllm bench serve
    #[arg(value_name = "DIR|FILE", required = true)]
    paths: Vec<PathBuf>,
    /// Of several folders: write regimes.csv and contrasts.csv into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Of several folders of tune, sweep and cost: write one page of Markdown that says which draft length in which regime
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "json"])]
    page: Option<PathBuf>,
    /// Print one JSON object a decision instead of tables
    #[arg(long)]
    json: bool,
    /// Simultaneous confidence (files; a folder has its scenario's)
    #[arg(long, default_value_t = 0.95)]
    confidence: f64,
    /// Loss to the best length that does not matter (files; a folder has its scenario's)
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    margin: f64,
    /// Seed of the resampling (files; a folder has its scenario's)
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Analyse a folder although it mixes machines or versions, and say so
    #[arg(long)]
    allow_mixed: bool,
}

pub fn run(args: &Args, _global: &Global) -> Result<()> {
    if let Some(file) = &args.page {
        return write_page(args, file);
    }
    let files = args.paths.iter().all(|path| is_json(path));
    if args.out.is_some() && (files || args.paths.len() == 1) {
        return Err(usage!("--out: the map of regimes needs several results folders; name more than one"));
    }
    let [path] = args.paths.as_slice() else { return if files { vllm(args) } else { map(args) } };
    if path.join(REFERENCE_FILE).exists() {
        return published(args, path);
    }
    if path.is_dir() {
        folder(path, args.json, args.allow_mixed)
    } else if is_json(path) {
        llama_bench(args, path)
    } else {
        decide(args, &path.display().to_string(), &read_minimal(path)?)
    }
}

fn is_json(path: &Path) -> bool {
    !path.is_dir() && path.extension().is_some_and(|ending| ending == "json")
}

/// Decides on the runs of another program, a file for each draft length.
fn vllm(args: &Args) -> Result<()> {
    let (runs, notes) = read_vllm(&args.paths)?;
    decide(args, "vllm", &runs)?;
    notes.iter().for_each(|note| eprintln!("ridgepoint: note: {note}"));
    Ok(())
}

/// Shows the cost curves of another program.
fn llama_bench(args: &Args, path: &Path) -> Result<()> {
    let (rows, notes) = read_llama_bench(path)?;
    let settings = Settings { confidence: args.confidence, smallest_change: 0.05, ceilings: None, spec: None };
    analyze_curves(&rows, &settings)?.iter().for_each(|curve| cost_report::show(curve, args.json));
    notes.iter().for_each(|note| eprintln!("ridgepoint: note: {note}"));
    Ok(())
}

/// Writes the regime page of the folders.
fn write_page(args: &Args, file: &Path) -> Result<()> {
    let folders: Vec<String> = args.paths.iter().map(|path| path.display().to_string()).collect();
    let command = format!("ridgepoint analyze {} --page {}", folders.join(" "), file.display());
    let page = regime_page(&page(&args.paths)?, &command);
    let (folder, name) = (file.parent().unwrap_or(Path::new("")), file.file_name().unwrap_or_default());
    let name = name.to_str().ok_or_else(|| usage!("--page {}: name a file", file.display()))?;
    write_text(folder, name, &page)?;
    eprintln!("Page: {}", file.display());
    Ok(())
}

/// Prints what a published curve says and what it does not.
fn published(args: &Args, path: &Path) -> Result<()> {
    let reference = reference(path)?;
    match args.json {
        true => println!("{}", serde_json::to_string(&reference)?),
        false => println!("{}", reference_text(&reference)),
    }
    Ok(())
}

/// Prints and writes the map of several folders.
fn map(args: &Args) -> Result<()> {
    for (place, path) in args.paths.iter().enumerate() {
        if !path.is_dir() {
            return Err(usage!("{}: is no folder; give several results folders, or one CSV file", path.display()));
        }
        if kind(path)? == Kind::Cost {
            let shown = path.display();
            return Err(usage!(
                "{shown}: holds verification costs, not decisions; analyse it alone, or name folders of tune"
            ));
        }
        if args.paths[..place].contains(path) {
            return Err(usage!("{}: is given twice; give each folder once", path.display()));
        }
    }
    let map = regime_map(&args.paths, args.allow_mixed)?;
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).with_context(|| format!("--out {}", out.display()))?;
        write(out, &map.regimes)?;
        write(out, &map.contrasts)?;
    }
    show_map(&map, args.json)
}

/// Writes and prints the map of a sweep's cells that are done; the decision if there is one alone.
pub fn sweep(path: &Path, cells: &[PathBuf], json: bool) -> Result<()> {
    match cells {
        [] => {
            eprintln!("ridgepoint: warning: {}: no cell is done", path.display());
            Ok(())
        }
        [cell] => folder(cell, json, false),
        several => {
            let map = regime_map(several, false)?;
            write(path, &map.regimes)?;
            write(path, &map.contrasts)?;
            show_map(&map, json)
        }
    }
}

fn show_map(map: &RegimeMap, json: bool) -> Result<()> {
    if json {
        let (regimes, contrasts) = (&map.regimes, &map.contrasts);
        println!("{}", json!({ "regimes": regimes, "contrasts": contrasts, "warnings": map.warnings }));
        return Ok(());
    }
    println!("{}\n", regime_table(&map.regimes));
    map.contrasts.iter().for_each(|row| println!("{}", contrast_sentence(row)));
    map.warnings.iter().for_each(|warning| eprintln!("ridgepoint: warning: {warning}"));
    Ok(())
}

/// Rebuilds and shows a results folder, whichever command measured it.
pub fn folder(path: &Path, json: bool, allow_mixed: bool) -> Result<()> {
    match Stamp::read(path)?.map(|stamp| stamp.identity.kind) {
        None | Some(Kind::Tune) => tune_folder(path, json, allow_mixed),
        Some(Kind::Cost) => cost_report::folder(path, json, allow_mixed),
        Some(Kind::Baseline) => baseline_folder(path, json),
        Some(Kind::Sweep) => sweep(path, &sweep_folders(path)?, json),
    }
}

/// Rebuilds and shows the verdicts of the baseline experiments.
pub fn baseline_folder(path: &Path, json: bool) -> Result<()> {
    let derived = crate::experiment::baseline(path)?;
    derived.write(path)?;
    if json {
        let Baseline { hypotheses, invalid, samples, ceilings, .. } = &derived;
        println!(
            "{}",
            json!({ "hypotheses": hypotheses, "invalid": invalid, "samples": samples, "ceilings": ceilings })
        );
        return Ok(());
    }
    println!("{}\n", hypothesis_table(&derived));
    baseline_notes(&derived).iter().for_each(|line| println!("{line}"));
    Ok(())
}

fn tune_folder(path: &Path, json: bool, allow_mixed: bool) -> Result<()> {
    let derived = derive(path, allow_mixed)?;
    derived.write(path)?;
    show(&derived, json)
}

/// Which command measured a folder; `tune` where it has no stamp, which is refused later.
fn kind(path: &Path) -> Result<Kind> {
    Ok(Stamp::read(path)?.map_or(Kind::Tune, |stamp| stamp.identity.kind))
}

/// Prints every decision, then the warnings.
pub fn show(derived: &Derived, json: bool) -> Result<()> {
    for regime in &derived.choices {
        if json {
            let mut value = as_json(&regime.choice)?;
            let policies = derived.policies.iter().filter(|row| row.drafter == regime.choice.drafter);
            value["policies"] = json!(policies.collect::<Vec<_>>());
            let categories = derived.categories.iter().filter(|row| row.drafter == regime.choice.drafter);
            value["categories"] = json!(categories.collect::<Vec<_>>());
            println!("{value}");
        } else {
            print(&regime.choice, &derived.predictions);
            let drafter = &regime.choice.drafter;
            policy_line(drafter, &derived.policies).iter().for_each(|line| println!("{line}"));
            let confirmed = regime.choice.confirmation.as_ref();
            let by_category = confirmed.and_then(|one| category_line(drafter, one.draft_length, &derived.categories));
            by_category.iter().for_each(|line| println!("{line}"));
            println!("{}\n", sentence(&regime.choice, regime.why));
        }
    }
    derived.warnings.iter().for_each(|warning| eprintln!("ridgepoint: warning: {warning}"));
    Ok(())
}

/// Decides on runs that were not measured here, and prints it.
fn decide(args: &Args, name: &str, runs: &[RunRow]) -> Result<()> {
    let (confidence, practical_margin, seed) = (args.confidence, args.margin, args.seed);
    let rules = Rules { confidence, practical_margin, seed, method: None, texts_per_prompt: 1 };
    let complete = complete_blocks(runs, "tune", &[])?;
    let choice = choose(name, &complete, &rules)?;
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
        let neighbours = confirmed.neighbours.iter().map(|neighbour| {
            let Neighbour { draft_length, speedup, equivalent } = neighbour;
            json!({ "draft_length": draft_length, "speedup": speedup.value, "low": speedup.low, "high": speedup.high,
                    "p_equivalent": equivalent.map(|pair| pair.test.p) })
        });
        json!({ "draft_length": confirmed.draft_length, "speedup": speedup.value, "low": speedup.low,
                "high": speedup.high, "prompts": confirmed.prompts, "neighbours": neighbours.collect::<Vec<_>>() })
    }));
    let equivalents = choice.equivalents.iter().map(|pair| {
        json!({ "draft_length": pair.draft_length, "reference": pair.reference, "margin": pair.margin, "p": pair.test.p,
                "p_loses_more": pair.test.p_upper })
    });
    value["equivalence"] = json!(equivalents.collect::<Vec<_>>());
    Ok(value)
}
