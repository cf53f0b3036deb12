//! Calibration by simulation: does the decision keep its promises on data whose truth is known?
//!
//! Timings are made in the order in which they would be taken, so that drift and autocorrelation hit the arms as they do
//! in a real run; then the real [`decide`] answers, and the answers are counted.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, StandardNormal, StudentT};
use serde::{Deserialize, Serialize};

use super::decision::{Decision, Input, decide};
use super::error::{Result, StatsError, check_between, check_positive};
use super::selection::Method;
use super::summary::{mean_of, variance_of};

/// In which order the cells are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Randomised complete blocks: all arms on a prompt in random order, then the next prompt.
    Interleaved,
    /// All prompts of one arm, then the next arm: the order that drift deceives.
    ByArm,
}

/// What disturbs the timings. All sizes are relative to the true time of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// Standard deviation of the logarithm of a prompt's length.
    pub prompt_sd: f64,
    /// Standard deviation of what one arm gains or loses on one prompt.
    pub interaction_sd: f64,
    /// Standard deviation of a single timing.
    pub timing_sd: f64,
    /// Correlation of neighbouring timings, from 0 to below 1.
    pub autocorrelation: f64,
    /// Slow-down from the first to the last timing (0.06 is 6 %).
    pub drift: f64,
    /// Degrees of freedom of t-distributed timing noise, above 2; none is normal.
    pub tail_freedom: Option<f64>,
    /// Chance that a timing is hit by a hiccup.
    pub hiccup_chance: f64,
    /// What a hiccup adds.
    pub hiccup_size: f64,
}

impl Noise {
    /// Independent normal noise as of a quiet machine.
    pub const QUIET: Noise = Noise {
        prompt_sd: 0.4,
        interaction_sd: 0.02,
        timing_sd: 0.02,
        autocorrelation: 0.0,
        drift: 0.0,
        tail_freedom: None,
        hiccup_chance: 0.0,
        hiccup_size: 0.0,
    };
}

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
    pub standard_error: f64,
}

impl Simulated {
    fn mean(values: &[f64]) -> Option<Self> {
        let standard_error =
            if values.len() > 1 { (variance_of(values) / values.len() as f64).sqrt() } else { f64::NAN };
        (!values.is_empty()).then(|| Simulated { value: mean_of(values), standard_error })
    }
}

