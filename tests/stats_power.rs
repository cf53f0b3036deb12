//! Plans against simulation: with the number of prompts that a plan asks for, the decision has about the power promised,
//! with a fifth less clearly below it and with a fifth more clearly above.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use ridgepoint::stats::blocks::Blocks;
use ridgepoint::stats::paired::paired_t;
use ridgepoint::stats::power::{prompts_to_decide, prompts_to_detect, spread_against};
use ridgepoint::stats::selection::{Method, compare_with_best};
use ridgepoint::stats::simulation::{Noise, Order, Study, timings};

/// Costs of arms on prompts: a relative difference between two arms has standard deviation `sd` over prompts.
fn costs(truth: &[f64], prompts: usize, sd: f64, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
    let noise = Normal::new(0.0, sd / 2f64.sqrt()).unwrap();
    (0..prompts).map(|_| truth.iter().map(|cost| cost * (1.0 + noise.sample(rng))).collect()).collect()
}

fn share(runs: usize, mut happens: impl FnMut() -> bool) -> f64 {
    (0..runs).filter(|_| happens()).count() as f64 / runs as f64
}

#[test]
fn a_planned_difference_is_detected_with_the_planned_power() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (difference, sd, comparisons) = (0.02, 0.03, 4);
    let planned = prompts_to_detect(difference, sd, comparisons, 0.95, 0.8).unwrap();
    let mut power = |prompts: usize| {
        share(500, || {
            let blocks = Blocks::from_seconds(&costs(&[1.0, 1.0 - difference], prompts, sd, &mut rng)).unwrap();
            paired_t(&blocks.arm(0), &blocks.arm(1), 0.95).unwrap().p <= 0.05 / comparisons as f64
        })
    };
    assert!(power(planned * 4 / 5) < 0.77 && power(planned * 6 / 5) > 0.83);
    assert!((power(planned) - 0.8).abs() < 0.06);
}

#[test]
fn a_planned_decision_is_reached_with_the_planned_power() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (margin, sd, arms) = (0.02, 0.03, 6);
    let planned = prompts_to_decide(margin, sd, arms, 0.95, 0.8, 1).unwrap();
    let mut power = |prompts: usize| {
        share(150, || {
            let blocks = Blocks::from_seconds(&costs(&[1.0; 6], prompts, sd, &mut rng)).unwrap();
            let found = compare_with_best(&blocks, 0.95, Method::MaxT, 1_000, 1).unwrap();
            found.loss_bound.iter().any(|&bound| bound < margin)
        })
    };
    assert!(power(planned * 4 / 5) < 0.78 && power(planned * 6 / 5) > 0.82, "{planned}");
}

/// A machine that drifts by 6 %, with prompts of unequal length; arm 1 is faster than plain decoding by `difference`.
fn study(prompts: usize, difference: f64) -> Study {
    Study {
        name: "plan".into(),
        costs: vec![1.0, 1.0 - difference, 0.95, 0.95, 0.95],
        prompts,
        noise: Noise { drift: 0.06, autocorrelation: 0.3, ..Noise::QUIET },
        order: Order::Interleaved,
        method: None,
        confidence: 0.95,
        margin: 0.02,
        runs: 2,
        draws: 10,
        resamples: 10,
        seed: 1,
    }
}

#[test]
fn a_plan_from_a_pilot_holds_on_the_simulated_machine_within_a_fifth() {
    let (difference, comparisons) = (0.01, 4);
    let pilot = Blocks::from_seconds(&timings(&study(150, difference), 77).unwrap()).unwrap();
    let spreads = spread_against(&pilot, 0).unwrap();
    let sd = (spreads[1..].iter().map(|sd| sd * sd).sum::<f64>() / 4.0).sqrt();
    let planned = prompts_to_detect(difference, sd, comparisons, 0.95, 0.8).unwrap();
    let power = |prompts: usize| {
        let study = study(prompts, difference);
        let mut run = 0;
        share(500, || {
            run += 1;
            let blocks = Blocks::from_seconds(&timings(&study, run).unwrap()).unwrap();
            paired_t(&blocks.arm(0), &blocks.arm(1), 0.95).unwrap().p <= 0.05 / comparisons as f64
        })
    };
    let (fewer, more) = (power(planned * 4 / 5), power(planned * 6 / 5));
    assert!(fewer < 0.8 && more > 0.8, "{planned} prompts: {fewer} with a fifth less, {more} with a fifth more");
}
