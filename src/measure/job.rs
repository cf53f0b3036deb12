//! A tuning job on a model: from a loaded scenario and a folder to the decision.

use super::Progress;
use super::executor::Executor;
use super::model_executor::{ModelExecutor, TargetModel, Texts};
use super::runs::Drafters;
use super::supposed_executor::SupposedExecutor;
use super::tune::Tuner;
use crate::analysis::Derived;
use crate::decode::sampling::Sampling;
use crate::draft::{self, Prototype};
use crate::machine::device::DeviceKind;
use crate::machine::environment::Environment;
use crate::machine::launch::{self, CEILING_TIME};
use crate::model::chat::Message;
use crate::model::hub;
use crate::model::language_model::LanguageModel;
use crate::model::memory;
use crate::model::timed::{SYNTHETIC, TimedModel};
use crate::model::transformer::Transformer;
use crate::model::weights::LoadOptions;
use crate::results::{Design, Identity, PromptRow, ResultsDir, StopRuleRow};
use crate::roofline::Ceilings;
use crate::scenario::{self, DraftSpec, Loaded, ModelFile, ModelSource, NamedDraft, PromptInput, Scenario, StopSpec};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// What is tuned where, and within which time.
pub struct Job<'a> {
    pub loaded: &'a Loaded,
    pub environment: &'a Environment,
    pub device: DeviceKind,
    pub design: Design,
    /// When it began, set-up included.
    pub started: Instant,
    /// The scenario's if none.
    pub budget: Option<Duration>,
    /// Set from outside to stop after the run that is being timed.
    pub stop: Arc<AtomicBool>,
}

/// What is tuned.
pub enum Target {
    /// A checkpoint's file or folder.
    Checkpoint(PathBuf),
    /// Random weights, on which acceptance is supposed.
    Random(ModelFile),
}

