//! The main job: measured cost, one trace a prompt, promising arms timed in randomised blocks, and the choice
//! confirmed on fresh prompts. Everything measured goes to the results folder at once, so a killed run resumes.

use super::cost::{ForwardTimer, proposal};
use super::runs::{Drafters, block, first_divergence, logit_margin, run_arm};
use crate::analysis::{Arm, Derived, derive};
use crate::decode::sampling::Sampling;
use crate::decode::{Request, plain};
use crate::model::language_model::LanguageModel;
use crate::results::{Control, CostRow, Mode, PredictionRow, PromptRow, ResultsDir, Role, RunRow, Table, TraceRow};
use crate::roofline::{Ceilings, Forward, ModelShape};
use crate::scenario::Scenario;
use anyhow::Result;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Passes over the widths and draft lengths that t(b) is measured at.
const PASSES: u64 = 5;
/// Steps of a timed pipelined chain.
const CHAIN: usize = 16;
/// A copy is not as fast as a read, and no ceiling is met exactly: only what is above it by more than this is marked.
const CEILING_TOLERANCE: f64 = 1.1;
/// Share of plain decoding's throughput that a draft length must be predicted to reach to be timed.
const WORTH_TIMING: f64 = 0.9;
/// With fewer prompts nothing can be said.
const FEWEST_PROMPTS: usize = 3;

/// One prompt of the scenario as the target reads it.
pub struct TunePrompt {
    pub row: PromptRow,
    pub tokens: Vec<u32>,
}

/// Told what is going on, between timed regions only.
pub trait Progress {
    /// A stage of `steps` steps begins.
    fn stage(&mut self, name: &str, steps: u64);
    /// One step of the stage is done.
    fn step(&mut self);
    /// Something that the reader should know.
    fn note(&mut self, text: &str);
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
    pub ceilings: Ceilings,
    pub results: ResultsDir,
    /// When the whole job began, set-up included.
    pub started: Instant,
    pub budget: Duration,
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
        let arms = self.promising(&derive(self.results.path())?.predictions);
        let tune: Vec<usize> = (0..plan.tune).collect();
        if !plan.confirming {
            self.time_blocks("timing the promising draft lengths", &tune, &arms, plan.tune_deadline, progress)?;
        }
        let chosen = self.chosen(&derive(self.results.path())?);
        if chosen.len() > 1 {
            let first = self.scenario.tune_prompts;
            let fresh: Vec<usize> = (first..first + plan.confirm).collect();
            self.time_blocks("confirming on fresh prompts", &fresh, &chosen, self.budget, progress)?;
        }
        let derived = derive(self.results.path())?;
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
                let seconds = time(&row)?;
                let invalid = row.bytes as f64 / seconds > CEILING_TOLERANCE * self.ceilings.bandwidth_bytes_per_s;
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

    /// How many prompts fit the time that is left.
    fn plan(&self, progress: &mut dyn Progress) -> Result<Plan> {
        let costs: Table<CostRow> = self.results.table()?;
        let of = |role: Role, mode: Mode, width: u64| {
            let mut times: Vec<f64> = costs
                .rows()
                .iter()
                .filter(|row| (row.role, row.mode, row.width) == (role, mode, width))
                .filter_map(|row| row.time_ms)
                .collect();
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).map_or(0.0, |time| time / 1e3)
        };
        let tokens = self.scenario.max_tokens as f64;
        let plain_s = tokens * of(Role::Target, Mode::Sync, 1);
        let arms = (self.scenario.arms * self.drafters.len()) as f64;
        // Tracing decodes the text once; what the drafters read of it is little beside that.
        let tune_s = plain_s * (3.0 + arms);
        let confirm_s = plain_s * (2.0 + self.drafters.len() as f64);
        let (all_tune, all_confirm) = (self.scenario.tune_prompts, self.scenario.confirm_prompts);
        let needed = all_tune as f64 * tune_s + all_confirm as f64 * confirm_s;
        let left = self.budget.saturating_sub(self.started.elapsed()).as_secs_f64();
        let share = (left / needed).min(1.0);
        let part = |all: usize| ((all as f64 * share) as usize).clamp(FEWEST_PROMPTS.min(all), all);
        let (mut tune, confirm) = (part(all_tune), part(all_confirm));
        // What is timed follows from the traces, and what is confirmed from the times. So that a resumed run goes on with
        // the same arms, neither grows once the next stage has begun.
        let runs: Table<RunRow> = self.results.table()?;
        if !runs.rows().is_empty() {
            let traces: Table<TraceRow> = self.results.table()?;
            tune = traces.rows().iter().map(|row| &row.prompt).collect::<BTreeSet<_>>().len();
        }
        let confirming = runs.rows().iter().any(|row| row.split == "confirm");
        if share < 1.0 {
            progress.note(&format!(
                "the time budget allows about {tune} of {all_tune} tuning prompts and {confirm} of {all_confirm} that confirm; intervals are wider for it"
            ));
        }
        let tune_deadline = self.budget.saturating_sub(Duration::from_secs_f64(confirm as f64 * confirm_s));
        Ok(Plan { tune, confirm, tune_deadline, confirming })
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

