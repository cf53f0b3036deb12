//! The main job: measured cost, one trace a prompt, promising arms timed in randomised blocks, and the choice
//! confirmed on fresh prompts. Everything measured goes to the results folder at once, so a killed run resumes.

use super::Progress;
use super::executor::{Executor, Rules, TracedDraft, TracedTokens, Work};
use super::passes::{Passes, Sample, Sampler};
use super::plan::{Pace, Plan};
use crate::analysis::{Arm, Derived, derive, source_name};
use crate::results::{
    CostRow, Design, DraftTokenRow, DraftTraceRow, Mode, PromptRow, ResultsDir, Role, StopRuleRow, Table, TraceRow,
};
use crate::roofline::Forward;
use crate::scenario::Scenario;
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Passes over the widths and draft lengths that t(b) is measured at, and how many are taken whatever the time budget.
const PASSES: u64 = 5;
const FEWEST_PASSES: u64 = 3;
/// Share of what is left of the time budget after which no further pass begins.
const COST_SHARE: f64 = 0.25;
/// Steps of a timed pipelined chain.
pub(super) const CHAIN: usize = 16;

/// What is tuned, and what it is tuned with.
pub struct Tuner<'a> {
    pub scenario: &'a Scenario,
    pub machine: String,
    pub target_name: String,
    pub executor: &'a mut dyn Executor,
    /// Tuning prompts first, then those that confirm.
    pub prompts: Vec<PromptRow>,
    pub results: ResultsDir,
    /// When the draft lengths are compared: once on the promising ones, in a race of all, or at any time.
    pub design: Design,
    pub budget: Duration,
    /// Set from outside to stop after the run that is being timed.
    pub stop: Arc<AtomicBool>,
}

