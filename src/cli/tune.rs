//! `ridgepoint tune`: the main job, from a scenario to a draft length.

use super::screen::Screen;
use super::{Global, analyze};
use crate::draft;
use crate::machine::environment::Environment;
use crate::machine::launch::CEILING_TIME;
use crate::machine::{device, launch};
use crate::measure::Progress;
use crate::measure::runs::Drafters;
use crate::measure::tune::{TunePrompt, Tuner};
use crate::model::chat::Message;
use crate::model::hub;
use crate::model::language_model::LanguageModel;
use crate::model::weights::LoadOptions;
use crate::results::{Design, Identity, PromptRow, ResultsDir};
use crate::scenario::{self, Loaded, ModelSource, PromptInput, parse_budget};
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Choose a draft length: measure verification cost and acceptance, time the promising lengths, decide and confirm
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The scenario's TOML file
    scenario: PathBuf,
    /// Where results go, in a folder for the machine and one for the scenario
    #[arg(long, default_value = "results", value_name = "DIR")]
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
    if loaded.scenario.temperature > 0.0 {
        return Err(crate::usage!(
            "{}: temperature: tune replays greedy text and cannot choose at {}; set it to 0",
            args.scenario.display(),
            loaded.scenario.temperature
        ));
    }
    if let Some(name) = args.machine.as_deref().filter(|name| !scenario::is_file_name(name)) {
        return Err(crate::usage!("--machine '{name}' must be 1 to 64 letters, digits, '.', '_' or '-'"));
    }
    let kind = device::select(global.device)?;
    let environment = Environment::detect(kind, args.machine.as_deref())?;
    let model_path = match loaded.target_source()? {
        ModelSource::Local(path) => path,
        ModelSource::Hub(name) => hub::resolve(&name)?,
    };
    let design = args.design();
    let identity = || anyhow::Ok(Identity { design, ..identity(&loaded, &environment, &model_path)? });
    let folder = args.results.join(&environment.machine).join(&loaded.scenario.name);
    // A run that may be stopped at any time is complete only when its user says so.
    if args.budget.is_none() && !args.anytime && folder.join("decision.csv").exists() {
        ResultsDir::check(&folder, &identity()?)?;
        eprintln!("{}: complete; remove it or name another folder with --results to measure again", folder.display());
        return analyze::folder(&folder, args.json, false);
    }

    let stop = Arc::new(AtomicBool::new(false));
    if args.anytime {
        stop_on_interrupt(&stop)?;
    }
    // Whatever can be wrong with the input is found before anything is measured.
    let mut screen = Screen::new(args.quiet);
    screen.stage("loading the models", 1);
    let options =
        LoadOptions { dtype: loaded.scenario.target.dtype.map(Into::into), quantize: loaded.scenario.target.quantize };
    let target = LanguageModel::load(&model_path, &options)?;
    let prompts = prompts(&loaded, &target)?;
    let drafters = drafters(&loaded, &target)?;
    let identity = identity()?;
    let mut results = ResultsDir::open(&folder, &identity, &loaded.scenario)?;
    screen.step();

    let budget = args.budget.unwrap_or(loaded.scenario.time_budget);
    screen.stage("measuring what the machine can do", 2);
    let time = CEILING_TIME.min(budget / 20);
    let dtype = target.transformer.dtype();
    let (ceilings, launch) = launch::measure(kind, &environment, dtype, time, &mut || screen.step())?;
    results.begin_launch(launch)?;
    let mut tuner = Tuner {
        scenario: &loaded.scenario,
        machine: environment.machine.clone(),
        target_name: identity.target.clone(),
        target: &target,
        drafters,
        prompts,
        device: kind,
        ceilings,
        results,
        design,
        started,
        budget,
        stop,
    };
    let derived = tuner.run(&mut screen)?;
    screen.finish();
    analyze::show(&derived, args.json)?;
    eprintln!("Results: {}", folder.display());
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

/// The first Ctrl-C asks to stop after the run that is being timed; another one, a second later or more, ends the program at
/// once. Shells and `timeout` may send one interrupt twice.
fn stop_on_interrupt(stop: &Arc<AtomicBool>) -> Result<()> {
    let stop = Arc::clone(stop);
    let mut first: Option<Instant> = None;
    ctrlc::set_handler(move || {
        stop.store(true, Ordering::Relaxed);
        if first.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(1) {
            std::process::exit(130);
        }
    })
    .context("--anytime: Ctrl-C cannot be caught here")
}

fn identity(loaded: &Loaded, environment: &Environment, model: &Path) -> Result<Identity> {
    let target = model.file_name().unwrap_or(model.as_os_str()).to_string_lossy();
    Ok(Identity {
        scenario: loaded.scenario.name.clone(),
        scenario_sha256: loaded.sha256.clone(),
        prompts_sha256: loaded.prompts.sha256.clone(),
        machine: environment.machine.clone(),
        target: target.trim_end_matches(".gguf").to_owned(),
        weights_sha256: crate::model::checkpoint::weights_sha256(model)?,
        // Another BLAS is another machine as far as times go.
        mlx: format!("{}, {} {}", environment.mlx(), environment.blas.name, environment.blas.kernel).trim().to_owned(),
        ..Identity::default()
    })
}

/// The prompts that are used, as tokens. A text that does not fit the model is refused here, not in the middle.
fn prompts(loaded: &Loaded, target: &LanguageModel) -> Result<Vec<TunePrompt>> {
    let scenario = &loaded.scenario;
    let used = scenario.tune_prompts + scenario.confirm_prompts;
    let longest_draft = scenario.draft_lengths.values().last().copied().unwrap_or(0);
    if let Some(context) = scenario.context {
        let widest = scenario.widths.values().last().copied().unwrap_or(1).max(longest_draft + 1);
        target.check_room(context + widest).with_context(|| format!("{}: context", loaded.path.display()))?;
    }
    let read = |(place, prompt): (usize, &scenario::Prompt)| {
        let tokens = match &prompt.input {
            PromptInput::Text(text) => target.encode_text(text)?,
            PromptInput::Chat(messages) => {
                let message = |m: &scenario::Message| Message { role: m.role.clone(), content: m.content.clone() };
                target.encode_chat(&messages.iter().map(message).collect::<Vec<_>>())?
            }
        };
        target
            .check_room(tokens.len() + scenario.max_tokens + longest_draft)
            .with_context(|| format!("prompt '{}' of {}", prompt.id, loaded.path.display()))?;
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        let row = PromptRow {
            prompt: prompt.id.clone(),
            category: prompt.category.clone(),
            split: if place < scenario.tune_prompts { "tune" } else { "confirm" }.to_owned(),
            place: place as u64,
            prompt_tokens: tokens.len() as u64,
            tokens_sha256: Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        Ok(TunePrompt { row, tokens })
    };
    loaded.prompts.prompts.iter().take(used).enumerate().map(read).collect()
}

fn drafters(loaded: &Loaded, target: &LanguageModel) -> Result<Drafters> {
    let build = |named: &scenario::NamedDraft| {
        let find = |name: &str| match ModelSource::find(&named.path, "path", name)? {
            ModelSource::Local(path) => Ok(path),
            ModelSource::Hub(name) => hub::resolve(&name),
        };
        Ok((named.name.clone(), draft::build(&named.path, &named.spec, target, &find)?))
    };
    loaded.drafts.iter().map(build).collect()
}
