//! What is timed: how many prompts fit the time, which draft lengths are worth it, when a race looks.

use super::Progress;
use super::tune::Tuner;
use crate::analysis::{Arm, Derived};
use crate::results::{CostRow, Design, LookRow, Mode, PredictionRow, Role, RunRow, Table, TraceRow};
use crate::stats::sequential::usual_looks;
use anyhow::Result;
use std::collections::BTreeSet;
use std::time::Duration;

/// Share of plain decoding's throughput that a draft length must be predicted to reach to be timed.
const WORTH_TIMING: f64 = 0.9;
/// With fewer prompts nothing can be said.
pub(super) const FEWEST_PROMPTS: usize = 3;
/// Share of its full grid that a race is expected to time. In simulation (results/simulation) it is 0.24 where lengths
/// differ, 0.37 where they nearly tie and 0.68 where all are equal.
const RACED: f64 = 0.4;

/// What tracing a prompt takes.
pub(super) struct Pace {
    /// Seconds of a run of plain decoding.
    plain_s: f64,
    /// Seconds of each prompt traced in this launch.
    traced_s: Vec<f64>,
    /// When the first one began.
    began: Duration,
}

impl Pace {
    pub(super) fn traced(&mut self, taken: Duration) {
        self.traced_s.push(taken.as_secs_f64());
    }

    /// Seconds of tracing a prompt: it is read, its text decoded, and the drafters read that. Before one was traced, those of
    /// the decoding.
    fn trace_s(&self) -> f64 {
        let mut sorted = self.traced_s.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(self.plain_s)
    }

    /// Seconds of reading a prompt, at most: what tracing takes beyond the decoding.
    fn read_s(&self) -> f64 {
        (self.trace_s() - self.plain_s).max(0.0)
    }
}

/// How many prompts are used.
pub(super) struct Plan {
    pub tune: usize,
    /// Those that time is kept for; if more is left in the end, more are used.
    pub confirm: usize,
    /// Seconds in which the target reads one of them.
    read_s: f64,
    /// Whether an earlier launch has begun to confirm the choice.
    pub confirming: bool,
    /// Blocks after which a race looks, the last one after `tune`; none without a race.
    pub looks: Vec<usize>,
}

