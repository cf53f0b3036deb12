//! One study: many simulated runs of one situation, each answered by the real [`decide`], and the answers counted.

use serde::{Deserialize, Serialize};

use super::machine::{Bench, Noise, Order};
use crate::stats::decision::{Decision, Input, decide};
use crate::stats::error::{Result, StatsError, check_positive};
use crate::stats::selection::Method;
use crate::stats::summary::{mean_of, variance_of};

/// One simulated situation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    pub name: String,
    /// True cost of each arm; the first is plain decoding, arm i has draft length i.
    pub costs: Vec<f64>,
    pub prompts: usize,
    pub noise: Noise,
    pub order: Order,
    /// Method of the comparison with the best; none chooses by the number of prompts.
    pub method: Option<Method>,
    pub confidence: f64,
    pub margin: f64,
    /// Simulated experiments.
    pub runs: usize,
    /// Monte-Carlo draws of each decision.
    pub draws: usize,
    /// Bootstrap resamples of each interval.
    pub resamples: usize,
    pub seed: u64,
}

/// An estimate from the simulated runs with its Monte-Carlo standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Simulated {
    pub value: f64,
    /// None where a single run contributed.
    pub standard_error: Option<f64>,
}

impl Simulated {
    /// None where there is nothing to average.
    pub(super) fn mean(values: &[f64]) -> Option<Self> {
        let standard_error = (values.len() > 1).then(|| (variance_of(values) / values.len() as f64).sqrt());
        (!values.is_empty()).then(|| Simulated { value: mean_of(values), standard_error })
    }
}

/// What happened over the runs of one study. Rates are shares of the runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub name: String,
    pub prompts: usize,
    pub method: Method,
    pub runs: usize,
    /// Any arm that truly equals plain decoding was found different from it (Holm). None where no arm equals it.
    pub false_positive: Option<Simulated>,
    /// No truly fastest arm was in the confidence set.
    pub best_excluded: Simulated,
    /// Some arm's true loss was above its bound.
    pub bound_broken: Simulated,
    /// Share of the speed-up intervals that held the true speed-up, a run's intervals averaged; none where none was given.
    pub coverage: Option<Simulated>,
    /// Size of the confidence set.
    pub set_size: Simulated,
    /// No recommendation was given.
    pub undecided: Simulated,
    /// The recommended arm truly loses more than the margin, as a share of all runs.
    pub beyond_margin: Simulated,
    /// True loss of the recommended arm to the fastest; none where none was recommended.
    pub regret: Option<Simulated>,
}

/// Runs a study: simulates, decides and counts.
pub fn run(study: &Study) -> Result<Outcome> {
    check(study)?;
    let lengths: Vec<u32> = (0..study.costs.len() as u32).collect();
    let mut tally = Tally::default();
    for run in 0..study.runs {
        let seed = study.seed.wrapping_add(run as u64);
        let decision = decide(&input_for(study, &lengths, Bench::new(study, seed).full_grid(), seed))?;
        tally.count(study, &decision);
    }
    let expected = |values: &[f64]| Simulated::mean(values).expect("at least one run");
    Ok(Outcome {
        name: study.name.clone(),
        prompts: study.prompts,
        method: study.method.unwrap_or(Method::for_prompts(study.prompts)),
        runs: study.runs,
        false_positive: Simulated::mean(&tally.false_positive),
        best_excluded: expected(&tally.best_excluded),
        bound_broken: expected(&tally.bound_broken),
        coverage: Simulated::mean(&tally.covered),
        set_size: expected(&tally.set_size),
        undecided: expected(&tally.undecided),
        beyond_margin: expected(&tally.beyond_margin),
        regret: Simulated::mean(&tally.regret),
    })
}

pub(super) fn check(study: &Study) -> Result<()> {
    check_positive("true costs", &study.costs, 2)?;
    for (name, count, needed) in [("prompts", study.prompts, 2), ("runs", study.runs, 2)] {
        if count < needed {
            return Err(StatsError::TooFew { what: name.into(), needed, found: count });
        }
    }
    study.noise.check()
}

/// What is handed to the decision for some of the study's arms.
pub(super) fn input_for(study: &Study, draft_lengths: &[u32], seconds: Vec<Vec<f64>>, seed: u64) -> Input {
    Input {
        draft_lengths: draft_lengths.to_vec(),
        tokens: vec![vec![1; draft_lengths.len()]; seconds.len()],
        seconds,
        confidence: study.confidence,
        margin: study.margin,
        seed,
        method: study.method,
        draws: study.draws,
        resamples: study.resamples,
    }
}