    /// The draft lengths of each drafter with the highest predicted throughput, and plain decoding. Beyond a drafter's
    /// best one, those are left out that are predicted to lose too much to plain decoding to be worth the time.
    fn promising(&self, predictions: &[PredictionRow]) -> Vec<Arm> {
        let mut arms = vec![Arm::plain()];
        for name in self.drafters.keys() {
            let mut rows: Vec<_> =
                predictions.iter().filter(|row| &row.drafter == name && row.draft_length > 0).collect();
            let predicted = |row: &PredictionRow| row.replay_tok_per_s.unwrap_or(0.0);
            rows.sort_by(|a, b| predicted(b).total_cmp(&predicted(a)));
            let plain = predictions.iter().find(|row| row.draft_length == 0).map_or(0.0, predicted);
            let worth = |place: usize, row: &PredictionRow| place == 0 || predicted(row) > WORTH_TIMING * plain;
            let best = rows.iter().enumerate().take(self.scenario.arms);
            let best = best.filter(|(place, row)| worth(*place, row)).map(|(_, row)| row);
            arms.extend(best.map(|row| Arm { drafter: name.clone(), draft_length: row.draft_length }));
        }
        arms.sort();
        arms
    }

    /// Plain decoding and what is recommended over it, by drafter.
    fn chosen(&self, derived: &Derived) -> Vec<Arm> {
        let mut arms = vec![Arm::plain()];
        for regime in &derived.choices {
            if let Some(length) = regime.choice.decision.recommended.filter(|length| *length > 0) {
                arms.push(Arm { drafter: regime.choice.drafter.clone(), draft_length: length.into() });
            }
        }
        arms
    }

    /// Times one block on each prompt until the deadline, which is checked between blocks. A block that was begun in
    /// an earlier launch is finished.
    fn time_blocks(
        &mut self,
        stage: &str,
        prompts: &[usize],
        arms: &[Arm],
        deadline: Duration,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let mut table: Table<RunRow> = self.results.table()?;
        progress.stage(stage, (prompts.len() * (arms.len() + 1)) as u64);
        for (done, &place) in prompts.iter().enumerate() {
            if done >= FEWEST_PROMPTS && self.started.elapsed() > deadline {
                progress.note(&format!("the time budget ended after {done} of {} prompts", prompts.len()));
                break;
            }
            let mut reference: Option<Vec<u32>> = None;
            for (order, (arm, control)) in block(arms, self.scenario.seed, place as u64).into_iter().enumerate() {
                if !table.contains(&(place as u64, order as u64)) {
                    table.append(self.run_row(place, order, &arm, control, &mut reference)?)?;
                }
                progress.step();
            }
        }
        Ok(())
    }

    fn run_row(
        &mut self,
        place: usize,
        order: usize,
        arm: &Arm,
        control: Control,
        reference: &mut Option<Vec<u32>>,
    ) -> Result<RunRow> {
        let TunePrompt { row, tokens } = &self.prompts[place];
        let blank = RunRow {
            prompt: row.prompt.clone(),
            category: row.category.clone(),
            split: row.split.clone(),
            drafter: arm.drafter.clone(),
            draft_length: arm.draft_length,
            launch: self.results.launch(),
            block: place as u64,
            order: order as u64,
            control,
            started_s: self.started.elapsed().as_secs_f64(),
            ..RunRow::default()
        };
        let max_tokens = self.scenario.max_tokens;
        let run = match run_arm(&self.target.transformer, &mut self.drafters, arm, tokens, max_tokens) {
            Ok(run) => run,
            Err(error) => return Ok(RunRow { error: format!("{error:#}"), ..blank }),
        };
        let reference = match reference {
            Some(reference) => reference,
            None if arm.draft_length == 0 => reference.insert(run.tokens.clone()),
            None => reference.insert(plain_text(self.target, tokens, max_tokens)?),
        };
        let first_divergence = first_divergence(reference, &run.tokens);
        let logit_margin = first_divergence
            .map(|position| logit_margin(&self.target.transformer, &[&tokens[..], &reference[..position]].concat()))
            .transpose()?;
        Ok(RunRow {
            tokens: run.tokens.len() as u64,
            seconds: Some(run.seconds),
            rounds: run.rounds as u64,
            drafted: run.drafted as u64,
            accepted: run.accepted as u64,
            cut_off: run.cut_off as u64,
            first_divergence: first_divergence.map(|position| position as u64),
            logit_margin: logit_margin.map(f64::from),
            ..blank
        })
    }
}

/// How many prompts are used, and when timing the tuning prompts must end so that the choice can be confirmed.
struct Plan {
    tune: usize,
    confirm: usize,
    tune_deadline: Duration,
    /// Whether an earlier launch has begun to confirm the choice.
    confirming: bool,
}

fn plain_text(target: &LanguageModel, prompt: &[u32], max_tokens: usize) -> Result<Vec<u32>> {
    let request = Request { prompt, max_tokens, sampling: Sampling::GREEDY, seed: 0, end_ids: &[] };
    Ok(plain::decode(&target.transformer, &request, &mut |_| ())?.tokens)
}
