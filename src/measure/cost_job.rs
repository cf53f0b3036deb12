//! `cost`: t(b) of one model on the whole grid of widths, contexts and batches, and its drafters' proposals.

use super::Progress;
use super::cost::{CHAIN, ForwardTimer, begin, proposal, runs_a_sample, sample};
use super::passes::{Passes, Sample, Sampler};
use super::samples::{Limits, Subject};
use crate::decode::sampling::Sampling;
use crate::draft::{Drafter, Prototype};
use crate::machine::device::DeviceKind;
use crate::model::timed::TimedModel;
use crate::results::{CostRow, Mode, ResultsDir, Role, Table};
use crate::roofline::{Ceilings, Forward};
use crate::scenario::{CostPlan, Range};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Passes that a short time budget leaves, at the price of widths: so many samples tell a cliff from noise.
const FEWEST_PASSES: u64 = 3;

/// One model's measurement.
pub struct CostJob<'a> {
    pub plan: &'a CostPlan,
    pub machine: String,
    pub model: &'a TimedModel,
    /// By name.
    pub drafters: Vec<(String, Prototype)>,
    pub device: DeviceKind,
    pub ceilings: Ceilings,
    pub results: &'a ResultsDir,
    /// When to end, if there is a time budget.
    pub deadline: Option<Instant>,
}

impl CostJob<'_> {
    /// The rows of one pass over a plan, target first.
    pub fn rows(plan: &CostPlan, subject: &Subject, drafters: &[(String, Prototype)]) -> Vec<CostRow> {
        let mut rows = Vec::new();
        for context in plan.contexts.values().iter().map(|context| *context as u64) {
            for batch in plan.batches.values().iter().map(|batch| *batch as u64) {
                rows.push(subject.pipelined(context, batch, CHAIN));
                let widths = plan.widths.values().iter().map(|width| *width as u64);
                rows.extend(widths.map(|width| subject.forward(Forward { context, width, batch })));
            }
            for (name, prototype) in drafters {
                let shape = match prototype {
                    Prototype::Model(model) => Some(model.shape()),
                    Prototype::Lookup { .. } | Prototype::Suffix(_) => None,
                };
                let lengths = plan.draft_lengths.values().iter();
                rows.extend(lengths.map(|length| subject.proposal(name, shape.as_ref(), context, *length)));
            }
        }
        rows
    }

    /// How many samples of a plan the results folder lacks.
    pub fn missing(
        plan: &CostPlan,
        subject: &Subject,
        drafters: &[(String, Prototype)],
        results: &ResultsDir,
    ) -> Result<u64> {
        let rows = Self::rows(plan, subject, drafters);
        Ok(Passes { rows: &rows, passes: plan.passes as u64, seed: plan.seed }.missing(&results.table()?))
    }

    /// What the rows of this launch have in common.
    pub fn subject(machine: &str, model: &TimedModel, results: &ResultsDir) -> Subject {
        Subject {
            machine: machine.to_owned(),
            target: model.name.clone(),
            precision: model.transformer.precision(),
            shape: model.transformer.shape(),
            launch: results.launch(),
        }
    }

    /// Measures what the results folder lacks.
    pub fn run(&self, progress: &mut dyn Progress) -> Result<()> {
        let mut table: Table<CostRow> = self.results.table()?;
        let subject = Self::subject(&self.machine, self.model, self.results);
        let mut rows = Self::rows(self.plan, &subject, &self.drafters);
        progress.stage("reading the contexts", 1);
        let mut timers = self.timers()?;
        progress.step();
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let kept = thinned(&rows, left, runs_a_sample(), &mut timers)?;
            if kept.len() < rows.len() {
                progress.note(&format!(
                    "the time budget allows {} of {} widths; more time measures the others too",
                    widths(&kept),
                    widths(&rows)
                ));
                rows = kept;
            }
        }
        timers.limits = Limits::measure(self.device, self.ceilings.bandwidth_bytes_per_s, &rows);
        let passes = Passes { rows: &rows, passes: self.plan.passes as u64, seed: self.plan.seed };
        progress.stage("measuring t(b)", passes.missing(&table) + rows.len() as u64);
        if let Some(pass) = passes.run(&mut table, &mut timers, progress)? {
            let all = self.plan.passes;
            progress.note(&format!(
                "the time budget ended in pass {} of {all}; the same command goes on from here",
                pass + 1
            ));
        }
        Ok(())
    }

    /// Refuses a plan that would outgrow the model's context or the memory.
    pub fn check_room(plan: &CostPlan, model: &TimedModel) -> Result<()> {
        let (contexts, batches) = (plan.contexts.values(), plan.batches.values());
        let drafted = if plan.drafters.is_empty() { 0 } else { last(&plan.draft_lengths) };
        let cached = contexts.iter().map(|context| (context + widest(plan)) * batches.iter().sum::<usize>()).sum();
        model.check_room(last(&plan.contexts) + widest(plan).max(drafted), cached)
    }

    fn timers(&self) -> Result<Timers<'_>> {
        let plan = self.plan;
        let (widest, longest_draft) = (widest(plan), last(&plan.draft_lengths));
        let (contexts, batches) = (plan.contexts.values(), plan.batches.values());
        let text = self.model.tokens(last(&plan.contexts) + widest);
        let mut timers = Timers {
            forwards: BTreeMap::new(),
            drafters: BTreeMap::new(),
            deadline: self.deadline,
            limits: Limits::flat(f64::INFINITY, &[]),
        };
        let read = ForwardTimer::read(&self.model.transformer, &text, last(&plan.contexts))?;
        for &context in contexts {
            for &batch in batches {
                let timer = ForwardTimer::behind(&self.model.transformer, &text, &read, context, widest, batch)?;
                timers.forwards.insert((context as u64, batch as u64), timer);
            }
            // A drafter has at least one token to go on from.
            let prompt = &text[..context.max(1)];
            for (name, prototype) in &self.drafters {
                let mut drafter = prototype.drafter()?;
                begin(drafter.as_mut(), prompt, (prompt.len() + longest_draft) as i32)?;
                timers.drafters.insert((name.clone(), context as u64), (drafter, prompt.to_vec()));
            }
        }
        Ok(timers)
    }
}