/// What happened over the runs of one study. Rates are shares of the runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub name: String,
    pub prompts: usize,
    pub runs: usize,
    /// Any arm that truly equals plain decoding was found different from it (Holm). None where no arm equals it.
    pub false_positive: Option<Simulated>,
    /// No truly fastest arm was in the confidence set.
    pub best_excluded: Simulated,
    /// Some arm's true loss was above its bound.
    pub bound_broken: Simulated,
    /// Share of the speed-up intervals that held the true speed-up; none where no interval was given.
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
    let mut tally = Tally::default();
    for run in 0..study.runs {
        let seed = study.seed.wrapping_add(run as u64);
        let decision = decide(&input(study, simulate(study, seed), seed))?;
        tally.count(study, &decision);
    }
    let expected = |values: &[f64]| Simulated::mean(values).expect("at least one run");
    Ok(Outcome {
        name: study.name.clone(),
        prompts: study.prompts,
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

fn check(study: &Study) -> Result<()> {
    check_positive("true costs", &study.costs, 2)?;
    for (name, count, needed) in [("prompts", study.prompts, 2), ("runs", study.runs, 2)] {
        if count < needed {
            return Err(StatsError::TooFew { what: name.into(), needed, found: count });
        }
    }
    let noise = &study.noise;
    for (name, sd) in [
        ("prompt_sd", noise.prompt_sd),
        ("interaction_sd", noise.interaction_sd),
        ("timing_sd", noise.timing_sd),
        ("hiccup_size", noise.hiccup_size),
    ] {
        check_between(name, sd, -f64::MIN_POSITIVE, f64::INFINITY, "at least 0")?;
    }
    check_between("drift", noise.drift, -1.0, f64::INFINITY, "above -1, for example 0.06")?;
    check_between("autocorrelation", noise.autocorrelation, -f64::MIN_POSITIVE, 1.0, "at least 0 and below 1")?;
    check_between("hiccup_chance", noise.hiccup_chance, -f64::MIN_POSITIVE, 1.0 + f64::EPSILON, "between 0 and 1")?;
    let freedom = noise.tail_freedom.unwrap_or(3.0);
    check_between("tail_freedom", freedom, 2.0, f64::INFINITY, "above 2, for example 3")
}

fn input(study: &Study, seconds: Vec<Vec<f64>>, seed: u64) -> Input {
    Input {
        draft_lengths: (0..study.costs.len() as u32).collect(),
        tokens: vec![vec![1; study.costs.len()]; study.prompts],
        seconds,
        confidence: study.confidence,
        margin: study.margin,
        seed,
        method: study.method,
        draws: study.draws,
        resamples: study.resamples,
    }
}

/// One simulated experiment: `seconds[prompt][arm]`.
pub fn simulate(study: &Study, seed: u64) -> Vec<Vec<f64>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let arms = study.costs.len();
    let prompt_length = Normal::new(0.0, study.noise.prompt_sd).expect("checked");
    let lengths: Vec<f64> = (0..study.prompts).map(|_| f64::exp(prompt_length.sample(&mut rng))).collect();
    let schedule = schedule(study, &mut rng);
    let mut disturbances = Disturbances::new(&study.noise, schedule.len());
    let mut seconds = vec![vec![0.0; arms]; study.prompts];
    for (prompt, arm) in schedule {
        let interaction: f64 = StandardNormal.sample(&mut rng);
        let factor = (1.0 + study.noise.interaction_sd * interaction) * (1.0 + disturbances.next(&mut rng));
        // A timing is positive, whatever the noise.
        seconds[prompt][arm] = lengths[prompt] * study.costs[arm] * factor.max(0.05);
    }
    seconds
}

/// The cells (prompt, arm) in the order in which they are timed.
fn schedule(study: &Study, rng: &mut ChaCha8Rng) -> Vec<(usize, usize)> {
    let mut arms: Vec<usize> = (0..study.costs.len()).collect();
    match study.order {
        Order::ByArm => arms.iter().flat_map(|&arm| (0..study.prompts).map(move |prompt| (prompt, arm))).collect(),
        Order::Interleaved => (0..study.prompts)
            .flat_map(|prompt| {
                arms.shuffle(rng);
                arms.iter().map(|&arm| (prompt, arm)).collect::<Vec<_>>()
            })
            .collect(),
    }
}

/// Relative disturbances of successive timings.
struct Disturbances<'a> {
    noise: &'a Noise,
    timings: usize,
    taken: usize,
    previous: f64,
}

impl<'a> Disturbances<'a> {
    fn new(noise: &'a Noise, timings: usize) -> Self {
        Disturbances { noise, timings, taken: 0, previous: 0.0 }
    }

    fn next(&mut self, rng: &mut ChaCha8Rng) -> f64 {
        let innovation = match self.noise.tail_freedom {
            // Scaled to unit variance.
            Some(freedom) => StudentT::new(freedom).expect("checked").sample(rng) * ((freedom - 2.0) / freedom).sqrt(),
            None => StandardNormal.sample(rng),
        };
        let correlation = self.noise.autocorrelation;
        let fresh = if self.taken == 0 { 1.0 } else { (1.0 - correlation * correlation).sqrt() };
        self.previous = correlation * self.previous + fresh * innovation;
        let elapsed = self.taken as f64 / (self.timings - 1) as f64;
        self.taken += 1;
        let hiccup = if rng.random_bool(self.noise.hiccup_chance.min(1.0)) { self.noise.hiccup_size } else { 0.0 };
        self.noise.timing_sd * self.previous + self.noise.drift * elapsed + hiccup
    }
}

/// One entry a run (for intervals, one an interval).
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
        for arm in &decision.versus_plain {
            let truth = plain / study.costs[arm.draft_length as usize];
            if let (Some(low), Some(high)) = (arm.low, arm.high) {
                self.covered.push(share(low <= truth && truth <= high));
            }
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
