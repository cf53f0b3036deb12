//! A race in simulation: how much less it times than the full grid, and whether it keeps its promise.

use serde::{Deserialize, Serialize};

use super::machine::Bench;
use super::study::{Simulated, Study, check, input_for};
use crate::stats::error::{Result, check_length};
use crate::stats::sequential::{Look, Race};

/// What happened over the races of one study. Rates are shares of the races.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RaceOutcome {
    pub name: String,
    /// Prompts of the full grid, and of the last look.
    pub prompts: usize,
    pub looks: usize,
    pub runs: usize,
    /// Timed cells over those of the full grid.
    pub timed: Simulated,
    /// Every truly fastest arm was dropped.
    pub best_dropped: Simulated,
    /// No recommendation was given.
    pub undecided: Simulated,
    /// The recommended arm truly loses more than the margin.
    pub beyond_margin: Simulated,
    /// True loss of the recommended arm to the fastest; none where none was recommended.
    pub regret: Option<Simulated>,
}

/// Races all arms of a study with looks after `looks` prompts, of which the last is the study's number of prompts.
pub fn run_race(study: &Study, looks: &[usize]) -> Result<RaceOutcome> {
    check(study)?;
    check_length("prompts of the last look", study.prompts, looks.last().copied().unwrap_or(0))?;
    let fastest = study.costs.iter().copied().fold(f64::INFINITY, f64::min);
    let loss = |length: u32| study.costs[length as usize] / fastest - 1.0;
    let share = |happened: bool| f64::from(u8::from(happened));
    let (mut timed, mut dropped, mut undecided) = (Vec::new(), Vec::new(), Vec::new());
    let (mut beyond, mut regret) = (Vec::new(), Vec::new());
    for run in 0..study.runs {
        let (cells, last) = race_once(study, looks, study.seed.wrapping_add(run as u64))?;
        timed.push(cells as f64 / (study.prompts * study.costs.len()) as f64);
        dropped.push(share(!last.running.iter().any(|&length| loss(length) == 0.0)));
        undecided.push(share(last.decision.recommended.is_none()));
        beyond.push(share(last.decision.recommended.is_some_and(|length| loss(length) > study.margin)));
        regret.extend(last.decision.recommended.map(loss));
    }
    let expected = |values: &[f64]| Simulated::mean(values).expect("at least one run");
    Ok(RaceOutcome {
        name: study.name.clone(),
        prompts: study.prompts,
        looks: looks.len(),
        runs: study.runs,
        timed: expected(&timed),
        best_dropped: expected(&dropped),
        undecided: expected(&undecided),
        beyond_margin: expected(&beyond),
        regret: Simulated::mean(&regret),
    })
}

/// One race: the cells that were timed and its last look.
fn race_once(study: &Study, looks: &[usize], seed: u64) -> Result<(usize, Look)> {
    let lengths: Vec<u32> = (0..study.costs.len() as u32).collect();
    let mut bench = Bench::new(study, seed);
    let mut race = Race::new(&lengths, looks, study.confidence)?;
    let mut seconds: Vec<Vec<f64>> = Vec::new();
    let mut cells = 0;
    loop {
        let arms: Vec<usize> = race.running().iter().map(|&length| length as usize).collect();
        for prompt in seconds.len()..race.next_look().expect("the race is on") {
            cells += arms.len();
            seconds.push(bench.block(prompt, &arms));
        }
        let look = race.look(&input_for(study, race.running(), seconds.clone(), seed))?;
        if look.finished {
            return Ok((cells, look));
        }
        let kept: Vec<usize> = (0..arms.len()).filter(|&at| look.running.contains(&(arms[at] as u32))).collect();
        seconds.iter_mut().for_each(|row| *row = kept.iter().map(|&at| row[at]).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Noise, Order};
    use super::*;

    #[test]
    fn a_race_times_less_and_keeps_the_best() {
        let study = Study {
            name: "test".into(),
            costs: vec![1.0, 0.9, 0.7, 0.75, 0.95, 1.1],
            prompts: 60,
            noise: Noise { drift: 0.06, ..Noise::QUIET },
            order: Order::Interleaved,
            method: None,
            confidence: 0.95,
            margin: 0.02,
            runs: 12,
            draws: 500,
            resamples: 20,
            seed: 1,
        };
        let outcome = run_race(&study, &[10, 20, 30, 60]).unwrap();
        assert!(outcome.timed.value < 0.35 && outcome.undecided.value == 0.0, "{outcome:?}");
        assert_eq!((outcome.best_dropped.value, outcome.beyond_margin.value), (0.0, 0.0));
        assert!(run_race(&study, &[10, 20]).is_err() && run_race(&study, &[20, 10, 60]).is_err());
    }
}
