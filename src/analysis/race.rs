//! A race rebuilt from the raw rows: which lengths were still running when, and what its last look decided.

use super::choice::{Choice, Rules, arm_result, examined};
use super::gather::{Complete, complete_blocks};
use crate::results::{Control, RunRow};
use crate::stats::decision::Input;
use crate::stats::sequential::{Look, Race};
use anyhow::{Context, Result};
use std::collections::{BTreeSet, HashMap};

/// One drafter's race after some blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct RaceSoFar {
    drafter: String,
    race: Race,
    /// The looks taken, each with what it saw.
    taken: Vec<(Look, Complete)>,
}

/// Takes the looks that were declared at or below `blocks` prompts and for which as many were timed, in the order of the
/// rows. The same rows give the same looks, so a killed race goes on as if it had not been, and `analyze` finds what the
/// race found. `draft_lengths` are the entrants, 0 among them; `looks` are counts of prompts.
pub fn race(
    runs: &[RunRow],
    drafter: &str,
    draft_lengths: &[u32],
    looks: &[usize],
    blocks: usize,
    rules: &Rules,
) -> Result<RaceSoFar> {
    let at = || format!("looks.csv: {drafter}");
    let race = Race::new(draft_lengths, looks, rules.confidence).with_context(at)?;
    let mut so_far = RaceSoFar { drafter: drafter.to_string(), race, taken: Vec::new() };
    let timed = timed_prompts(runs, rules.texts_per_prompt);
    while let Some(prompts) = so_far.race.next_look().filter(|look| *look <= blocks.min(timed.len())) {
        let seen: BTreeSet<&str> = timed[..prompts].iter().copied().collect();
        let running = so_far.race.running();
        let wanted = |run: &&RunRow| {
            let length = run.draft_length as u32;
            seen.contains(run.prompt.as_str()) && (length == 0 || run.drafter == drafter && running.contains(&length))
        };
        let rows: Vec<RunRow> = runs.iter().filter(wanted).cloned().collect();
        let complete = complete_blocks(&rows, "tune", &[drafter])?;
        let look = so_far.race.look(&rules.input(&complete)).with_context(|| format!("runs.csv: {drafter}"))?;
        so_far.taken.push((look, complete));
    }
    Ok(so_far)
}

/// Prompts of the tuning split whose blocks are all closed, in the order timed.
fn timed_prompts(runs: &[RunRow], blocks: usize) -> Vec<&str> {
    let mut closed: HashMap<&str, usize> = HashMap::new();
    let closing = runs.iter().filter(|run| run.split == "tune" && run.control == Control::Last);
    let mut prompts: Vec<&str> = closing.map(|run| run.prompt.as_str()).collect();
    prompts.retain(|prompt| {
        let count = closed.entry(prompt).or_default();
        *count += 1;
        *count == blocks
    });
    prompts
}

impl RaceSoFar {
    /// Draft lengths above 0 still to be timed; none once the race is over.
    pub fn running(&self) -> Vec<u32> {
        match self.race.next_look() {
            None => Vec::new(),
            Some(_) => self.race.running().iter().copied().filter(|length| *length > 0).collect(),
        }
    }

    /// The decision of the last look, with what is known of the lengths dropped before; none before the first look.
    pub fn choice(&self, rules: &Rules) -> Result<Option<Choice>> {
        let Some(((last, complete), earlier)) = self.taken.split_last() else { return Ok(None) };
        let input = Input { confidence: last.decision.confidence, ..rules.input(complete) };
        let mut choice = examined(&self.drafter, complete, &input, last.decision.clone())?;
        for (look, complete) in earlier {
            for &length in &look.dropped {
                let place = complete.arms.iter().position(|arm| arm.draft_length == u64::from(length));
                choice.arms.extend(place.map(|place| arm_result(complete, place)));
                let bound = look.decision.loss_bound.get(&length).copied().flatten();
                choice.decision.loss_bound.insert(length, bound);
                let versus_plain = look.decision.versus_plain.iter().filter(|arm| arm.draft_length == length);
                choice.decision.versus_plain.extend(versus_plain.cloned());
            }
        }
        choice.arms.sort_by_key(|arm| arm.draft_length);
        choice.decision.versus_plain.sort_by_key(|arm| arm.draft_length);
        choice.looks = self.taken.iter().map(|(look, _)| look.clone()).collect();
        Ok(Some(choice))
    }

