//! Timed blocks: the same arms on every prompt, or those that a race has left.

use super::Progress;
use super::order::block;
use super::plan::{FEWEST_PROMPTS, Plan};
use super::tune::Tuner;
use crate::analysis::{Arm, Rules, race};
use crate::results::{RunRow, Table};
use anyhow::Result;
use std::time::Duration;

impl Tuner<'_> {
    /// Times the blocks of each prompt until the deadline, which is checked between prompts. A block that was begun in
    /// an earlier launch is finished.
    pub(super) fn time_blocks(
        &mut self,
        stage: &str,
        prompts: &[usize],
        arms: &[Arm],
        deadline: Duration,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let mut table: Table<RunRow> = self.results.table()?;
        progress.stage(stage, (prompts.len() * (arms.len() + 1) * self.scenario.texts_per_prompt) as u64);
        for (done, &place) in prompts.iter().enumerate() {
            if self.stopped() || self.late(done, prompts.len(), deadline, progress) {
                break;
            }
            self.time_block(&mut table, place, arms, progress)?;
        }
        Ok(())
    }

    /// All draft lengths of every drafter start. After the blocks declared in the plan each drafter's lengths are compared,
    /// and those that can no longer be its fastest are dropped; a drafter whose race is over is not timed any more. Ends at
    /// the deadline.
    pub(super) fn race(&mut self, plan: &Plan, deadline: Duration, progress: &mut dyn Progress) -> Result<()> {
        let mut table: Table<RunRow> = self.results.table()?;
        let entrants = (self.scenario.draft_lengths.values().len() - 1) * self.executor.drafters().len();
        let runs = plan.tune * (entrants + 2) * self.scenario.texts_per_prompt;
        progress.stage("racing the draft lengths", runs as u64);
        let mut arms = Vec::new();
        for place in 0..plan.tune {
            if place == 0 || plan.looks.contains(&place) {
                arms = self.still_racing(table.rows(), &plan.looks, place)?;
            }
            let over = arms.len() == 1;
            if over || self.stopped() || self.late(place, plan.tune, deadline, progress) {
                break;
            }
            self.time_block(&mut table, place, &arms, progress)?;
        }
        Ok(())
    }

    /// Plain decoding and the arms that the first `blocks` blocks leave in the race.
    fn still_racing(&self, runs: &[RunRow], looks: &[usize], blocks: usize) -> Result<Vec<Arm>> {
        let entrants: Vec<u32> = self.scenario.draft_lengths.values().iter().map(|length| *length as u32).collect();
        let rules = Rules::of_scenario(self.scenario);
        let mut arms = vec![Arm::plain()];
        for drafter in self.executor.drafters() {
            let running = race(runs, &drafter, &entrants, looks, blocks, &rules)?.running();
            arms.extend(
                running.into_iter().map(|length| Arm { drafter: drafter.clone(), draft_length: length.into() }),
            );
        }
        arms.sort();
        Ok(arms)
    }

    /// Whether the deadline has passed, which is said. The fewest prompts of which anything can be said are always timed.
    fn late(&self, done: usize, prompts: usize, deadline: Duration, progress: &mut dyn Progress) -> bool {
        let late = done >= FEWEST_PROMPTS && self.executor.elapsed() > deadline;
        if late {
            progress.note(&format!("the time budget ended after {done} of {prompts} prompts"));
        }
        late
    }

    /// Times what is missing of a prompt's blocks, unless it is to stop.
    fn time_block(
        &mut self,
        table: &mut Table<RunRow>,
        place: usize,
        arms: &[Arm],
        progress: &mut dyn Progress,
    ) -> Result<()> {
        for number in self.blocks_of(place) {
            for (order, (arm, control)) in block(arms, self.scenario.seed, number).into_iter().enumerate() {
                if self.stopped() {
                    return Ok(());
                }
                if !table.contains(&(number, order as u64)) {
                    let blank = RunRow { block: number, order: order as u64, control, ..self.blank_row(place, &arm) };
                    let row = self.run_row(place, &arm, blank, table.rows());
                    table.append(row)?;
                }
                progress.step();
            }
        }
        Ok(())
    }

    /// The numbers of the blocks of a prompt. Its first one has the prompt's place.
    fn blocks_of(&self, place: usize) -> impl Iterator<Item = u64> + use<> {
        let prompts = self.prompts.len();
        (0..self.scenario.texts_per_prompt).map(move |text| (text * prompts + place) as u64)
    }

    fn blank_row(&self, place: usize, arm: &Arm) -> RunRow {
        let prompt = &self.prompts[place];
        RunRow {
            prompt: prompt.prompt.clone(),
            category: prompt.category.clone(),
            split: prompt.split.clone(),
            drafter: arm.drafter.clone(),
            draft_length: arm.draft_length,
            launch: self.results.launch(),
            ..RunRow::default()
        }
    }

    fn run_row(&mut self, place: usize, arm: &Arm, blank: RunRow, taken: &[RunRow]) -> RunRow {
        let blank = RunRow { started_s: self.executor.started_s(taken), ..blank };
        let run = match self.executor.run(place, blank.block, arm, self.scenario.max_tokens, taken) {
            Ok(run) => run,
            Err(error) => return RunRow { error: format!("{error:#}"), ..blank },
        };
        RunRow {
            tokens: run.tokens as u64,
            seconds: Some(run.seconds),
            rounds: run.rounds as u64,
            drafted: run.drafted as u64,
            accepted: run.accepted as u64,
            cut_off: run.cut_off as u64,
            first_divergence: run.first_divergence.map(|(position, _)| position as u64),
            logit_margin: run.first_divergence.map(|(_, margin)| margin),
            ..blank
        }
    }
}
