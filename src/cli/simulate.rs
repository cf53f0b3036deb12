//! `ridgepoint simulate`: does the decision keep its promises on data whose truth is known?

use super::Global;
use crate::stats::simulation::{self, Outcome, Plan, RaceOutcome, Simulated, Study};
use crate::usage;
use anyhow::{Context, Result};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Simulate runs whose truth is known (drift, autocorrelation, heavy tails, hiccups; all arms equal, near ties), decide on
/// them as on measured ones, and print how often the answers are wrong
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Numbers of prompts
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "8,12,20,40,100")]
    prompts: Vec<usize>,
    /// Simulated runs of each situation: the Monte-Carlo error of a rate p is the root of p (1 - p) / runs
    #[arg(long, default_value_t = 400)]
    runs: usize,
    /// Simultaneous confidence
    #[arg(long, default_value_t = 0.95)]
    confidence: f64,
    /// Loss to the best length that does not matter
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    margin: f64,
    /// Monte-Carlo draws of each comparison with the best
    #[arg(long, default_value_t = 2_000)]
    draws: usize,
    /// Bootstrap resamples of each interval
    #[arg(long, default_value_t = 400)]
    resamples: usize,
    /// Seed of everything random
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Only situations whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Write calibration.csv and races.csv into this folder
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print one JSON object a situation instead of tables
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, _global: &Global) -> Result<()> {
    let plan = plan(args);
    let chosen = |name: &str| name.contains(&args.only);
    let studies: Vec<Study> = simulation::studies(&plan).into_iter().filter(|study| chosen(&study.name)).collect();
    let races: Vec<_> = simulation::races(&plan).into_iter().filter(|(study, _)| chosen(&study.name)).collect();
    if studies.is_empty() && races.is_empty() {
        return Err(usage!("--only {}: no situation has this in its name; leave it out to see them all", args.only));
    }
    let progress = progress(studies.len() + races.len());
    let mut outcomes = Vec::new();
    for study in &studies {
        progress.set_message(format!("{}, {} prompts", study.name, study.prompts));
        outcomes.push(simulation::run(study).map_err(|error| usage!("{error}"))?);
        progress.inc(1);
    }
    let mut race_outcomes = Vec::new();
    for (study, looks) in &races {
        progress.set_message(format!("race: {}", study.name));
        race_outcomes.push(simulation::run_race(study, looks).map_err(|error| usage!("{error}"))?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    if let Some(folder) = &args.output {
        std::fs::create_dir_all(folder).with_context(|| format!("--output {}", folder.display()))?;
        write_csv(&folder.join("calibration.csv"), outcomes.iter().map(CalibrationRow::from))?;
        write_csv(&folder.join("races.csv"), race_outcomes.iter().map(RaceRow::from))?;
    }
    show(args, &outcomes, &race_outcomes)
}

fn plan(args: &Args) -> Plan {
    Plan {
        prompts: args.prompts.clone(),
        runs: args.runs,
        confidence: args.confidence,
        margin: args.margin,
        draws: args.draws,
        resamples: args.resamples,
        seed: args.seed,
    }
}

fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({eta} left)").expect("a valid template");
    ProgressBar::new(steps as u64).with_style(style)
}

fn show(args: &Args, outcomes: &[Outcome], races: &[RaceOutcome]) -> Result<()> {
    if args.json {
        for outcome in outcomes {
            println!("{}", serde_json::to_string(outcome)?);
        }
        for outcome in races {
            println!("{}", serde_json::to_string(outcome)?);
        }
        return Ok(());
    }
    let confidence = 100.0 * args.confidence;
    println!("{} runs a situation, {confidence:.0} % confidence; ± is the Monte-Carlo standard error\n", args.runs);
    println!("{}\n", calibration_table(outcomes));
    println!("{}", race_table(races));
    Ok(())
}

fn calibration_table(outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "situation",
        "prompts",
        "method",
        "false positive",
        "best excluded",
        "bound broken",
        "covered",
        "set size",
        "undecided",
        "beyond margin",
        "regret",
    ]);
    for outcome in outcomes {
        table.add_row([
            outcome.name.clone(),
            outcome.prompts.to_string(),
            method(outcome),
            per_cent(outcome.false_positive),
            per_cent(Some(outcome.best_excluded)),
            per_cent(Some(outcome.bound_broken)),
            per_cent(outcome.coverage),
            format!("{:.1}", outcome.set_size.value),
            per_cent(Some(outcome.undecided)),
            per_cent(Some(outcome.beyond_margin)),
            per_cent(outcome.regret),
        ]);
    }
    aligned(table)
}

