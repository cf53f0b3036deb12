//! `ridgepoint sweep`: many operating points from one scenario, each tuned in its own folder.

use super::screen::Screen;
use super::{Global, analyze};
use crate::analysis::sweep_folders;
use crate::measure::Progress;
use crate::measure::sweep::{SIMULATED, run_cells, simulate};
use crate::report::{sweep_plan, sweep_summary};
use crate::results::{CellRow, Identity, Kind, ResultsDir, ShardOf, read_raw};
use crate::scenario::{self, Cell, Loaded, Shard, parse_budget};
use anyhow::{Result, bail};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Tune every operating point of a scenario: targets x drafts x precisions x contexts x batches of its [sweep] table, each in a
/// folder of its own, then the map of their regimes. A killed sweep goes on where it was, a cell that fails leaves its error and
/// the others run
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The scenarios' TOML files
    #[arg(value_name = "SCENARIO", required = true)]
    scenarios: Vec<PathBuf>,
    /// Where results go, in a folder for the machine, one for the scenario and one for each cell
    #[arg(long, default_value = super::RUNS, value_name = "DIR")]
    results: PathBuf,
    /// The machine's name in the results; derived from what is detected if not given
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Time for each cell, such as 90s or 5m; the scenario's if not given
    #[arg(long, value_name = "TIME", value_parser = parse_budget)]
    budget: Option<Duration>,
    /// Run one part of the cells, such as 2/4, in a folder of its own; `ridgepoint merge` joins the parts
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Print the cells and how long they may take, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// Try cells again that failed
    #[arg(long)]
    retry: bool,
    /// Print the cells and the map of regimes as JSON
    #[arg(long)]
    json: bool,
    /// No progress on the terminal
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    if let Some(name) = args.machine.as_deref().filter(|name| !scenario::is_file_name(name)) {
        return Err(crate::usage!("--machine '{name}' must be 1 to 64 letters, digits, '.', '_' or '-'"));
    }
    let loaded: Vec<Loaded> = args.scenarios.iter().map(|path| scenario::load(path)).collect::<Result<_>>()?;
    for (place, one) in loaded.iter().enumerate() {
        let shown = one.path.display();
        if loaded[..place].iter().any(|other| other.scenario.name == one.scenario.name) {
            return Err(crate::usage!("{shown}: name: '{}' is that of another scenario given", one.scenario.name));
        }
    }
    let mut failed = Vec::new();
    for one in &loaded {
        let sweep = Sweep { args, loaded: one, executor: executor(one, args, global)? };
        if args.dry_run { sweep.show_plan()? } else { failed.extend(sweep.run()?) }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
}

/// What runs the cells.
enum Cells {
    Simulated {
        machine: String,
    },
    #[cfg(feature = "mlx")]
    Model {
        device: crate::machine::device::DeviceKind,
        environment: Box<crate::machine::environment::Environment>,
        /// For each cell; the scenario's if none.
        budget: Option<Duration>,
    },
}

#[cfg(feature = "mlx")]
fn executor(loaded: &Loaded, args: &Args, global: &Global) -> Result<Cells> {
    if loaded.scenario.simulated.is_some() {
        return Ok(Cells::simulated(args));
    }
    let device = crate::machine::device::select(global.device)?;
    let environment = crate::machine::environment::Environment::detect(device, args.machine.as_deref())?;
    Ok(Cells::Model { device, environment: Box::new(environment), budget: args.budget })
}

#[cfg(not(feature = "mlx"))]
fn executor(loaded: &Loaded, args: &Args, _global: &Global) -> Result<Cells> {
    if loaded.scenario.simulated.is_some() {
        return Ok(Cells::simulated(args));
    }
    let shown = loaded.path.display();
    Err(crate::usage!(
        "{shown}: this build cannot run models; build it with MLX, or give the scenario a [simulated] table"
    ))
}

impl Cells {
    fn simulated(args: &Args) -> Cells {
        Cells::Simulated { machine: args.machine.clone().unwrap_or_else(|| SIMULATED.to_string()) }
    }

    fn machine(&self) -> &str {
        match self {
            Cells::Simulated { machine } => machine,
            #[cfg(feature = "mlx")]
            Cells::Model { environment, .. } => &environment.machine,
        }
    }

    /// The library that computes.
    fn build(&self) -> String {
        match self {
            Cells::Simulated { .. } => SIMULATED.to_string(),
            #[cfg(feature = "mlx")]
            Cells::Model { environment, .. } => crate::measure::job::build(environment),
        }
    }