impl Job<'_> {
    /// Where the target's weights come from.
    pub fn target(&self) -> Result<Target> {
        if self.loaded.scenario.supposed.is_some() {
            return Ok(Target::Random(self.loaded.random_target()?));
        }
        Ok(Target::Checkpoint(match self.loaded.target_source()? {
            ModelSource::Local(path) => path,
            ModelSource::Hub(name) => hub::resolve(&name)?,
        }))
    }

    /// What the results folder belongs to.
    pub fn identity(&self, target: &Target) -> Result<Identity> {
        let (target, weights_sha256) = match target {
            Target::Checkpoint(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                (name.trim_end_matches(".gguf").to_owned(), crate::model::checkpoint::weights_sha256(path)?)
            }
            Target::Random(file) => (file.name.clone(), SYNTHETIC.to_owned()),
        };
        let environment = self.environment;
        Ok(Identity {
            scenario: self.loaded.scenario.name.clone(),
            scenario_sha256: self.loaded.sha256.clone(),
            prompts_sha256: self.loaded.prompts.sha256.clone(),
            machine: environment.machine.clone(),
            target,
            weights_sha256,
            mlx: build(environment),
            design: self.design,
            ..Identity::default()
        })
    }

    /// Measures what is missing in the folder, and decides.
    pub fn run(&self, folder: &Path, progress: &mut dyn Progress) -> Result<Derived> {
        progress.stage("loading the models", 1);
        let target = self.target()?;
        match &target {
            Target::Checkpoint(path) => self.run_checkpoint(&target, path, folder, progress),
            Target::Random(file) => self.run_supposed(&target, file, folder, progress),
        }
    }

    /// On a checkpoint and the scenario's prompts.
    fn run_checkpoint(
        &self,
        which: &Target,
        path: &Path,
        folder: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Derived> {
        // Whatever can be wrong with the input is found before anything is measured.
        let target = LanguageModel::load(path, &self.options())?;
        let (prompts, tokens) = prompts(self.loaded, &target)?.into_iter().unzip();
        let drafters = drafters(self.loaded, &target)?;
        let rules = stop_rules(self.loaded);
        let (results, ceilings) = self.begin(which, &target.transformer, folder, progress)?;
        let texts = self.texts(tokens)?;
        let (device, started) = (self.device, self.started);
        let model = TargetModel { path, model: &target.transformer };
        let mut executor = ModelExecutor::new(model, drafters, rules, texts, device, ceilings, started);
        self.tune(which, &mut executor, prompts, results, progress)
    }

    /// On random weights and made-up prompts.
    fn run_supposed(
        &self,
        which: &Target,
        file: &ModelFile,
        folder: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Derived> {
        let scenario = &self.loaded.scenario;
        let supposed = scenario.supposed.as_ref().context("the scenario has no [supposed] table")?;
        let target = TimedModel::random(file, &self.options())?;
        let (prompts, tokens) = made_up_prompts(self.loaded, &target)?.into_iter().unzip();
        let drafter = |named: &NamedDraft| {
            let prototype = Prototype::timed(&named.path, &named.spec, &target.transformer)?;
            Ok((named.name.clone(), prototype.drafter()?))
        };
        let drafters: Drafters = self.loaded.drafts.iter().map(drafter).collect::<Result<_>>()?;
        let (results, ceilings) = self.begin(which, &target.transformer, folder, progress)?;
        let texts = self.texts(tokens)?;
        let (device, started) = (self.device, self.started);
        let model = TargetModel { path: &file.path, model: &target.transformer };
        let executor = ModelExecutor::new(model, drafters, Vec::new(), texts, device, ceilings, started);
        let mut executor = SupposedExecutor::new(executor, supposed, longest_draft(scenario), scenario.seed);
        self.tune(which, &mut executor, prompts, results, progress)
    }

    fn options(&self) -> LoadOptions {
        let target = &self.loaded.scenario.target;
        LoadOptions { dtype: target.dtype.map(Into::into), quantize: target.quantize }
    }

    fn texts(&self, prompts: Vec<Vec<u32>>) -> Result<Texts> {
        let scenario = &self.loaded.scenario;
        Ok(Texts { prompts, sampling: Sampling::new(scenario.temperature as f32, 1.0)?, seed: scenario.seed })
    }

    fn budget(&self) -> Duration {
        self.budget.unwrap_or(self.loaded.scenario.time_budget)
    }

    /// Opens the results folder, measures the machine's ceilings and notes them with the launch.
    fn begin(
        &self,
        which: &Target,
        target: &Transformer,
        folder: &Path,
        progress: &mut dyn Progress,
    ) -> Result<(ResultsDir, Ceilings)> {
        let mut results = ResultsDir::open(folder, &self.identity(which)?, &self.loaded.scenario)?;
        progress.step();
        progress.stage("measuring what the machine can do", 2);
        let time = CEILING_TIME.min(self.budget() / 20);
        let dtype = target.dtype();
        let (ceilings, launch) = launch::measure(self.device, self.environment, dtype, time, &mut || progress.step())?;
        results.begin_launch(launch)?;
        Ok((results, ceilings))
    }

    fn tune(
        &self,
        which: &Target,
        executor: &mut dyn Executor,
        prompts: Vec<PromptRow>,
        results: ResultsDir,
        progress: &mut dyn Progress,
    ) -> Result<Derived> {
        Tuner {
            scenario: &self.loaded.scenario,
            machine: self.environment.machine.clone(),
            target_name: self.identity(which)?.target,
            executor,
            prompts,
            results,
            design: self.design,
            budget: self.budget(),
            stop: Arc::clone(&self.stop),
        }
        .run(progress)
    }
}

/// The library that computes, in one line. Another BLAS is another machine as far as times go.
pub fn build(environment: &Environment) -> String {
    format!("{}, {} {}", environment.mlx(), environment.blas.name, environment.blas.kernel).trim().to_owned()
}

/// The prompts that are used, with their tokens. A text that does not fit the model is refused here, not in the middle.
fn prompts(loaded: &Loaded, target: &LanguageModel) -> Result<Vec<(PromptRow, Vec<u32>)>> {
    let scenario = &loaded.scenario;
    let used = &loaded.prompts.prompts[..scenario.tune_prompts + scenario.confirm_prompts];
    let beyond = beyond(scenario);
    check_context(loaded, &mut |tokens| target.check_room(tokens))?;
    let encode = |prompt: &scenario::Prompt| match &prompt.input {
        PromptInput::Text(text) => target.encode_text(text),
        PromptInput::Chat(messages) => {
            let message = |m: &scenario::Message| Message { role: m.role.clone(), content: m.content.clone() };
            target.encode_chat(&messages.iter().map(message).collect::<Vec<_>>())
        }
    };
    let own: Vec<Vec<u32>> = used.iter().map(encode).collect::<Result<_>>()?;
    let read = |(place, prompt): (usize, &scenario::Prompt)| {
        let tokens = filled(scenario, &own, place)
            .with_context(|| format!("prompt '{}' of {}", prompt.id, loaded.path.display()))?;
        target
            .check_room(tokens.len() + scenario.max_tokens + beyond)
            .with_context(|| format!("prompt '{}' of {}", prompt.id, loaded.path.display()))?;
        Ok((row(scenario, prompt.id.clone(), prompt.category.clone(), place, &tokens), tokens))
    };
    used.iter().enumerate().map(read).collect()
}

/// Random tokens for random weights: as many that in the middle of a run the scenario's context is in the cache, or 128.
fn made_up_prompts(loaded: &Loaded, target: &TimedModel) -> Result<Vec<(PromptRow, Vec<u32>)>> {
    const TOKENS: usize = 128;
    let scenario = &loaded.scenario;
    let count = scenario.context.map_or(TOKENS, |context| context.saturating_sub(scenario.max_tokens / 2).max(1));
    let mut check = |tokens: usize| memory::check_room(Path::new(&scenario.target.model), &target.transformer, tokens);
    check_context(loaded, &mut check)?;
    check(count + scenario.max_tokens + beyond(scenario)).with_context(|| loaded.path.display().to_string())?;
    let prompts = scenario.tune_prompts + scenario.confirm_prompts;
    let all = target.tokens(count + prompts);
    let made_up = |place: usize| {
        let tokens = all[place..place + count].to_vec();
        (row(scenario, format!("p{place}"), "random".to_owned(), place, &tokens), tokens)
    };
    Ok((0..prompts).map(made_up).collect())
}

fn row(scenario: &Scenario, prompt: String, category: String, place: usize, tokens: &[u32]) -> PromptRow {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    PromptRow {
        prompt,
        category,
        split: if place < scenario.tune_prompts { "tune" } else { "confirm" }.to_owned(),
        place: place as u64,
        prompt_tokens: tokens.len() as u64,
        tokens_sha256: scenario::sha256_hex(&bytes),
    }
}

fn longest_draft(scenario: &Scenario) -> usize {
    scenario.draft_lengths.values().last().copied().unwrap_or(0)
}

/// Tokens that a run may read beyond those it commits.
fn beyond(scenario: &Scenario) -> usize {
    // A padded verification may be as wide as the widest that is measured.
    let widest_measured = scenario.widths.values().last().copied().unwrap_or(1);
    if scenario.pad { longest_draft(scenario).max(widest_measured) } else { longest_draft(scenario) }
}

/// Refuses a context that t(b) cannot be measured behind.
fn check_context(loaded: &Loaded, check_room: &mut dyn FnMut(usize) -> Result<()>) -> Result<()> {
    let scenario = &loaded.scenario;
    let Some(context) = scenario.context else { return Ok(()) };
    let widest = scenario.widths.values().last().copied().unwrap_or(1).max(longest_draft(scenario) + 1);
    check_room(context + widest).with_context(|| format!("{}: context", loaded.path.display()))
}

/// A prompt's tokens; if a context is to be filled, behind as much of the prompts after it as the context has room for.
fn filled(scenario: &Scenario, own: &[Vec<u32>], place: usize) -> Result<Vec<u32>> {
    let tokens = &own[place];
    let Some(context) = scenario.context.filter(|_| scenario.fill_context) else { return Ok(tokens.clone()) };
    // In the middle of the run the cache then holds the context.
    let wanted = context.saturating_sub(scenario.max_tokens / 2);
    let Some(missing) = wanted.checked_sub(tokens.len()) else {
        return Err(crate::usage!(
            "has {} tokens, which do not fit a context of {context} with {} of output; use a longer context",
            tokens.len(),
            scenario.max_tokens
        ));
    };
    let others = (1..=own.len()).map(|step| &own[(place + step) % own.len()]);
    let front = others.cycle().flatten().copied().take(missing);
    Ok(front.chain(tokens.iter().copied()).collect())
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

/// The drafters with a rule or with several sources.
fn stop_rules(loaded: &Loaded) -> Vec<StopRuleRow> {
    let several = |draft: &NamedDraft| matches!(draft.spec, DraftSpec::Combined(_));
    let row = |draft: &NamedDraft| {
        let same = loaded.drafts.iter().find(|other| other.stop.is_none() && other.spec == draft.spec);
        let row = StopRuleRow {
            drafter: draft.name.clone(),
            rule: draft.stop.as_ref().map_or("", StopSpec::kind).to_string(),
            without_rule: same.map_or(String::new(), |same| same.name.clone()),
            ..StopRuleRow::default()
        };
        match draft.stop {
            Some(StopSpec::PMin { threshold }) => StopRuleRow { threshold: Some(threshold), ..row },
            Some(StopSpec::Entropy { weight, threshold }) => {
                StopRuleRow { weight: Some(weight), threshold: Some(threshold), ..row }
            }
            Some(StopSpec::AcceptanceAverage { memory }) => StopRuleRow { memory: Some(memory), ..row },
            Some(StopSpec::CostAware { .. }) | None => row,
        }
    };
    loaded.drafts.iter().filter(|draft| draft.stop.is_some() || several(draft)).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_context_is_filled_with_other_prompts_in_front() {
        let mut scenario = scenario::load(Path::new("scenarios/quickstart.toml")).unwrap().scenario;
        let own = [vec![1, 2, 3], vec![4, 5], vec![6]];
        assert_eq!(filled(&scenario, &own, 1).unwrap(), [4, 5]);
        (scenario.context, scenario.fill_context, scenario.max_tokens) = (Some(11), true, 8);
        assert_eq!(filled(&scenario, &own, 1).unwrap(), [6, 1, 2, 3, 4, 4, 5]);
        assert_eq!(filled(&scenario, &own, 0).unwrap(), [4, 5, 6, 1, 1, 2, 3]);
        scenario.context = Some(6);
        let error = filled(&scenario, &own, 0).unwrap_err().to_string();
        assert!(error.contains("has 3 tokens, which do not fit a context of 6"), "{error}");
    }
}