impl Tuner<'_> {
    pub(super) fn pace(&self) -> Result<Pace> {
        Ok(Pace { plain_s: self.plain_s()?, traced_s: Vec::new(), began: self.executor.elapsed() })
    }

    /// How many tuning prompts, and how many of those that confirm, fit the time that was left when tracing began.
    pub(super) fn affordable(&self, pace: &Pace) -> (usize, usize) {
        let drafters = self.executor.drafters().len() as f64;
        let runs = self.scenario.texts_per_prompt as f64 * (2.0 + self.expected_arms() * drafters);
        // Its runs read the prompt once more.
        let tune_s = pace.trace_s() + pace.read_s() + pace.plain_s * runs;
        let confirm_s = pace.read_s() + self.confirm_s(pace.plain_s, &[]);
        let (all_tune, all_confirm) = (self.scenario.tune_prompts, self.scenario.confirm_prompts);
        let needed = all_tune as f64 * tune_s + all_confirm as f64 * confirm_s;
        let share = self.budget.saturating_sub(pace.began).as_secs_f64() / needed;
        let part = |all: usize| ((all as f64 * share) as usize).clamp(FEWEST_PROMPTS.min(all), all);
        (part(all_tune), part(all_confirm))
    }

    /// What is done with the prompts that were traced at this pace.
    pub(super) fn plan(&self, traced: usize, pace: &Pace, progress: &mut dyn Progress) -> Result<Plan> {
        let (_, confirm) = self.affordable(pace);
        let (all_tune, all_confirm) = (self.scenario.tune_prompts, self.scenario.confirm_prompts);
        if traced < all_tune || confirm < all_confirm {
            progress.note(&format!(
                "the time budget allows about {traced} of {all_tune} tuning prompts and {confirm} of {all_confirm} that confirm; intervals are wider for it"
            ));
        }
        let confirming = self.results.table::<RunRow>()?.rows().iter().any(|row| row.split == "confirm");
        let looks = if self.design == Design::Race { self.declare_looks(traced)? } else { Vec::new() };
        let tune = looks.last().copied().unwrap_or(traced);
        Ok(Plan { tune, confirm, read_s: pace.read_s(), confirming, looks })
    }

    /// The prompts that an earlier launch began to time, if it did. What is timed follows from the traces, and what is confirmed
    /// from the times: so that a resumed run goes on with the same arms, neither grows once the next stage has begun.
    pub(super) fn begun(&self, traces: &Table<TraceRow>) -> Result<Option<usize>> {
        let runs: Table<RunRow> = self.results.table()?;
        let traced = || traces.rows().iter().map(|row| &row.prompt).collect::<BTreeSet<_>>().len();
        Ok((!runs.rows().is_empty()).then(traced))
    }

    /// When timing the tuning prompts must end so that the choice can be confirmed.
    pub(super) fn tuning_ends(&self, plan: &Plan, predictions: &[PredictionRow]) -> Result<Duration> {
        let kept_s = plan.confirm as f64 * (plan.read_s + self.confirm_s(self.plain_s()?, predictions));
        Ok(self.budget.saturating_sub(Duration::from_secs_f64(kept_s)))
    }

    /// Seconds of a run of plain decoding, by the synchronous forward of width 1.
    fn plain_s(&self) -> Result<f64> {
        let costs: Table<CostRow> = self.results.table()?;
        let step = |row: &&CostRow| (row.role, row.mode, row.width) == (Role::Target, Mode::Sync, 1);
        let mut times: Vec<f64> = costs.rows().iter().filter(step).filter_map(|row| row.time_ms).collect();
        times.sort_by(f64::total_cmp);
        Ok(self.scenario.max_tokens as f64 * times.get(times.len() / 2).map_or(0.0, |time| time / 1e3))
    }

    /// Seconds of the runs that confirm on one prompt: plain decoding twice, and of each drafter the recommended length and
    /// those beside it, at the best speed predicted for it, or at plain decoding's where there is no prediction. One that is
    /// predicted to be slower than plain decoding will hardly be recommended.
    fn confirm_s(&self, plain_s: f64, predictions: &[PredictionRow]) -> f64 {
        let fastest = |drafter: &str, drafted: bool| {
            let rows = predictions.iter().filter(|row| row.drafter == drafter && (row.draft_length > 0) == drafted);
            rows.filter_map(|row| row.replay_tok_per_s).max_by(f64::total_cmp)
        };
        let share = |drafter: String| match (fastest(&drafter, false), fastest(&drafter, true)) {
            (Some(plain), Some(drafted)) if drafted < plain => 0.0,
            (Some(plain), Some(drafted)) => plain / drafted,
            _ => 1.0,
        };
        let drafted: f64 = self.executor.drafters().into_iter().map(share).sum();
        plain_s * self.scenario.texts_per_prompt as f64 * (2.0 + 3.0 * drafted)
    }

    /// Runs a prompt that each drafter is expected to get.
    fn expected_arms(&self) -> f64 {
        match self.design {
            Design::Race => RACED * (self.scenario.draft_lengths.values().len() - 1) as f64,
            Design::Blocks | Design::AnyTime => self.scenario.arms as f64,
        }
    }

    /// The looks of a race of at most `prompts` prompts, written down before its first block. Those of an earlier launch
    /// stand, whatever the time allows now.
    fn declare_looks(&self, prompts: usize) -> Result<Vec<usize>> {
        let mut table: Table<LookRow> = self.results.table()?;
        if table.rows().is_empty() {
            let wanted = match self.scenario.looks.as_slice() {
                [] => usual_looks(prompts),
                declared => declared.to_vec(),
            };
            let mut looks: Vec<usize> = wanted.into_iter().filter(|look| *look < prompts).collect();
            looks.push(prompts);
            let row = |(place, blocks): (usize, &usize)| LookRow { look: place as u64 + 1, blocks: *blocks as u64 };
            table.complete(looks.iter().enumerate().map(row).collect())?;
        }
        Ok(table.rows().iter().map(|row| row.blocks as usize).collect())
    }

    /// The draft lengths of each drafter with the highest predicted throughput, and plain decoding. Beyond a drafter's
    /// best one, those are left out that are predicted to lose too much to plain decoding to be worth the time.
    pub(super) fn promising(&self, predictions: &[PredictionRow]) -> Vec<Arm> {
        let mut arms = vec![Arm::plain()];
        for name in self.executor.drafters() {
            let mut rows: Vec<_> =
                predictions.iter().filter(|row| row.drafter == name && row.draft_length > 0).collect();
            let predicted = |row: &PredictionRow| row.replay_tok_per_s.unwrap_or(0.0);
            // Of a rule that could not be replayed its longest drafts are timed: it cuts them itself.
            let unknown = rows.iter().all(|row| row.replay_tok_per_s.is_none());
            rows.sort_by(|a, b| match unknown {
                true => b.draft_length.cmp(&a.draft_length),
                false => predicted(b).total_cmp(&predicted(a)),
            });
            let plain = predictions.iter().find(|row| row.draft_length == 0).map_or(0.0, predicted);
            let worth = |place: usize, row: &PredictionRow| place == 0 || predicted(row) > WORTH_TIMING * plain;
            let best = rows.iter().enumerate().take(self.scenario.arms);
            let best = best.filter(|(place, row)| worth(*place, row)).map(|(_, row)| row);
            arms.extend(best.map(|row| Arm { drafter: name.clone(), draft_length: row.draft_length }));
        }
        arms.sort();
        arms
    }

    /// Plain decoding and, for each drafter, what is recommended over it with the candidates beside it: a recommendation
    /// that the next shorter or longer length beats on fresh prompts should be seen to be beaten.
    pub(super) fn chosen(&self, derived: &Derived) -> Vec<Arm> {
        let mut arms = vec![Arm::plain()];
        for regime in &derived.choices {
            let Some(length) = regime.choice.decision.recommended.filter(|length| *length > 0) else { continue };
            let lengths: Vec<u64> = self.scenario.draft_lengths.values().iter().map(|length| *length as u64).collect();
            let place = lengths.iter().position(|other| *other == u64::from(length));
            let beside = place.map_or(vec![u64::from(length)], |place| {
                lengths[place.saturating_sub(1)..lengths.len().min(place + 2)].to_vec()
            });
            let drafter = &regime.choice.drafter;
            let drafted = beside.into_iter().filter(|length| *length > 0);
            arms.extend(drafted.map(|draft_length| Arm { drafter: drafter.clone(), draft_length }));
        }
        arms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::simulated_executor::SimulatedExecutor;
    use crate::results::{Identity, ResultsDir};
    use crate::scenario::Scenario;

    const SCENARIO: &str = r#"
name = "s"
drafts = ["d"]
draft_lengths = "0-4"
arms = 2
tune_prompts = 12
confirm_prompts = 8
max_tokens = 40
seed = 3
context = 100
[target]
model = "t"
[simulated]
bandwidth_gb_s = 100
matrix_tflop_s = 10
[simulated.targets.t]
parameters_g = 1.0
[simulated.drafters.d]
token_ms = 0.25
acceptance = [0.8]
"#;

    /// A prompt read in 5 s, or at once, of which a run takes 1 s.
    #[test]
    fn what_fits_the_budget_counts_the_reading_of_prompts() {
        let scenario: Scenario = toml::from_str(SCENARIO).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let affordable = |budget_s: u64, traced_s: &[f64]| {
            let mut executor = SimulatedExecutor::new(&scenario).unwrap();
            let tuner = Tuner {
                scenario: &scenario,
                machine: String::new(),
                target_name: String::new(),
                executor: &mut executor,
                prompts: Vec::new(),
                results: ResultsDir::open(folder.path(), &Identity::default(), &()).unwrap(),
                design: Design::Blocks,
                budget: Duration::from_secs(budget_s),
                stop: Default::default(),
            };
            let mut pace = Pace { plain_s: 1.0, traced_s: Vec::new(), began: Duration::from_secs(0) };
            for seconds in traced_s {
                pace.traced(Duration::from_secs_f64(*seconds));
            }
            tuner.affordable(&pace)
        };
        // A tuning prompt: its trace, two runs of plain decoding, two of drafts. One that confirms: two and three.
        assert_eq!(affordable(12 * 5 + 8 * 5, &[]), (12, 8));
        assert_eq!(affordable((12 * 5 + 8 * 5) / 2, &[]), (6, 4));
        // Read for the trace and for the runs: 15 s instead of 5; for the confirming runs: 10 s.
        assert_eq!(affordable(12 * 15 + 8 * 10, &[90.0, 6.0, 6.0]), (12, 8));
        assert_eq!(affordable((12 * 15 + 8 * 10) / 2, &[6.0]), (6, 4));
        assert_eq!(affordable(0, &[6.0]), (FEWEST_PROMPTS, FEWEST_PROMPTS));
    }
}
