//! `ridgepoint tune`: the main job, from a scenario to a draft length.

use super::screen::Screen;
use super::{Global, analyze, interrupt};
use crate::machine::device;
use crate::machine::environment::Environment;
use crate::measure::job::Job;
use crate::results::{Design, ResultsDir};
use crate::scenario::{self, parse_budget};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Choose a draft length: measure verification cost and acceptance, time the promising lengths, decide and confirm
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The scenario's TOML file
    scenario: PathBuf,
    /// Where results go, in a folder for the machine and one for the scenario
    #[arg(long, default_value = super::RUNS, value_name = "DIR")]
    results: PathBuf,
    /// The machine's name in the results; derived from what is detected if not given
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Time for the whole job, such as 90s or 5m; the scenario's if not given. Fewer prompts are used if it is short
    #[arg(long, value_name = "TIME", value_parser = parse_budget)]
    budget: Option<Duration>,
    /// Race all draft lengths instead of timing the promising ones on every prompt: at the scenario's looks those that can
    /// no longer be the fastest are dropped, and the race ends as soon as one is good enough
    #[arg(long, conflicts_with = "anytime")]
    race: bool,
    /// Compare so that Ctrl-C may stop at any moment and the answer still holds, with bounds about 1.5 times wider
    #[arg(long)]
    anytime: bool,
    /// Print the decisions as JSON
    #[arg(long)]
    json: bool,
    /// No progress on the terminal
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let started = Instant::now();
    let loaded = scenario::load(&args.scenario)?;
    if loaded.scenario.sweep.is_some() || loaded.scenario.simulated.is_some() {
        let shown = args.scenario.display();
        return Err(crate::usage!("{shown}: has a [sweep] or [simulated] table; run it with ridgepoint sweep"));
    }
    if let Some(name) = args.machine.as_deref().filter(|name| !scenario::is_file_name(name)) {
        return Err(crate::usage!("--machine '{name}' must be 1 to 64 letters, digits, '.', '_' or '-'"));
    }
    let kind = device::select(global.device)?;
    let environment = Environment::detect(kind, args.machine.as_deref())?;
    let folder = args.results.join(&environment.machine).join(&loaded.scenario.name);
    let stop = Arc::new(AtomicBool::new(false));
    let job = Job {
        loaded: &loaded,
        environment: &environment,
        device: kind,
        design: args.design(),
        started,
        budget: args.budget,
        stop: Arc::clone(&stop),
    };
    // A run that may be stopped at any time is complete only when its user says so.
    if args.budget.is_none() && !args.anytime && folder.join("decision.csv").exists() {
        ResultsDir::check(&folder, &job.identity(&job.target()?)?)?;
        eprintln!("{}: complete; remove it or name another folder with --results to measure again", folder.display());
        return analyze::folder(&folder, args.json, false);
    }
    if args.anytime {
        interrupt::stop_on_interrupt(&stop).context("--anytime")?;
    }
    let mut screen = Screen::new(args.quiet);
    let derived = job.run(&folder, &mut screen)?;
    screen.finish();
    analyze::show(&derived, args.json)?;
    if !args.quiet {
        eprintln!("Results: {}", folder.display());
    }
    Ok(())
}

impl Args {
    fn design(&self) -> Design {
        match (self.race, self.anytime) {
            (true, _) => Design::Race,
            (_, true) => Design::AnyTime,
            _ => Design::Blocks,
        }
    }
}
