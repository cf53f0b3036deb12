//! `ridgepoint baseline`: the twelve baseline experiments.

use super::screen::Screen;
use super::{Global, analyze};
use crate::experiment::{DEFAULT_TIME, EXPERIMENTS, Experiment, Lab, ModelAt, Scale};
use crate::machine::environment::Environment;
use crate::machine::{ceilings, device};
use crate::measure::{Progress, job};
use crate::model::timed::TimedModel;
use crate::results::{Identity, Kind, ResultsDir};
use crate::scenario::{self, Quantization, parse_budget};
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// How long copy bandwidth and matrix rates are measured for, each.
const CEILING_TIME: Duration = Duration::from_secs(3);

/// Run the baseline experiments: where a step's time goes on this machine, with a verdict on every hypothesis
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which: all, or numbers and names of --list
    #[arg(value_name = "all|ID", default_value = "all")]
    experiments: Vec<String>,
    /// List the experiments
    #[arg(long)]
    list: bool,
    /// The model of most experiments, a name of scenarios/models/ or a checkpoint; chosen for the machine if not given
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// The float type of that model's activations and weights: float32, float16 or bfloat16
    #[arg(long, requires = "model")]
    dtype: Option<scenario::Dtype>,
    /// Quantise that model's weights: BITS or BITS:GROUP
    #[arg(long, requires = "model", value_name = "BITS[:GROUP]")]
    quantize: Option<Quantization>,
    /// Time for the experiments asked for, such as 5m
    #[arg(long, value_name = "TIME", value_parser = parse_budget)]
    budget: Option<Duration>,
    /// Print what would be measured, and stop
    #[arg(long)]
    dry_run: bool,
    /// Where results go, in a folder for the machine
    #[arg(long, default_value = super::RUNS, value_name = "DIR")]
    results: PathBuf,
    /// The machine's name in the results; derived from what is detected if not given
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Seed of the order in which cases are timed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the verdicts as JSON
    #[arg(long)]
    json: bool,
    /// No progress on the terminal
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    if args.list {
        EXPERIMENTS.iter().for_each(|one| println!("{:2}  {:12}  {}", one.id, one.name, one.question));
        return Ok(());
    }
    let chosen = chosen(&args.experiments)?;
    if let Some(name) = args.machine.as_deref().filter(|name| !scenario::is_file_name(name)) {
        return Err(crate::usage!("--machine '{name}' must be 1 to 64 letters, digits, '.', '_' or '-'"));
    }
    let kind = device::select(global.device)?;
    let environment = Environment::detect(kind, args.machine.as_deref())?;
    let time = args.budget.unwrap_or(DEFAULT_TIME * chosen.len() as u32 / EXPERIMENTS.len() as u32);
    let mut scale = Scale::auto(kind == device::DeviceKind::Gpu, environment.device_memory_bytes, time);
    if let Some(model) = &args.model {
        let dtype = args.dtype.or(scale.main.dtype);
        scale.main = ModelAt { model: model.clone(), dtype, quantize: args.quantize };
    }
    eprintln!("{}", crate::report::scale(&scale));
    if args.dry_run {
        return Ok(());
    }
    // Whatever can be wrong with the input is found before anything is measured.
    let main = TimedModel::load(&scale.main.model, scale.main.dtype, scale.main.quantize)?;
    let folder = args.results.join(&environment.machine).join("baseline");
    let identity = Identity {
        scenario: "baseline".into(),
        machine: environment.machine.clone(),
        target: scale.main.to_string(),
        weights_sha256: main.weights_sha256.clone(),
        mlx: job::build(&environment),
        kind: Kind::Baseline,
        ..Identity::default()
    };
    let mut results = ResultsDir::open(&folder, &identity, &scale)?;
    let mut screen = Screen::new(args.quiet);
    screen.stage("measuring what the machine can do", 3);
    let copy = ceilings::copy_bandwidth(kind, environment.memory_bytes, CEILING_TIME)?;
    screen.step();
    // The best of the types that are used: no sample can be faster than the fastest of them.
    let mut rate = ceilings::matrix_rate(mlx_rs::Dtype::Float32, CEILING_TIME / 2)?;
    if scale.dtype != scenario::Dtype::Float32 {
        let other = ceilings::matrix_rate(scale.dtype.into(), CEILING_TIME / 2)?;
        rate = if other.best_gflop_s > rate.best_gflop_s { other } else { rate };
    }
    screen.step();
    let ceilings = ceilings::ceilings(kind, &copy, &rate);
    screen.step();
    let mut launch = serde_json::to_value(&environment)?;
    launch["ceilings"] = json!(ceilings);
    launch["copy_bandwidth"] = json!(copy);
    launch["matrix_rate"] = json!(rate);
    results.begin_launch(launch)?;
    let share = time / chosen.len().max(1) as u32;
    let mut lab = Lab::new(&scale, kind, environment.machine.clone(), ceilings, &results, args.seed, &mut screen);
    lab.hold(main);
    for experiment in chosen {
        lab.run(experiment, share)?;
    }
    drop(lab);
    screen.finish();
    analyze::baseline_folder(&folder, args.json)?;
    if !args.quiet {
        eprintln!("Results: {}", folder.display());
    }
    Ok(())
}

fn chosen(words: &[String]) -> Result<Vec<&'static Experiment>> {
    if words.iter().any(|word| word == "all") {
        return Ok(EXPERIMENTS.iter().collect());
    }
    let find = |word: &String| {
        EXPERIMENTS.iter().find(|experiment| experiment.is(word)).ok_or_else(|| {
            crate::usage!("there is no baseline experiment '{word}'; ridgepoint baseline --list shows what there is")
        })
    };
    let mut chosen: Vec<&Experiment> = words.iter().map(find).collect::<Result<_>>()?;
    chosen.sort_by_key(|experiment| experiment.id);
    chosen.dedup_by_key(|experiment| experiment.id);
    Ok(chosen)
}
