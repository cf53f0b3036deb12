//! A tuning job on a model: from a loaded scenario and a folder to the decision.

use super::Progress;
use super::model_executor::{ModelExecutor, Texts};
use super::runs::Drafters;
use super::tune::Tuner;
use crate::analysis::Derived;
use crate::decode::sampling::Sampling;
use crate::draft;
use crate::machine::device::DeviceKind;
use crate::machine::environment::Environment;
use crate::machine::launch::{self, CEILING_TIME};
use crate::model::chat::Message;
use crate::model::hub;
use crate::model::language_model::LanguageModel;
use crate::model::weights::LoadOptions;
use crate::results::{Design, Identity, PromptRow, ResultsDir, StopRuleRow};
use crate::roofline::Ceilings;
use crate::scenario::{self, DraftSpec, Loaded, ModelSource, NamedDraft, PromptInput, Scenario, StopSpec};
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
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

impl Job<'_> {
    /// Where the target's checkpoint is.
    pub fn target(&self) -> Result<PathBuf> {
        match self.loaded.target_source()? {
            ModelSource::Local(path) => Ok(path),
            ModelSource::Hub(name) => hub::resolve(&name),
        }
    }

    /// What the results folder belongs to.
    pub fn identity(&self, target: &Path) -> Result<Identity> {
        let name = target.file_name().unwrap_or(target.as_os_str()).to_string_lossy();
        let environment = self.environment;
        Ok(Identity {
            scenario: self.loaded.scenario.name.clone(),
            scenario_sha256: self.loaded.sha256.clone(),
            prompts_sha256: self.loaded.prompts.sha256.clone(),
            machine: environment.machine.clone(),
            target: name.trim_end_matches(".gguf").to_owned(),
            weights_sha256: crate::model::checkpoint::weights_sha256(target)?,
            mlx: build(environment),
            design: self.design,
            ..Identity::default()
        })
    }

    /// Measures what is missing in the folder, and decides.
    pub fn run(&self, folder: &Path, progress: &mut dyn Progress) -> Result<Derived> {
        let scenario = &self.loaded.scenario;
        // Whatever can be wrong with the input is found before anything is measured.
        progress.stage("loading the models", 1);
        let path = self.target()?;
        let options = LoadOptions { dtype: scenario.target.dtype.map(Into::into), quantize: scenario.target.quantize };
        let target = LanguageModel::load(&path, &options)?;
        let (prompts, tokens) = prompts(self.loaded, &target)?.into_iter().unzip();
        let drafters = drafters(self.loaded, &target)?;
        let identity = self.identity(&path)?;
        let mut results = ResultsDir::open(folder, &identity, scenario)?;
        progress.step();

        let budget = self.budget.unwrap_or(scenario.time_budget);
        let ceilings = self.begin_launch(&mut results, &target, budget, progress)?;
        let sampling = Sampling::new(scenario.temperature as f32, 1.0)?;
        let texts = Texts { prompts: tokens, sampling, seed: scenario.seed };
        let mut executor =
            ModelExecutor::new(&target, drafters, stop_rules(self.loaded), texts, self.device, ceilings, self.started);
        Tuner {
            scenario,
            machine: self.environment.machine.clone(),
            target_name: identity.target.clone(),
            executor: &mut executor,
            prompts,
            results,
            design: self.design,
            budget,
            stop: Arc::clone(&self.stop),
        }
        .run(progress)
    }

    /// Measures the machine's ceilings and notes them with the launch.
    fn begin_launch(
        &self,
        results: &mut ResultsDir,
        target: &LanguageModel,
        budget: Duration,
        progress: &mut dyn Progress,
    ) -> Result<Ceilings> {
        progress.stage("measuring what the machine can do", 2);
        let time = CEILING_TIME.min(budget / 20);
        let dtype = target.transformer.dtype();
        let (ceilings, launch) = launch::measure(self.device, self.environment, dtype, time, &mut || progress.step())?;
        results.begin_launch(launch)?;
        Ok(ceilings)
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
    let longest_draft = scenario.draft_lengths.values().last().copied().unwrap_or(0);
    // A padded verification may be as wide as the widest that is measured.
    let widest_measured = scenario.widths.values().last().copied().unwrap_or(1);
    let beyond = if scenario.pad { longest_draft.max(widest_measured) } else { longest_draft };
    if let Some(context) = scenario.context {
        let widest = scenario.widths.values().last().copied().unwrap_or(1).max(longest_draft + 1);
        target.check_room(context + widest).with_context(|| format!("{}: context", loaded.path.display()))?;
    }
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
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        let row = PromptRow {
            prompt: prompt.id.clone(),
            category: prompt.category.clone(),
            split: if place < scenario.tune_prompts { "tune" } else { "confirm" }.to_owned(),
            place: place as u64,
            prompt_tokens: tokens.len() as u64,
            tokens_sha256: Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        Ok((row, tokens))
    };
    used.iter().enumerate().map(read).collect()
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