/// Everything that is timed, each behind its own context.
struct Timers<'a> {
    /// By context and batch.
    forwards: BTreeMap<(u64, u64), ForwardTimer<'a>>,
    /// By name and context.
    drafters: BTreeMap<(String, u64), Reader>,
    deadline: Option<Instant>,
    /// What no sample can exceed, once it is measured.
    limits: Limits,
}

/// A drafter with the text that it has read.
type Reader = (Box<dyn Drafter>, Vec<u32>);

impl Sampler for Timers<'_> {
    fn time(&mut self, row: &CostRow, taken: Option<usize>) -> Result<Sample> {
        Ok(sample(taken, || self.seconds(row)).map_err(|error| format!("{error:#}")))
    }

    fn go_on(&mut self, _pass: u64) -> Result<bool> {
        Ok(self.deadline.is_none_or(|deadline| Instant::now() < deadline))
    }

    fn most_bandwidth(&self, row: &CostRow) -> f64 {
        self.limits.most(row)
    }
}

impl Timers<'_> {
    fn seconds(&mut self, row: &CostRow) -> Result<f64> {
        if row.role == Role::Drafter {
            let key = (row.drafter.clone(), row.context);
            let (drafter, text) = self.drafters.get_mut(&key).expect("rows and timers follow from one plan");
            return proposal(drafter.as_mut(), text, row.width as usize, &Sampling::GREEDY);
        }
        let timer = self.forwards.get_mut(&(row.context, row.batch)).expect("rows and timers follow from one plan");
        match row.mode {
            Mode::Pipelined => timer.pipelined(row.chain as usize),
            _ => timer.forward(row.width as usize),
        }
    }
}

fn last(range: &Range) -> usize {
    range.values().last().copied().unwrap_or(0)
}

/// The most tokens of one sequence behind a context, those of a pipelined chain included.
fn widest(plan: &CostPlan) -> usize {
    last(&plan.widths).max(CHAIN)
}

