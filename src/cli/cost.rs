//! `ridgepoint cost`: what a forward of b tokens costs, for every b.

use super::screen::Screen;
use super::{Global, cost_report};
use crate::draft::Prototype;
use crate::machine::device::{self, DeviceKind};
use crate::machine::environment::Environment;
use crate::machine::launch::{self, CEILING_TIME};
use crate::measure::Progress;
use crate::measure::cost_job::CostJob;
use crate::model::timed::TimedModel;
use crate::results::{Identity, Kind, ResultsDir};
use crate::scenario::{self, CostPlan, DraftSpec, Dtype, MachineFile, Quantization, Range, StopSpec, parse_budget};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Measure what verification costs: the time of one forward at every width from 1 to 128, with cliffs, ridge and regimes
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Models, measured one after the other: names of scenarios/models/NAME.toml, checkpoints, or hf://org/name[@revision]
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,
    /// Tokens of one sequence in a forward: lists and ranges such as 1-8, 1-17+4 or 1-128*2
    #[arg(long, value_name = "RANGE", default_value = "1-128")]
    widths: Range,
    /// Tokens in the cache before the forward
    #[arg(long, value_name = "RANGE", default_value = "256")]
    contexts: Range,
    /// Sequences in a forward
    #[arg(long, value_name = "RANGE", default_value = "1")]
    batches: Range,
    /// Samples of each width, taken in as many passes over all of them, each in its own random order
    #[arg(long, value_name = "N", default_value_t = 7)]
    passes: usize,
    /// A draft file (see drafts/) whose proposals are timed too; may be given several times
    #[arg(long, value_name = "FILE")]
    draft: Vec<PathBuf>,
    /// Tokens of a drafter's proposal
    #[arg(long, value_name = "RANGE", default_value = "1-16")]
    draft_lengths: Range,
    /// The float type of the weights: float32, float16 or bfloat16; as the model's file says or as stored if not given
    #[arg(long)]
    dtype: Option<Dtype>,
    /// Quantise the weights on load: BITS or BITS:GROUP
    #[arg(long, value_name = "BITS[:GROUP]")]
    quantize: Option<Quantization>,
    /// The data sheet to compare with: a name of scenarios/machines/NAME.toml, or a file; the machine's own if there is one
    #[arg(long, value_name = "NAME")]
    spec: Option<String>,
    /// Of every interval, and of all cliffs of a curve together
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    confidence: f64,
    /// Of the random orders
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Time for all models, such as 90s or 5m. A short one measures fewer widths or passes, and says so
    #[arg(long, value_name = "TIME", value_parser = parse_budget)]
    budget: Option<Duration>,
    /// Where results go, in a folder for the machine and one for the model
    #[arg(long, default_value = super::RUNS, value_name = "DIR")]
    results: PathBuf,
    /// The machine's name in the results; derived from what is detected if not given
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Print one JSON object a curve
    #[arg(long)]
    json: bool,
    /// No progress on the terminal
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let started = Instant::now();
    if let Some(name) = args.machine.as_deref().filter(|name| !scenario::is_file_name(name)) {
        return Err(crate::usage!("--machine '{name}' must be 1 to 64 letters, digits, '.', '_' or '-'"));
    }
    let drafts = drafts(args)?;
    let kind = device::select(global.device)?;
    let environment = Environment::detect(kind, args.machine.as_deref())?;
    let plan = args.plan(&environment.machine, &drafts)?;
    let run = Run { args, kind, environment, drafts };
    for (place, model) in args.models.iter().enumerate() {
        let left = (args.models.len() - place) as u32;
        let budget = args.budget.map(|budget| budget.saturating_sub(started.elapsed()) / left);
        run.model(CostPlan { model: model.clone(), ..plan.clone() }, budget)?;
    }
    Ok(())
}

/// A draft file under the name that results use.
struct Draft {
    name: String,
    file: PathBuf,
    spec: DraftSpec,
}

fn drafts(args: &Args) -> Result<Vec<Draft>> {
    let mut drafts: Vec<Draft> = Vec::new();
    for file in &args.draft {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if drafts.iter().any(|other| other.name == name) {
            return Err(crate::usage!("--draft {}: a second drafter named '{name}'; rename one file", file.display()));
        }
        if StopSpec::read(file)?.is_some() {
            let shown = file.display();
            return Err(crate::usage!(
                "--draft {shown}: has a [stop] table, and what it drafts depends on the text; tune times it, or name a file without"
            ));
        }
        drafts.push(Draft { name, spec: DraftSpec::read(file)?, file: file.clone() });
    }
    Ok(drafts)
}