/// One entry a run.
#[derive(Default)]
struct Tally {
    false_positive: Vec<f64>,
    best_excluded: Vec<f64>,
    bound_broken: Vec<f64>,
    covered: Vec<f64>,
    set_size: Vec<f64>,
    undecided: Vec<f64>,
    beyond_margin: Vec<f64>,
    regret: Vec<f64>,
}

impl Tally {
    fn count(&mut self, study: &Study, decision: &Decision) {
        let share = |happened: bool| f64::from(u8::from(happened));
        let fastest = study.costs.iter().copied().fold(f64::INFINITY, f64::min);
        let loss = |length: u32| study.costs[length as usize] / fastest - 1.0;
        let plain = study.costs[0];
        let equal = |length: u32| study.costs[length as usize] == plain;
        if decision.versus_plain.iter().any(|arm| equal(arm.draft_length)) {
            let rejected = |p: f64| p <= 1.0 - study.confidence;
            let wrong = decision.versus_plain.iter().any(|arm| equal(arm.draft_length) && rejected(arm.p_holm));
            self.false_positive.push(share(wrong));
        }
        self.best_excluded.push(share(!decision.confidence_set.iter().any(|&length| loss(length) == 0.0)));
        let broken = |(&length, bound): (&u32, &Option<f64>)| bound.is_some_and(|bound| loss(length) > bound + 1e-12);
        self.bound_broken.push(share(decision.loss_bound.iter().any(broken)));
        let covered: Vec<f64> = decision
            .versus_plain
            .iter()
            .filter_map(|arm| {
                let truth = plain / study.costs[arm.draft_length as usize];
                Some(share(arm.low? <= truth && truth <= arm.high?))
            })
            .collect();
        if !covered.is_empty() {
            self.covered.push(mean_of(&covered));
        }
        self.set_size.push(decision.confidence_set.len() as f64);
        self.undecided.push(share(decision.recommended.is_none()));
        self.beyond_margin.push(share(decision.recommended.is_some_and(|length| loss(length) > study.margin)));
        self.regret.extend(decision.recommended.map(loss));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study(order: Order, costs: &[f64]) -> Study {
        Study {
            name: "test".into(),
            costs: costs.to_vec(),
            prompts: 12,
            noise: Noise { drift: 0.06, autocorrelation: 0.3, ..Noise::QUIET },
            order,
            method: None,
            confidence: 0.95,
            margin: 0.02,
            runs: 60,
            draws: 500,
            resamples: 60,
            seed: 1,
        }
    }

    #[test]
    fn interleaving_keeps_the_error_rate_under_drift_and_timing_by_arm_does_not() {
        let interleaved = run(&study(Order::Interleaved, &[1.0; 6])).unwrap();
        assert!(interleaved.false_positive.unwrap().value <= 0.12 && interleaved.best_excluded.value == 0.0);
        let by_arm = run(&study(Order::ByArm, &[1.0; 6])).unwrap();
        assert!(by_arm.false_positive.unwrap().value > 0.5);
    }

    #[test]
    fn a_clear_best_is_found_without_regret() {
        let outcome = run(&study(Order::Interleaved, &[1.0, 0.8, 0.6, 0.9])).unwrap();
        assert!(outcome.best_excluded.value <= 0.1 && outcome.bound_broken.value <= 0.15);
        assert!(outcome.set_size.value < 1.2 && outcome.undecided.value < 0.1);
        assert_eq!((outcome.regret.unwrap().value, outcome.false_positive), (0.0, None));
        assert!(outcome.coverage.unwrap().value > 0.8);
    }

    #[test]
    fn the_same_seed_gives_the_same_study_and_bad_ones_are_refused() {
        let small = Study { runs: 3, ..study(Order::Interleaved, &[1.0, 0.9]) };
        assert_eq!(run(&small).unwrap(), run(&small).unwrap());
        let refused = |study: Study| assert!(run(&study).is_err());
        refused(Study { runs: 0, ..small.clone() });
        refused(Study { costs: vec![1.0], ..small.clone() });
        refused(Study { noise: Noise { autocorrelation: 1.0, ..small.noise }, ..small.clone() });
        refused(Study { noise: Noise { tail_freedom: Some(2.0), ..small.noise }, ..small.clone() });
        refused(Study { noise: Noise { timing_sd: f64::NAN, ..small.noise }, ..small });
    }
}
