//! The situations that `ridgepoint simulate` runs.

use super::machine::{Noise, Order};
use super::study::Study;
use crate::stats::selection::Method;
use crate::stats::sequential::usual_looks;

/// What all situations share.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Numbers of prompts.
    pub prompts: Vec<usize>,
    pub runs: usize,
    pub confidence: f64,
    pub margin: f64,
    pub draws: usize,
    pub resamples: usize,
    pub seed: u64,
}

/// Relative costs of 17 draft lengths on a staircase, with minima at 3 and 16 that are 0.4 % apart.
const STAIRCASE: [f64; 17] =
    [1.0, 0.9, 0.84, 0.8, 0.805, 0.815, 0.82, 0.83, 0.84, 0.85, 0.85, 0.84, 0.84, 0.835, 0.825, 0.815, 0.803];

/// A machine that warms up and whose neighbouring timings resemble each other.
const DRIFTING: Noise = Noise { drift: 0.06, autocorrelation: 0.3, ..Noise::QUIET };

/// The same with t-distributed noise (3 degrees of freedom) and a hiccup of half a timing in a hundred.
const ROUGH: Noise = Noise { tail_freedom: Some(3.0), hiccup_chance: 0.01, hiccup_size: 0.5, ..DRIFTING };

/// Truths by name: all equal, the staircase, and lengths 1 to 16 that differ by 0.25 % from one to the next.
fn truths() -> [(&'static str, Vec<f64>); 3] {
    let near_ties = (0..17).map(|arm| if arm == 0 { 1.0 } else { 0.8 * (1.0 + 0.0025 * (arm - 1) as f64) }).collect();
    [("all equal", vec![1.0; 17]), ("staircase", STAIRCASE.to_vec()), ("near ties", near_ties)]
}

/// Every truth on every machine, interleaved, with both methods of the confidence set and at any time; and all equal
/// arms timed one after another, which shows what interleaving is for.
pub fn studies(plan: &Plan) -> Vec<Study> {
    let mut studies = Vec::new();
    for &prompts in &plan.prompts {
        for (truth, costs) in truths() {
            for (machine, noise) in [("quiet", Noise::QUIET), ("drifting", DRIFTING), ("rough", ROUGH)] {
                for method in [Method::MaxT, Method::SignFlip, Method::AnyTime] {
                    let name = format!("{truth}, {machine}");
                    studies.push(study(plan, name, &costs, prompts, noise, Order::Interleaved, Some(method)));
                }
            }
        }
        let name = "all equal, drifting, arm by arm".to_string();
        studies.push(study(plan, name, &[1.0; 17], prompts, DRIFTING, Order::ByArm, None));
    }
    studies
}

/// Races to the largest number of prompts with the usual looks.
pub fn races(plan: &Plan) -> Vec<(Study, Vec<usize>)> {
    let Some(&prompts) = plan.prompts.iter().max() else { return Vec::new() };
    let looks = usual_looks(prompts);
    if looks.is_empty() {
        return Vec::new();
    }
    let race = |(truth, costs): (&str, Vec<f64>)| {
        (study(plan, format!("{truth}, drifting"), &costs, prompts, DRIFTING, Order::Interleaved, None), looks.clone())
    };
    truths().into_iter().map(race).collect()
}

fn study(
    plan: &Plan,
    name: String,
    costs: &[f64],
    prompts: usize,
    noise: Noise,
    order: Order,
    method: Option<Method>,
) -> Study {
    Study {
        name,
        costs: costs.to_vec(),
        prompts,
        noise,
        order,
        method,
        confidence: plan.confidence,
        margin: plan.margin,
        runs: plan.runs,
        draws: plan.draws,
        resamples: plan.resamples,
        seed: plan.seed,
    }
}