/// Different widths of the target.
fn widths(rows: &[CostRow]) -> usize {
    rows.iter().filter(|row| row.role == Role::Target).map(|row| row.width).collect::<BTreeSet<_>>().len()
}

/// The rows that a warm-up and [`FEWEST_PASSES`] passes of `runs` runs a sample have the time for, as foretold by a forward of
/// the narrowest and of the widest kind at each context and batch: all, or every second, fourth, ... width and the two ends.
fn thinned(rows: &[CostRow], time: Duration, runs: u32, sampler: &mut dyn Sampler) -> Result<Vec<CostRow>> {
    let is_forward = |row: &CostRow| row.role == Role::Target && row.mode == Mode::Sync;
    let ends: BTreeSet<u64> = rows.iter().filter(|row| is_forward(row)).map(|row| row.width).collect();
    let (Some(&first), Some(&last)) = (ends.first(), ends.last()) else { return Ok(rows.to_vec()) };
    let mut measured: BTreeMap<(u64, u64, u64), f64> = BTreeMap::new();
    for row in rows.iter().filter(|row| is_forward(row) && (row.width == first || row.width == last)) {
        // The first run of a shape may compile kernels.
        let _ = sampler.time(row, None)?;
        measured.insert((row.context, row.batch, row.width), sampler.time(row, None)?.unwrap_or(0.0));
    }
    let at = |row: &CostRow, width: u64| measured.get(&(row.context, row.batch, width)).copied().unwrap_or(0.0);
    let expected = |row: &CostRow| {
        let (narrow, wide) = (at(row, first), at(row, last));
        match (row.role, row.mode) {
            (Role::Drafter, _) => narrow * row.width as f64,
            (_, Mode::Pipelined) => narrow * row.chain as f64,
            _ => narrow + (wide - narrow) * (row.width - first) as f64 / (last - first).max(1) as f64,
        }
    };
    let all: Vec<u64> = ends.iter().copied().collect();
    let mut stride = 1;
    loop {
        let keep = |width: u64| {
            let place = all.binary_search(&width).unwrap_or(0);
            place.is_multiple_of(stride) || width == last
        };
        let kept: Vec<CostRow> = rows.iter().filter(|row| !is_forward(row) || keep(row.width)).cloned().collect();
        let seconds = (1 + FEWEST_PASSES * u64::from(runs)) as f64 * kept.iter().map(expected).sum::<f64>();
        if seconds <= time.as_secs_f64() || stride >= all.len() {
            return Ok(kept);
        }
        stride *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct AsLongAsWide;
    impl Sampler for AsLongAsWide {
        fn time(&mut self, row: &CostRow, _: Option<usize>) -> Result<Sample> {
            Ok(Ok(row.width as f64))
        }
        fn go_on(&mut self, _: u64) -> Result<bool> {
            Ok(true)
        }
        fn most_bandwidth(&self, _: &CostRow) -> f64 {
            f64::INFINITY
        }
    }

    /// A forward of b tokens takes b seconds: a pass over 1 to 9 takes 45, over 1, 3, 5, 7, 9 takes 25, over 1, 5, 9 takes
    /// 15 and over 1, 9 takes 10.
    #[test]
    fn a_short_budget_leaves_evenly_spread_widths_and_both_ends() {
        let rows: Vec<CostRow> = (1..=9).map(|width| CostRow { width, ..CostRow::default() }).collect();
        let left_of = |seconds: u64, runs: u32| -> Vec<u64> {
            let kept = thinned(&rows, Duration::from_secs(seconds), runs, &mut AsLongAsWide).unwrap();
            kept.iter().map(|row| row.width).collect()
        };
        let left = |seconds| left_of(seconds, 1);
        assert_eq!(left(4 * 45), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(left(4 * 45 - 1), [1, 3, 5, 7, 9]);
        assert_eq!(left(4 * 25 - 1), [1, 5, 9]);
        assert_eq!(left(4 * 15 - 1), [1, 9]);
        assert_eq!(left(1), [1, 9]);
        assert_eq!(left_of(7 * 45, 2), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(left_of(7 * 45 - 1, 2), [1, 3, 5, 7, 9]);
    }
}
