//! How many prompts and minutes a scenario takes, from a pilot or from a declared spread.

use super::gather::complete_blocks;
use crate::results::{RunRow, Stamp, read_raw};
use crate::scenario::Scenario;
use crate::stats::blocks::Blocks;
use crate::stats::decision::{Input, decide};
use crate::stats::power::{prompts_to_decide, prompts_to_detect, spread_against};
use crate::usage;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::Path;

/// What a plan is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    /// Relative difference to see, and to show that a length does not lose more than.
    pub difference: f64,
    /// Chance to see it.
    pub power: f64,
}

/// How far a drafter's lengths scatter, and what a run takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// Empty if it was declared for all.
    pub drafter: String,
    /// Standard deviation over prompts of the relative difference between a length and plain decoding.
    pub against_plain: f64,
    /// The same between two lengths.
    pub between_lengths: f64,
    /// Prompts it was measured on; 0 if it was declared.
    pub prompts: usize,
    /// Seconds of a run, what lies between runs included; none if not known.
    pub run_s: Option<f64>,
}

/// What one drafter needs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Need {
    pub drafter: String,
    pub sd_against_plain: f64,
    pub sd_between_lengths: f64,
    /// Prompts of the pilot; 0 if the spread was declared.
    pub pilot_prompts: usize,
    /// To see the difference between one length and plain decoding, at the strictest step of Holm.
    pub prompts_to_detect: usize,
    /// To show a length to be within the difference of the fastest, if all lengths are equally fast (the hardest case).
    pub prompts_to_decide: usize,
    /// For so many tuning prompts with all drafters of the scenario; none if the speed is not known.
    pub minutes_to_detect: Option<f64>,
    pub minutes_to_decide: Option<f64>,
}

/// The spread of every drafter of a pilot: a results folder of this scenario with at least two complete prompts. Only the
/// lengths that can be the fastest count where the pilot can tell.
pub fn pilot_spreads(folder: &Path, scenario: &Scenario) -> Result<Vec<Spread>> {
    let shown = folder.display();
    let Some(stamp) = Stamp::read(folder)? else {
        return Err(usage!("--pilot {shown}: has no environment.json; name a results folder"));
    };
    if stamp.identity.scenario != scenario.name {
        let pilot = &stamp.identity.scenario;
        return Err(usage!("--pilot {shown}: is of scenario '{pilot}', not '{}'; name a folder of it", scenario.name));
    }
    let runs: Vec<RunRow> = read_raw(folder)?;
    let drafters: BTreeSet<&str> =
        runs.iter().filter(|run| run.draft_length > 0).map(|run| run.drafter.as_str()).collect();
    if drafters.is_empty() {
        bail!("--pilot {shown}: runs.csv has no timed draft length; run tune on it first");
    }
    let run_s = seconds_a_run(&runs);
    let spread = |drafter: &&str| {
        let complete = complete_blocks(&runs, "tune", &[drafter])?;
        let found = complete.prompts.len();
        if found < 2 {
            bail!(
                "--pilot {shown}: {drafter} has {found} complete prompts, at least 2 are needed; run tune for longer"
            );
        }
        let blocks = Blocks::new(&complete.seconds, &complete.tokens)?;
        let input = Input {
            draft_lengths: complete.arms.iter().map(|arm| arm.draft_length as u32).collect(),
            seconds: complete.seconds.clone(),
            tokens: complete.tokens.clone(),
            confidence: scenario.confidence,
            margin: scenario.practical_margin,
            seed: scenario.seed,
            method: None,
            draws: 10_000,
            resamples: 1,
        };
        let decision = decide(&input)?;
        // Plain decoding is the first arm.
        let mut counted: Vec<usize> = (1..complete.arms.len())
            .filter(|&arm| decision.confidence_set.contains(&input.draft_lengths[arm]))
            .collect();
        if counted.len() < 2 {
            counted = (1..complete.arms.len()).collect();
        }
        let against_plain = typical(&spread_against(&blocks, 0)?, &counted, 0);
        let reference =
            *counted.iter().min_by(|a, b| blocks.means()[**a].total_cmp(&blocks.means()[**b])).expect("some");
        let between = typical(&spread_against(&blocks, reference)?, &counted, reference);
        Ok(Spread {
            drafter: drafter.to_string(),
            against_plain: against_plain.with_context(|| format!("{shown}: {drafter} was timed at no draft length"))?,
            // A single length has no other to be told from.
            between_lengths: between.or(against_plain).unwrap_or(0.0),
            prompts: found,
            run_s,
        })
    };
    drafters.iter().map(spread).collect()
}

/// Root mean square over the arms but the reference itself.
fn typical(spreads: &[f64], arms: &[usize], reference: usize) -> Option<f64> {
    let squares: Vec<f64> = arms.iter().filter(|&&arm| arm != reference).map(|&arm| spreads[arm].powi(2)).collect();
    (!squares.is_empty()).then(|| (squares.iter().sum::<f64>() / squares.len() as f64).sqrt())
}

/// From one run's start to the next one's in the same block: prompt processing and checks included.
fn seconds_a_run(runs: &[RunRow]) -> Option<f64> {
    let steps = runs.windows(2).filter(|pair| (pair[0].launch, pair[0].block) == (pair[1].launch, pair[1].block));
    let steps: Vec<f64> = steps.map(|pair| pair[1].started_s - pair[0].started_s).filter(|step| *step > 0.0).collect();
    (!steps.is_empty()).then(|| steps.iter().sum::<f64>() / steps.len() as f64)
}

/// What each drafter needs to reach the goal under the scenario's confidence and number of lengths.
pub fn plan(scenario: &Scenario, spreads: &[Spread], goal: Goal) -> Result<Vec<Need>> {
    // On each prompt every drafter's lengths, plain decoding twice, and once for the trace.
    let runs_a_prompt = (scenario.arms * scenario.drafts.len() + 3) as f64;
    let need = |spread: &Spread| {
        let Scenario { arms, confidence, seed, .. } = *scenario;
        let minutes = |prompts: usize| spread.run_s.map(|run_s| prompts as f64 * runs_a_prompt * run_s / 60.0);
        let (plain, lengths) = (spread.against_plain, spread.between_lengths);
        let detect = prompts_to_detect(goal.difference, plain, arms, confidence, goal.power)?;
        let decide = prompts_to_decide(goal.difference, lengths, arms + 1, confidence, goal.power, seed)?;
        Ok(Need {
            drafter: spread.drafter.clone(),
            sd_against_plain: plain,
            sd_between_lengths: lengths,
            pilot_prompts: spread.prompts,
            prompts_to_detect: detect,
            prompts_to_decide: decide,
            minutes_to_detect: minutes(detect),
            minutes_to_decide: minutes(decide),
        })
    };
    spreads.iter().map(need).collect()
}