fn race_table(races: &[RaceOutcome]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "race",
        "prompts",
        "looks",
        "timed cells",
        "best dropped",
        "undecided",
        "beyond margin",
        "regret",
    ]);
    for race in races {
        table.add_row([
            race.name.clone(),
            race.prompts.to_string(),
            race.looks.to_string(),
            per_cent(Some(race.timed)),
            per_cent(Some(race.best_dropped)),
            per_cent(Some(race.undecided)),
            per_cent(Some(race.beyond_margin)),
            per_cent(race.regret),
        ]);
    }
    aligned(table)
}

fn aligned(mut table: Table) -> String {
    table.column_iter_mut().skip(1).for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
    table.trim_fmt()
}

fn per_cent(value: Option<Simulated>) -> String {
    let Some(found) = value else { return String::new() };
    let error = found.standard_error.map_or(String::new(), |error| format!(" ± {:.1}", 100.0 * error));
    format!("{:.1}{error} %", 100.0 * found.value)
}

fn method(outcome: &Outcome) -> String {
    serde_json::to_value(outcome.method).ok().and_then(|name| name.as_str().map(String::from)).unwrap_or_default()
}

/// One situation; rates are shares of the runs, `_se` their Monte-Carlo standard errors.
#[derive(Serialize)]
struct CalibrationRow {
    situation: String,
    prompts: usize,
    method: String,
    runs: usize,
    false_positive: Option<f64>,
    false_positive_se: Option<f64>,
    best_excluded: f64,
    best_excluded_se: Option<f64>,
    bound_broken: f64,
    bound_broken_se: Option<f64>,
    interval_coverage: Option<f64>,
    interval_coverage_se: Option<f64>,
    set_size: f64,
    set_size_se: Option<f64>,
    undecided: f64,
    undecided_se: Option<f64>,
    beyond_margin: f64,
    beyond_margin_se: Option<f64>,
    regret: Option<f64>,
    regret_se: Option<f64>,
}

impl From<&Outcome> for CalibrationRow {
    fn from(outcome: &Outcome) -> Self {
        let (value, se) = (|found: Simulated| found.value, |found: Simulated| found.standard_error);
        CalibrationRow {
            situation: outcome.name.clone(),
            prompts: outcome.prompts,
            method: method(outcome),
            runs: outcome.runs,
            false_positive: outcome.false_positive.map(value),
            false_positive_se: outcome.false_positive.and_then(se),
            best_excluded: outcome.best_excluded.value,
            best_excluded_se: outcome.best_excluded.standard_error,
            bound_broken: outcome.bound_broken.value,
            bound_broken_se: outcome.bound_broken.standard_error,
            interval_coverage: outcome.coverage.map(value),
            interval_coverage_se: outcome.coverage.and_then(se),
            set_size: outcome.set_size.value,
            set_size_se: outcome.set_size.standard_error,
            undecided: outcome.undecided.value,
            undecided_se: outcome.undecided.standard_error,
            beyond_margin: outcome.beyond_margin.value,
            beyond_margin_se: outcome.beyond_margin.standard_error,
            regret: outcome.regret.map(value),
            regret_se: outcome.regret.and_then(se),
        }
    }
}

/// One race; rates are shares of the runs, `_se` their Monte-Carlo standard errors.
#[derive(Serialize)]
struct RaceRow {
    situation: String,
    prompts: usize,
    looks: usize,
    runs: usize,
    timed_share: f64,
    timed_share_se: Option<f64>,
    best_dropped: f64,
    best_dropped_se: Option<f64>,
    undecided: f64,
    undecided_se: Option<f64>,
    beyond_margin: f64,
    beyond_margin_se: Option<f64>,
    regret: Option<f64>,
    regret_se: Option<f64>,
}

impl From<&RaceOutcome> for RaceRow {
    fn from(race: &RaceOutcome) -> Self {
        RaceRow {
            situation: race.name.clone(),
            prompts: race.prompts,
            looks: race.looks,
            runs: race.runs,
            timed_share: race.timed.value,
            timed_share_se: race.timed.standard_error,
            best_dropped: race.best_dropped.value,
            best_dropped_se: race.best_dropped.standard_error,
            undecided: race.undecided.value,
            undecided_se: race.undecided.standard_error,
            beyond_margin: race.beyond_margin.value,
            beyond_margin_se: race.beyond_margin.standard_error,
            regret: race.regret.map(|found| found.value),
            regret_se: race.regret.and_then(|found| found.standard_error),
        }
    }
}

/// Writes a whole file or none: under another name first.
fn write_csv<Row: Serialize>(path: &Path, rows: impl Iterator<Item = Row>) -> Result<()> {
    let partial = path.with_extension("csv.partial");
    let write = || -> Result<()> {
        let mut writer = csv::Writer::from_path(&partial)?;
        for row in rows {
            writer.serialize(row)?;
        }
        writer.flush()?;
        Ok(std::fs::rename(&partial, path)?)
    };
    write().with_context(|| format!("{}: cannot be written", path.display()))
}