    /// What the last look saw: the complete blocks of the lengths that took part in it.
    pub fn last_seen(&self) -> Option<&Complete> {
        self.taken.last().map(|(_, complete)| complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { confidence: 0.95, practical_margin: 0.02, seed: 1, method: None, texts_per_prompt: 1 };
    const ENTRANTS: [u32; 5] = [0, 1, 2, 3, 4];
    const LOOKS: [usize; 3] = [6, 12, 24];

    /// Length 2 halves the time, with a pattern of one per cent; only `lengths` are timed.
    fn block(prompt: usize, lengths: &[u32]) -> Vec<RunRow> {
        let cost = |length: u32| [1.0, 0.7, 0.5, 0.8, 1.2][length as usize];
        let row = |length: u32, control: Control| RunRow {
            prompt: format!("p{prompt}"),
            split: "tune".to_string(),
            drafter: if length == 0 { "" } else { "d" }.to_string(),
            draft_length: length.into(),
            block: prompt as u64,
            control,
            tokens: 10,
            seconds: Some(cost(length) * (1.0 + 0.01 * ((prompt * 31 + length as usize * 17) % 7) as f64)),
            started_s: prompt as f64,
            ..RunRow::default()
        };
        let between = lengths.iter().filter(|length| **length > 0).map(|&length| row(length, Control::No));
        [row(0, Control::First)].into_iter().chain(between).chain([row(0, Control::Last)]).collect()
    }

    /// Races as a tuner does, asking after every block.
    fn raced() -> Vec<RunRow> {
        let mut runs = Vec::new();
        for prompt in 0..24 {
            let running = race(&runs, "d", &ENTRANTS, &LOOKS, prompt, &RULES).unwrap().running();
            if running.is_empty() {
                break;
            }
            runs.extend(block(prompt, &running));
        }
        runs
    }

    #[test]
    fn the_rows_alone_give_the_race_again() {
        let runs = raced();
        let found = race(&runs, "d", &ENTRANTS, &LOOKS, usize::MAX, &RULES).unwrap();
        assert!(found.running().is_empty());
        let choice = found.choice(&RULES).unwrap().unwrap();
        assert_eq!(choice.decision.recommended, Some(2));
        let lengths: Vec<u64> = choice.arms.iter().map(|arm| arm.draft_length).collect();
        assert_eq!(lengths, [0, 1, 2, 3, 4]);
        // Each look has a third of the error rate.
        assert!((choice.decision.confidence - (1.0 - 0.05 / 3.0)).abs() < 1e-12);
        assert_eq!(choice.decision.loss_bound.len(), 5);
        assert_eq!(choice.looks.last().unwrap().prompts, choice.decision.prompts);
        let timed = runs.iter().filter(|run| run.control == Control::No).count();
        assert!(timed < 24 * 4 / 2, "{timed}");
    }

    #[test]
    fn rows_behind_a_look_do_not_change_it() {
        let mut runs = raced();
        let before = race(&runs, "d", &ENTRANTS, &LOOKS, usize::MAX, &RULES).unwrap();
        let blocks = runs.iter().filter(|run| run.control == Control::Last).count();
        let mut more = block(blocks, &ENTRANTS);
        more.pop();
        runs.extend(more);
        assert_eq!(race(&runs, "d", &ENTRANTS, &LOOKS, usize::MAX, &RULES).unwrap(), before);
        assert_eq!(race(&runs, "d", &ENTRANTS, &LOOKS, 5, &RULES).unwrap().choice(&RULES).unwrap(), None);
    }

    #[test]
    fn a_failed_run_costs_its_prompt_and_not_the_look() {
        let mut runs = raced();
        let failed = &mut runs[2];
        (failed.seconds, failed.error) = (None, "no memory".to_string());
        let found = race(&runs, "d", &ENTRANTS, &LOOKS, usize::MAX, &RULES).unwrap();
        let choice = found.choice(&RULES).unwrap().unwrap();
        assert_eq!(choice.looks[0].decision.prompts, LOOKS[0] - 1);
        assert!(choice.warnings.iter().any(|warning| warning.contains("p0: a run failed")), "{:?}", choice.warnings);
    }
}
