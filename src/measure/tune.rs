//! The main job: measured cost, one trace a prompt, promising arms timed in randomised blocks, and the choice
//! confirmed on fresh prompts. Everything measured goes to the results folder at once, so a killed run resumes.

use super::Progress;
use super::cost::{CHAIN, ForwardTimer, proposal};
use super::runs::{Drafters, run_arm};
use super::samples::{Limits, Passes, Subject};
use crate::analysis::{Arm, Derived, derive};
use crate::decode::sampling::Sampling;
use crate::decode::{Request, plain};
use crate::machine::device::DeviceKind;
use crate::model::language_model::LanguageModel;
use crate::results::{CostRow, Design, Mode, PromptRow, ResultsDir, Role, Table, TraceRow};
use crate::roofline::{Ceilings, Forward};
use crate::scenario::Scenario;
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Passes over the widths and draft lengths that t(b) is measured at.
const PASSES: u64 = 5;

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
        self.target.check_room(context + widest)?;

        let subject = Subject {
            machine: self.machine.clone(),
            target: self.target_name.clone(),
            precision: self.target.transformer.precision(),
            shape: self.target.transformer.shape(),
            launch: self.results.launch(),
        };
        let at = context as u64;
        let forward = |width: &usize| subject.forward(Forward { context: at, width: *width as u64, batch: 1 });
        let mut rows: Vec<CostRow> = widths.iter().map(forward).collect();
        rows.push(subject.pipelined(at, 1, CHAIN));
        for (name, drafter) in &self.drafters {
            let shape = drafter.shape();
            let lengths = lengths.iter().filter(|length| **length > 0);
            rows.extend(lengths.map(|length| subject.proposal(name, shape.as_ref(), at, *length)));
        }
        progress.stage("measuring verification cost t(b)", (PASSES + 1) * rows.len() as u64);
        let mut timer = ForwardTimer::new(&self.target.transformer, &text, context, widest, 1)?;
        let prompt: Vec<u32> = text.iter().copied().cycle().take(context.max(1)).collect();
        let room = (context + self.longest()) as i32;
        for drafter in self.drafters.values_mut() {
            drafter.begin(&prompt, room)?;
        }
        let mut time = |row: &CostRow| {
            let seconds = match (row.role, row.mode) {
                (Role::Drafter, _) => {
                    let drafter = self.drafters.get_mut(&row.drafter).expect("rows are made from the drafters");
                    proposal(drafter.as_mut(), &prompt, row.width as usize)
                }
                (Role::Target, Mode::Pipelined) => timer.pipelined(CHAIN),
                (Role::Target, Mode::Sync) => timer.forward(row.width as usize),
            };
            Ok(Ok(seconds?))
        };
        let limits = Limits::measure(self.device, self.ceilings.bandwidth_bytes_per_s, &rows);
        let passes = Passes { rows: &rows, passes: PASSES, seed: self.scenario.seed, limits: &limits };
        let stop = Arc::clone(&self.stop);
        passes.run(&mut table, &mut time, &mut || check_not_stopped(&stop).map(|()| true), progress)?;
        Ok(())
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
