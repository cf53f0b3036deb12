//! The main job: measured cost, one trace a prompt, promising arms timed in randomised blocks, and the choice
//! confirmed on fresh prompts. Everything measured goes to the results folder at once, so a killed run resumes.

use super::Progress;
use super::cost::{ForwardTimer, proposal};
use super::runs::{Drafters, run_arm};
use crate::analysis::{Arm, Derived, derive};
use crate::decode::sampling::Sampling;
use crate::decode::{Request, plain};
use crate::machine::bandwidth::BEYOND_CACHES;
use crate::machine::ceilings::reread_gb_s;
use crate::machine::device::DeviceKind;
use crate::model::language_model::LanguageModel;
use crate::results::{CostRow, Design, Mode, PromptRow, ResultsDir, Role, Table, TraceRow};
use crate::roofline::{Ceilings, Forward, ModelShape};
use crate::scenario::Scenario;
use anyhow::{Result, bail};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Passes over the widths and draft lengths that t(b) is measured at.
const PASSES: u64 = 5;
/// Steps of a timed pipelined chain.
const CHAIN: usize = 16;
/// A copy is not as fast as a read, and no ceiling is met exactly: only what is above it by more than this is marked.
const CEILING_TOLERANCE: f64 = 1.1;

/// One prompt of the scenario as the target reads it.
pub struct TunePrompt {
    pub row: PromptRow,
    pub tokens: Vec<u32>,
}

/// What is tuned, and what it is tuned with.
pub struct Tuner<'a> {
    pub scenario: &'a Scenario,
    pub machine: String,
    pub target_name: String,
    pub target: &'a LanguageModel,
    pub drafters: Drafters,
    /// Tuning prompts first, then those that confirm.
    pub prompts: Vec<TunePrompt>,
    pub device: DeviceKind,
    pub ceilings: Ceilings,
    pub results: ResultsDir,
    /// When the draft lengths are compared: once on the promising ones, in a race of all, or at any time.
    pub design: Design,
    /// When the whole job began, set-up included.
    pub started: Instant,
    pub budget: Duration,
    /// Set from outside to stop after the run that is being timed.
    pub stop: Arc<AtomicBool>,
}