impl Args {
    fn plan(&self, machine: &str, drafts: &[Draft]) -> Result<CostPlan> {
        let here = std::env::current_dir().context("the current folder cannot be told")?;
        let spec = match &self.spec {
            Some(spec) => Some(MachineFile::named(&here, "--spec", spec)?),
            None => MachineFile::find(&here, machine)?,
        };
        let described = |draft: &Draft| Ok((draft.name.clone(), serde_json::to_value(&draft.spec)?));
        let plan = CostPlan {
            model: String::new(),
            widths: self.widths.clone(),
            contexts: self.contexts.clone(),
            batches: self.batches.clone(),
            passes: self.passes,
            drafters: drafts.iter().map(described).collect::<Result<_>>()?,
            draft_lengths: self.draft_lengths.clone(),
            seed: self.seed,
            confidence: self.confidence,
            smallest_change: 0.05,
            spec,
        };
        plan.validate()
    }
}

/// What all models have in common.
struct Run<'a> {
    args: &'a Args,
    kind: DeviceKind,
    environment: Environment,
    drafts: Vec<Draft>,
}

impl Run<'_> {
    /// Measures one model and shows what it costs.
    fn model(&self, plan: CostPlan, budget: Option<Duration>) -> Result<()> {
        let Run { args, environment, .. } = self;
        let deadline = budget.map(|budget| Instant::now() + budget);
        let mut screen = Screen::new(args.quiet);
        screen.stage("loading the models", 1);
        let model = TimedModel::load(&plan.model, args.dtype, args.quantize)?;
        let prototype =
            |draft: &Draft| Ok((draft.name.clone(), Prototype::timed(&draft.file, &draft.spec, &model.transformer)?));
        let drafters: Vec<(String, Prototype)> = self.drafts.iter().map(prototype).collect::<Result<_>>()?;
        CostJob::check_room(&plan, &model)?;
        let name = folder_name(&model);
        let folder = args.results.join(&environment.machine).join(&name);
        let mut results = ResultsDir::open(&folder, &self.identity(&name, &plan, &model)?, &plan)?;
        screen.step();

        let subject = CostJob::subject(&environment.machine, &model, &results);
        if CostJob::missing(&plan, &subject, &drafters, &results)? == 0 {
            let shown = folder.display();
            eprintln!("{shown}: complete; remove it or name another folder with --results to measure again");
        } else {
            screen.stage("measuring what the machine can do", 2);
            let time = budget.map_or(CEILING_TIME, |budget| CEILING_TIME.min(budget / 20));
            let dtype = model.transformer.dtype();
            let (ceilings, launch) = launch::measure(self.kind, environment, dtype, time, &mut || screen.step())?;
            results.begin_launch(launch)?;
            let (machine, device) = (environment.machine.clone(), self.kind);
            let (plan, model, results) = (&plan, &model, &results);
            CostJob { plan, machine, model, drafters, device, ceilings, results, deadline }.run(&mut screen)?;
        }
        screen.finish();
        cost_report::folder(&folder, args.json, false)?;
        if !args.quiet {
            eprintln!("Results: {}", folder.display());
        }
        Ok(())
    }

    fn identity(&self, name: &str, plan: &CostPlan, model: &TimedModel) -> Result<Identity> {
        let Environment { machine, blas, .. } = &self.environment;
        Ok(Identity {
            scenario: name.to_owned(),
            scenario_sha256: plan.sha256()?,
            machine: machine.clone(),
            target: model.name.clone(),
            weights_sha256: model.weights_sha256.clone(),
            // Another BLAS is another machine as far as times go.
            mlx: format!("{}, {} {}", self.environment.mlx(), blas.name, blas.kernel).trim().to_owned(),
            kind: Kind::Cost,
            ..Identity::default()
        })
    }
}

/// `cost-<model>-<precision>`, of letters, digits, '.', '_' and '-'.
fn folder_name(model: &TimedModel) -> String {
    let name = format!("cost-{}-{}", model.name, model.transformer.precision());
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect()
}