impl Tuner<'_> {
    /// Measures what is missing in the results folder, and derives the decision from all of it.
    pub fn run(&mut self, progress: &mut dyn Progress) -> Result<Derived> {
        let mut prompts: Table<PromptRow> = self.results.table()?;
        prompts.complete(self.prompts.clone())?;
        self.warm_up(progress)?;
        self.measure_cost(progress)?;
        let plan = self.trace(progress)?;
        let Derived { rules, padding, predictions, .. } = derive(self.results.path(), false)?;
        self.executor.use_rules(Rules { stop: rules, padding });
        let tuning_ends = self.tuning_ends(&plan, &predictions)?;
        match self.design {
            // An earlier launch was done with timing the tuning prompts.
            _ if plan.confirming => {}
            Design::Race => self.race(&plan, tuning_ends, progress)?,
            Design::Blocks | Design::AnyTime => {
                let arms = self.promising(&predictions);
                let tune: Vec<usize> = (0..plan.tune).collect();
                self.time_blocks("timing the promising draft lengths", &tune, &arms, tuning_ends, progress)?;
            }
        }
        let chosen = self.chosen(&derive(self.results.path(), false)?);
        if chosen.len() > 1 && !self.stopped() {
            let first = self.scenario.tune_prompts;
            let fresh: Vec<usize> = (first..first + self.scenario.confirm_prompts).collect();
            self.time_blocks("confirming on fresh prompts", &fresh, &chosen, self.budget, progress)?;
        }
        let derived = derive(self.results.path(), false)?;
        derived.write(self.results.path())?;
        Ok(derived)
    }

    /// Runs every arm once, a few tokens long.
    fn warm_up(&mut self, progress: &mut dyn Progress) -> Result<()> {
        let draft_length = self.longest() as u64;
        let drafters = self.executor.drafters();
        progress.stage("warming up", 1 + drafters.len() as u64);
        let drafted = drafters.into_iter().map(|drafter| Arm { drafter, draft_length });
        for arm in std::iter::once(Arm::plain()).chain(drafted) {
            self.executor.warm_up(&arm)?;
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
            let mut lengths: Vec<usize> = self.prompts.iter().map(|prompt| prompt.prompt_tokens as usize).collect();
            lengths.sort_unstable();
            lengths[lengths.len() / 2] + self.scenario.max_tokens / 2
        })
    }

    /// t(b) for every width that a draft length needs and those of the scenario, the pipelined plain step, and every
    /// proposal, in `PASSES` passes, each in its own random order; in fewer where a pass takes much of the time budget.
    fn measure_cost(&mut self, progress: &mut dyn Progress) -> Result<()> {
        let mut table: Table<CostRow> = self.results.table()?;
        let mut rows = self.samples()?;
        // Once something was traced the passes stand: predictions, and what is timed, follow from them.
        let count = match self.results.table::<TraceRow>()?.rows() {
            [] => PASSES,
            _ => {
                // A program that timed no rounds may have begun.
                let has_rounds = table.rows().iter().any(|row| row.mode == Mode::Round);
                rows.retain(|row| row.mode != Mode::Round || has_rounds);
                1 + table.rows().iter().map(|row| row.pass).max().unwrap_or(0)
            }
        };
        let passes = Passes { rows: &rows, passes: count, seed: self.scenario.seed };
        progress.stage("measuring verification cost t(b)", passes.missing(&table) + rows.len() as u64);
        self.executor.prepare(&rows)?;
        let began = self.executor.elapsed();
        let ends = began + self.budget.saturating_sub(began).mul_f64(COST_SHARE);
        let mut sampler = CostSampler { executor: self.executor, stop: &self.stop, ends, pass: 0 };
        if let Some(pass) = passes.run(&mut table, &mut sampler, progress)? {
            progress.note(&format!("the time budget allows {pass} of {count} passes over t(b)"));
        }
        Ok(())
    }

    /// Every sample of one pass.
    fn samples(&self) -> Result<Vec<CostRow>> {
        let context = self.context();
        let lengths: Vec<usize> = self.scenario.draft_lengths.values().to_vec();
        let mut widths: BTreeSet<usize> = lengths.iter().map(|length| length + 1).collect();
        widths.extend(self.scenario.widths.values());
        let widest = widths.last().copied().unwrap_or(1).max(CHAIN);
        self.executor.check_room(context + widest)?;
        let mut samples: Vec<CostRow> = widths.iter().map(|width| self.cost_row(context, *width)).collect();
        let pipelined = CostRow { mode: Mode::Pipelined, chain: CHAIN as u64, ..samples[0].clone() };
        samples.push(pipelined);
        for name in self.executor.drafters() {
            for &length in lengths.iter().filter(|length| **length > 0) {
                samples.push(self.proposal_row(&name, context, length));
                if self.executor.overlaps() {
                    samples.push(self.round_row(&name, context, length));
                }
            }
        }
        Ok(samples)
    }

    fn cost_row(&self, context: usize, width: usize) -> CostRow {
        let batch = self.scenario.batch as u64;
        let Work { bytes, flops } = self.executor.work(Forward { context: context as u64, width: width as u64, batch });
        CostRow {
            machine: self.machine.clone(),
            target: self.target_name.clone(),
            precision: self.executor.precision(),
            role: Role::Target,
            context: context as u64,
            batch,
            width: width as u64,
            mode: Mode::Sync,
            launch: self.results.launch(),
            chain: 1,
            bytes,
            flops,
            ..CostRow::default()
        }
    }

    fn proposal_row(&self, name: &str, context: usize, length: usize) -> CostRow {
        let token = self.executor.draft_work(name, context as u64);
        CostRow {
            role: Role::Drafter,
            drafter: name.to_owned(),
            width: length as u64,
            bytes: length as u64 * token.bytes,
            flops: length as f64 * token.flops,
            ..self.cost_row(context, 1)
        }
    }

    fn round_row(&self, name: &str, context: usize, length: usize) -> CostRow {
        let (proposal, forward) = (self.proposal_row(name, context, length), self.cost_row(context, length + 1));
        let (bytes, flops) = (proposal.bytes + forward.bytes, proposal.flops + forward.flops);
        CostRow { mode: Mode::Round, bytes, flops, ..proposal }
    }

    /// Asks every drafter at every position of what plain decoding commits to the tuning prompts, as many as the time budget
    /// allows. What is done with them.
    fn trace(&mut self, progress: &mut dyn Progress) -> Result<Plan> {
        let mut table: Table<TraceRow> = self.results.table()?;
        let rules = self.executor.stop_rules();
        if !rules.is_empty() {
            self.results.table::<StopRuleRow>()?.complete(rules)?;
        }
        let drafters = self.executor.drafters();
        let (begun, mut pace) = (self.begun(&table)?, self.pace()?);
        let prompts = |tuner: &Self, pace: &Pace| begun.unwrap_or_else(|| tuner.affordable(pace).0);
        progress.stage("tracing what the drafters propose", (prompts(self, &pace) * drafters.len()) as u64);
        let mut place = 0;
        while place < prompts(self, &pace) {
            let (began, held) = (self.executor.elapsed(), table.rows().len());
            for name in &drafters {
                let last = (self.prompts[place].prompt.clone(), name.clone(), self.scenario.max_tokens as u64 - 1);
                if !table.contains(&last) {
                    check_not_stopped(&self.stop)?;
                    self.trace_prompt(place, name, &mut table)?;
                }
                progress.step();
            }
            if table.rows().len() > held {
                pace.traced(self.executor.elapsed().saturating_sub(began));
            }
            place += 1;
        }
        self.plan(place, &pace, progress)
    }

    /// What one drafter would have proposed along what plain decoding commits to a prompt.
    fn trace_prompt(&mut self, place: usize, name: &str, table: &mut Table<TraceRow>) -> Result<()> {
        let prompt = self.prompts[place].clone();
        let (positions, longest) = (self.scenario.max_tokens, self.longest());
        let sampled = self.scenario.temperature > 0.0;
        let with_tokens = self.executor.stop_rules().iter().any(|row| row.drafter == name);
        let tokens = if with_tokens { Some(self.trace_tokens(place, &prompt, name)?) } else { None };
        // Of a sampled text the drafts that a rule sees are greedy ones, and acceptance follows from chances.
        let traced = match tokens {
            Some(lengths) if !sampled => lengths,
            _ => self.executor.trace(place, name, positions, longest)?,
        };
        // First, as the other file's last row says that both are there.
        if sampled {
            self.results.table::<DraftTraceRow>()?.complete(draft_rows(&prompt.prompt, name, &traced))?;
        }
        let rows = traced.iter().enumerate().map(|(position, found)| TraceRow {
            prompt: prompt.prompt.clone(),
            category: prompt.category.clone(),
            drafter: name.to_string(),
            position: position as u64,
            token: found.token,
            draft_length_max: longest as u64,
            drafted: found.drafted as u64,
            matched: found.matched as u64,
        });
        table.complete(rows.collect())
    }
}