impl Tuner<'_> {
    /// Measures what is missing in the results folder, and derives the decision from all of it.
    pub fn run(&mut self, progress: &mut dyn Progress) -> Result<Derived> {
        let mut prompts: Table<PromptRow> = self.results.table()?;
        prompts.complete(self.prompts.iter().map(|prompt| prompt.row.clone()).collect())?;
        self.warm_up(progress)?;
        self.measure_cost(progress)?;
        let plan = self.plan(progress)?;
        self.trace(plan.tune, progress)?;
        match self.design {
            // An earlier launch was done with timing the tuning prompts.
            _ if plan.confirming => {}
            Design::Race => self.race(&plan, progress)?,
            Design::Blocks | Design::AnyTime => {
                let arms = self.promising(&derive(self.results.path(), false)?.predictions);
                let tune: Vec<usize> = (0..plan.tune).collect();
                self.time_blocks("timing the promising draft lengths", &tune, &arms, plan.tune_deadline, progress)?;
            }
        }
        let chosen = self.chosen(&derive(self.results.path(), false)?);
        if chosen.len() > 1 && !self.stopped() {
            let first = self.scenario.tune_prompts;
            let fresh: Vec<usize> = (first..first + plan.confirm).collect();
            self.time_blocks("confirming on fresh prompts", &fresh, &chosen, self.budget, progress)?;
        }
        let derived = derive(self.results.path(), false)?;
        derived.write(self.results.path())?;
        Ok(derived)
    }

    /// Runs every shape once that is timed later.
    fn warm_up(&mut self, progress: &mut dyn Progress) -> Result<()> {
        let longest = self.longest();
        progress.stage("warming up", 1 + self.drafters.len() as u64);
        let prompt = self.prompts[0].tokens.clone();
        run_arm(&self.target.transformer, &mut self.drafters, &Arm::plain(), &prompt, 8)?;
        progress.step();
        let names: Vec<String> = self.drafters.keys().cloned().collect();
        for drafter in names {
            let arm = Arm { drafter, draft_length: longest as u64 };
            run_arm(&self.target.transformer, &mut self.drafters, &arm, &prompt, 8)?;
            progress.step();
        }
        Ok(())
    }

    /// Whether somebody asked to stop.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn longest(&self) -> usize {
        self.scenario.draft_lengths.values().last().copied().unwrap_or(0)
    }

    /// Tokens in the cache while t(b) is measured: half a run beyond the median prompt, unless the scenario says.
    fn context(&self) -> usize {
        self.scenario.context.unwrap_or_else(|| {
            let mut lengths: Vec<usize> = self.prompts.iter().map(|prompt| prompt.tokens.len()).collect();
            lengths.sort_unstable();
            lengths[lengths.len() / 2] + self.scenario.max_tokens / 2
        })
    }

    /// t(b) for every width that a draft length needs and those of the scenario, the pipelined plain step, and every
    /// proposal, in `PASSES` passes, each in its own random order.
    fn measure_cost(&mut self, progress: &mut dyn Progress) -> Result<()> {
        let mut table: Table<CostRow> = self.results.table()?;
        let context = self.context();
        let text: Vec<u32> = self.prompts.iter().flat_map(|prompt| prompt.tokens.iter().copied()).collect();
        let lengths: Vec<usize> = self.scenario.draft_lengths.values().to_vec();
        let mut widths: BTreeSet<usize> = lengths.iter().map(|length| length + 1).collect();
        widths.extend(self.scenario.widths.values());
        let widest = widths.last().copied().unwrap_or(1).max(CHAIN);
        let shape = self.target.transformer.shape();
        self.target.check_room(context + widest)?;

        let mut samples: Vec<CostRow> = widths.iter().map(|width| self.cost_row(&shape, context, *width)).collect();
        let pipelined = CostRow { mode: Mode::Pipelined, chain: CHAIN as u64, ..samples[0].clone() };
        samples.push(pipelined);
        for (name, drafter) in &self.drafters {
            for &length in lengths.iter().filter(|length| **length > 0) {
                samples.push(self.proposal_row(name, drafter.shape().as_ref(), context, length));
            }
        }
        progress.stage("measuring verification cost t(b)", (PASSES + 1) * samples.len() as u64);
        let mut timer = ForwardTimer::new(&self.target.transformer, &text, context, widest)?;
        let prompt: Vec<u32> = text.iter().copied().cycle().take(context.max(1)).collect();
        for drafter in self.drafters.values_mut() {
            drafter.begin(&prompt, (context + self.scenario.draft_lengths.values().last().unwrap_or(&0)) as i32)?;
        }
        let mut time = |row: &CostRow| match (row.role, row.mode) {
            (Role::Drafter, _) => {
                let drafter = self.drafters.get_mut(&row.drafter).expect("rows are made from the drafters");
                proposal(drafter.as_mut(), &prompt, row.width as usize)
            }
            (Role::Target, Mode::Pipelined) => timer.pipelined(CHAIN),
            (Role::Target, Mode::Sync) => timer.forward(row.width as usize),
        };
        let stop = Arc::clone(&self.stop);
        let bandwidth = self.ceilings.bandwidth_bytes_per_s;
        let mut limits: BTreeMap<u64, f64> = samples.iter().map(|row| (working_set(row), bandwidth)).collect();
        for (bytes, limit) in &mut limits {
            *limit = limit.max(1e9 * reread_gb_s(self.device, *bytes as usize));
        }
        let mut order = 0;
        for pass in 0..PASSES {
            let mut samples: Vec<CostRow> = samples.iter().map(|row| CostRow { pass, ..row.clone() }).collect();
            samples.retain(|row| !table.contains(&crate::results::Raw::key(row)));
            if pass == 0 {
                for row in &samples {
                    time(row)?;
                    progress.step();
                }
            }
            let mut rng = ChaCha8Rng::seed_from_u64(self.scenario.seed);
            rng.set_stream(pass);
            samples.shuffle(&mut rng);
            for row in samples {
                check_not_stopped(&stop)?;
                let seconds = time(&row)?;
                let invalid = row.bytes as f64 / seconds > CEILING_TOLERANCE * limits[&working_set(&row)];
                table.append(CostRow { order, time_ms: Some(1e3 * seconds), invalid, ..row })?;
                order += 1;
                progress.step();
            }
        }
        Ok(())
    }

    fn cost_row(&self, shape: &ModelShape, context: usize, width: usize) -> CostRow {
        let forward = Forward { context: context as u64, width: width as u64, batch: 1 };
        CostRow {
            machine: self.machine.clone(),
            target: self.target_name.clone(),
            precision: self.target.transformer.precision(),
            role: Role::Target,
            context: context as u64,
            batch: 1,
            width: width as u64,
            mode: Mode::Sync,
            launch: self.results.launch(),
            chain: 1,
            bytes: shape.bytes(forward),
            flops: shape.flops(forward) as f64,
            ..CostRow::default()
        }
    }

    /// A drafter that runs a model does one forward of width 1 for each token; a lookup moves nothing to speak of.
    fn proposal_row(&self, name: &str, shape: Option<&ModelShape>, context: usize, length: usize) -> CostRow {
        let forward = |shape: &ModelShape| self.cost_row(shape, context, 1);
        let (bytes, flops) = shape.map_or((0, 0.0), |shape| (forward(shape).bytes, forward(shape).flops));
        CostRow {
            role: Role::Drafter,
            drafter: name.to_owned(),
            width: length as u64,
            bytes: length as u64 * bytes,
            flops: length as f64 * flops,
            ..self.cost_row(&self.target.transformer.shape(), context, 1)
        }
    }

    /// Decodes each tuning prompt plainly and asks every drafter at every position.
    fn trace(&mut self, prompts: usize, progress: &mut dyn Progress) -> Result<()> {
        let mut table: Table<TraceRow> = self.results.table()?;
        let (positions, longest) = (self.scenario.max_tokens, self.longest());
        progress.stage("tracing what the drafters propose", (prompts * self.drafters.len()) as u64);
        for TunePrompt { row, tokens } in &self.prompts[..prompts] {
            let mut text: Option<Vec<u32>> = None;
            for (name, drafter) in &mut self.drafters {
                let last = (row.prompt.clone(), name.clone(), positions as u64 - 1);
                if table.contains(&last) {
                    progress.step();
                    continue;
                }
                check_not_stopped(&self.stop)?;
                let text = match &text {
                    Some(text) => text,
                    None => {
                        let more = plain_text(self.target, tokens, positions + longest)?;
                        text.insert([&tokens[..], &more].concat())
                    }
                };
                let matches = drafter.matches(text, tokens.len(), positions, longest)?;
                let rows = matches.iter().enumerate().map(|(position, found)| TraceRow {
                    prompt: row.prompt.clone(),
                    category: row.category.clone(),
                    drafter: name.clone(),
                    position: position as u64,
                    token: text[tokens.len() + position],
                    draft_length_max: longest as u64,
                    drafted: found.proposed as u64,
                    matched: found.matched as u64,
                });
                table.complete(rows.collect())?;
                progress.step();
            }
        }
        Ok(())
    }
}

/// Bytes that a sample reads again and again: those of one forward, in whole sixteenths of what no cache holds.
fn working_set(row: &CostRow) -> u64 {
    const STEP: u64 = BEYOND_CACHES as u64 / 16;
    let forwards = if row.role == Role::Drafter { row.width.max(1) } else { 1 };
    (row.bytes / forwards).next_multiple_of(STEP).clamp(STEP, BEYOND_CACHES as u64)
}

/// Before the first block there is nothing to conclude from.
fn check_not_stopped(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) {
        bail!("stopped before any draft length was timed; the same command goes on from here");
    }
    Ok(())
}

/// What the target commits without a drafter.
pub(super) fn plain_text(target: &LanguageModel, prompt: &[u32], max_tokens: usize) -> Result<Vec<u32>> {
    let request = Request { prompt, max_tokens, sampling: Sampling::GREEDY, seed: 0, end_ids: &[] };
    Ok(plain::decode(&target.transformer, &request, &mut |_| ())?.tokens)
}