    fn launch(&self) -> Result<serde_json::Value> {
        match self {
            Cells::Simulated { .. } => Ok(json!({ "simulated": true })),
            #[cfg(feature = "mlx")]
            Cells::Model { environment, .. } => Ok(serde_json::to_value(environment)?),
        }
    }

    /// Runs one cell in its folder; its seconds.
    fn measure(&self, cell: &Cell, folder: &Path, progress: &mut dyn Progress) -> Result<f64> {
        match self {
            Cells::Simulated { machine } => simulate(cell, machine, folder, progress),
            #[cfg(feature = "mlx")]
            Cells::Model { device, environment, budget } => {
                let started = std::time::Instant::now();
                let job = crate::measure::job::Job {
                    loaded: &cell.loaded,
                    environment,
                    device: *device,
                    design: crate::results::Design::Blocks,
                    started,
                    budget: *budget,
                    stop: Default::default(),
                };
                job.run(folder, progress)?;
                Ok(started.elapsed().as_secs_f64())
            }
        }
    }
}

/// One scenario's sweep.
struct Sweep<'a> {
    args: &'a Args,
    loaded: &'a Loaded,
    executor: Cells,
}

impl Sweep<'_> {
    fn folder(&self) -> PathBuf {
        let part = self.args.shard.map(Shard::suffix).unwrap_or_default();
        self.args.results.join(self.executor.machine()).join(format!("{}{part}", self.loaded.scenario.name))
    }

    /// The cells of this part, or all.
    fn cells(&self) -> Vec<Cell> {
        let cells = self.loaded.cells();
        match self.args.shard {
            Some(shard) => shard.of(cells),
            None => cells,
        }
    }

    fn budget(&self) -> Duration {
        self.args.budget.unwrap_or(self.loaded.scenario.time_budget)
    }

    fn show_plan(&self) -> Result<()> {
        let (cells, done) = (self.cells(), read_raw::<CellRow>(&self.folder())?);
        println!("{}", sweep_plan(&self.loaded.scenario, &cells, &done, self.budget(), self.args.retry));
        Ok(())
    }

    /// Runs what is missing, then the map; what failed, in words.
    fn run(&self) -> Result<Option<String>> {
        let (folder, cells) = (self.folder(), self.cells());
        let all = self.loaded.cells().len() as u64;
        let identity = Identity {
            scenario: self.loaded.scenario.name.clone(),
            scenario_sha256: self.loaded.sha256.clone(),
            prompts_sha256: self.loaded.prompts.sha256.clone(),
            machine: self.executor.machine().to_string(),
            mlx: self.executor.build(),
            kind: Kind::Sweep,
            shard: self.args.shard.map(|shard| ShardOf { index: shard.index as u64, of: shard.of as u64, cells: all }),
            ..Identity::default()
        };
        let mut results = ResultsDir::open(&folder, &identity, &self.loaded.scenario)?;
        // Launches of a made-up machine are one, so that what comes out does not depend on kills.
        if results.is_new() || self.loaded.scenario.simulated.is_none() {
            results.begin_launch(self.executor.launch()?)?;
        }
        let known: Vec<CellRow> = read_raw(&folder)?;
        let quiet = self.args.quiet;
        if !quiet {
            eprintln!("{}", sweep_summary(&self.loaded.scenario, &cells, &known, self.budget(), self.args.retry));
        }
        let rows = run_cells(&results, &cells, self.args.retry, &mut |cell, folder| {
            if !quiet {
                eprintln!("cell {}", cell.name);
            }
            // Of a made-up cell there is nothing to see.
            let mut screen = Screen::new(quiet || self.loaded.scenario.simulated.is_some());
            let measured = self.executor.measure(cell, folder, &mut screen);
            screen.finish();
            if let (Err(error), false) = (&measured, quiet) {
                eprintln!("cell {} failed: {error:#}", cell.name);
            }
            measured
        })?;
        let folders = sweep_folders(&folder)?;
        if self.args.json {
            println!("{}", json!({ "cells": rows }));
        }
        analyze::sweep(&folder, &folders, self.args.json)?;
        if !quiet {
            eprintln!("Results: {}", folder.display());
        }
        let failed = cells.len() - folders.len();
        let file = folder.join("cells.csv");
        Ok((failed > 0).then(|| format!("{failed} of {} cells failed; see {}", cells.len(), file.display())))
    }
}