impl Tuner<'_> {
    /// Writes down every token that a drafter could draft; how many of them match.
    fn trace_tokens(&mut self, place: usize, prompt: &PromptRow, name: &str) -> Result<Vec<TracedDraft>> {
        let traced = self.executor.trace_tokens(place, name, self.scenario.max_tokens, self.longest())?;
        let mut rows = Vec::new();
        for (position, traced) in traced.iter().enumerate() {
            rows.extend(traced.drafts.iter().enumerate().map(|(place, draft)| DraftTokenRow {
                prompt: prompt.prompt.clone(),
                drafter: name.to_string(),
                position: position as u64,
                draft_position: place as u64 + 1,
                source: source_name(traced.source).to_string(),
                token: draft.token,
                confidence: draft.seen.confidence,
                entropy: draft.seen.entropy,
                matches: draft.matches,
            }));
        }
        self.results.table::<DraftTokenRow>()?.complete(rows)?;
        let lengths = |traced: &TracedTokens| {
            let matched = traced.drafts.iter().take_while(|draft| draft.matches).count();
            TracedDraft::greedy(traced.token, traced.drafts.len(), matched)
        };
        Ok(traced.iter().map(lengths).collect())
    }
}

/// Times the samples of t(b), [`FEWEST_PASSES`] passes at least, others only as long as they begin in time.
struct CostSampler<'a> {
    executor: &'a mut dyn Executor,
    stop: &'a AtomicBool,
    ends: Duration,
    /// The pass that has begun.
    pass: u64,
}

impl Sampler for CostSampler<'_> {
    fn time(&mut self, row: &CostRow, taken: Option<usize>) -> Result<Sample> {
        Ok(Ok(self.executor.time(row, taken)?))
    }

    fn go_on(&mut self, pass: u64) -> Result<bool> {
        check_not_stopped(self.stop)?;
        let begins = pass > self.pass;
        self.pass = pass;
        Ok(!begins || pass < FEWEST_PASSES || self.executor.elapsed() <= self.ends)
    }

    fn most_bandwidth(&self, row: &CostRow) -> f64 {
        self.executor.most_bandwidth(row)
    }
}

/// The chances of every place of every draft.
fn draft_rows(prompt: &str, drafter: &str, traced: &[TracedDraft]) -> Vec<DraftTraceRow> {
    let rows_of = |(position, draft): (usize, &TracedDraft)| {
        let row = |(place, chance): (usize, &f32)| DraftTraceRow {
            prompt: prompt.to_owned(),
            drafter: drafter.to_owned(),
            position: position as u64,
            draft_position: place as u64 + 1,
            acceptance_probability: *chance,
        };
        draft.chances.iter().enumerate().map(row).collect::<Vec<_>>()
    };
    traced.iter().enumerate().flat_map(rows_of).collect()
}

/// Before the first block there is nothing to conclude from.
fn check_not_stopped(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) {
        bail!("stopped before any draft length was timed; the same command goes on from here");
    }
    Ok(())
}
