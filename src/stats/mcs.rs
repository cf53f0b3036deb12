//! Model Confidence Set: a second opinion on which arms can be the fastest, by elimination and a block bootstrap.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::blocks::Blocks;
use super::error::{Result, StatsError, check_between};
use super::max_t::NO_SPREAD;

/// How the bootstrap of [`model_confidence_set`] draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockBootstrap {
    /// Length of the blocks of consecutive prompts, from 1 to the number of prompts; 1 is the ordinary bootstrap.
    pub block: usize,
    pub resamples: usize,
    pub seed: u64,
}

impl BlockBootstrap {
    /// Blocks of about n^(1/3) prompts (the rate of Hall, Horowitz and Jing, "On blocking rules for the bootstrap with
    /// dependent data", 1995).
    pub fn for_prompts(prompts: usize, resamples: usize, seed: u64) -> Self {
        BlockBootstrap { block: (prompts as f64).cbrt().ceil() as usize, resamples, seed }
    }
}

/// p-value of each arm in the Model Confidence Set (Hansen, Lunde and Nason, "The Model Confidence Set", 2011, statistic
/// T_R) with a circular block bootstrap over prompts in the order in which they were measured: arms with p above α are in
/// the set at confidence 1 - α.
pub fn model_confidence_set(blocks: &Blocks, bootstrap: &BlockBootstrap) -> Result<Vec<f64>> {
    let prompts = blocks.prompts();
    if prompts < 2 {
        return Err(StatsError::TooFew { what: "prompts".into(), needed: 2, found: prompts });
    }
    check_between("block", bootstrap.block as f64, 0.0, prompts as f64 + 0.5, "between 1 and the number of prompts")?;
    check_between("resamples", bootstrap.resamples as f64, 0.0, f64::INFINITY, "at least 1")?;
    let mut rng = ChaCha8Rng::seed_from_u64(bootstrap.seed);
    let draw = |_| -> Vec<usize> {
        let starts = (0..prompts.div_ceil(bootstrap.block)).map(|_| rng.random_range(0..prompts as u32) as usize);
        let members = starts.flat_map(|start| (start..start + bootstrap.block).map(|at| at % prompts));
        members.take(prompts).collect()
    };
    let resamples: Vec<Vec<usize>> = (0..bootstrap.resamples).map(draw).collect();
    Ok(model_confidence_set_from(blocks, &resamples))
}

/// The same for resampled prompt indices that the caller supplies.
pub fn model_confidence_set_from(blocks: &Blocks, resamples: &[Vec<usize>]) -> Vec<f64> {
    let arms = blocks.arms();
    let deviations: Vec<Vec<f64>> = resamples.iter().map(|resample| deviations(blocks, resample)).collect();
    let weights = inverse_bootstrap_deviations(&deviations, blocks);
    let mut included: Vec<usize> = (0..arms).collect();
    let mut p_values = vec![1.0; arms];
    let mut largest_p = 0.0f64;
    while included.len() > 1 {
        let (worst, observed) = worst_pair(blocks.means(), &included, &weights, arms);
        let left = Left::of(&included, &weights, arms);
        let mut values = vec![0.0; included.len()];
        let as_large = deviations.iter().filter(|sums| left.largest_excess(sums, &mut values) > observed).count();
        largest_p = largest_p.max(as_large as f64 / deviations.len() as f64);
        p_values[worst] = largest_p;
        included.retain(|&arm| arm != worst);
    }
    p_values
}

/// Mean cost of each arm over a resample less its mean over all prompts.
fn deviations(blocks: &Blocks, resample: &[usize]) -> Vec<f64> {
    let mut sums = vec![0.0; blocks.arms()];
    for &prompt in resample {
        sums.iter_mut().zip(blocks.prompt(prompt)).for_each(|(sum, cost)| *sum += cost);
    }
    sums.iter().zip(blocks.means()).map(|(sum, mean)| sum / resample.len() as f64 - mean).collect()
}

/// 1 / bootstrap standard error of the difference of each pair; 0 where a pair never differs, infinite where it differs
/// by the same amount in every resample.
fn inverse_bootstrap_deviations(deviations: &[Vec<f64>], blocks: &Blocks) -> Vec<f64> {
    let (arms, means) = (blocks.arms(), blocks.means());
    let mut weights = vec![0.0; arms * arms];
    for a in 0..arms {
        for b in 0..arms {
            let squares: f64 = deviations.iter().map(|sums| (sums[a] - sums[b]).powi(2)).sum();
            let variance = squares / deviations.len() as f64;
            let scale = means[a] * means[b];
            weights[a * arms + b] = if variance > NO_SPREAD * scale {
                variance.sqrt().recip()
            } else if (means[a] - means[b]).powi(2) > NO_SPREAD * scale {
                f64::INFINITY
            } else {
                0.0
            };
        }
    }
    weights
}

/// The arm with the largest standardised excess over another included arm, and that excess.
fn worst_pair(values: &[f64], included: &[usize], weights: &[f64], arms: usize) -> (usize, f64) {
    let mut worst = (included[0], f64::NEG_INFINITY);
    for &a in included {
        for &b in included {
            let difference = values[a] - values[b];
            let excess = if difference == 0.0 { 0.0 } else { difference * weights[a * arms + b] };
            if a != b && excess > worst.1 {
                worst = (a, excess);
            }
        }
    }
    worst
}

/// The arms left, with the weights of their pairs side by side: this is where the time goes.
struct Left<'a> {
    arms: &'a [usize],
    weights: Vec<f64>,
}

impl<'a> Left<'a> {
    fn of(included: &'a [usize], weights: &[f64], arms: usize) -> Self {
        let row = |&a: &usize| included.iter().map(move |&b| weights[a * arms + b]);
        Left { arms: included, weights: included.iter().flat_map(row).collect() }
    }

    /// The largest standardised excess of one arm over another, at least zero. `values` is scratch space.
    fn largest_excess(&self, sums: &[f64], values: &mut [f64]) -> f64 {
        values.iter_mut().zip(self.arms).for_each(|(value, &arm)| *value = sums[arm]);
        let mut largest = 0.0;
        for (a, row) in self.weights.chunks_exact(values.len()).enumerate() {
            for (value, weight) in values[a + 1..].iter().zip(&row[a + 1..]) {
                // Not a number where arms that never differ meet an infinite weight: no excess.
                let excess = (values[a] - value).abs() * weight;
                largest = if excess > largest { excess } else { largest };
            }
        }
        largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_and_identical_arms_are_decided_without_division_by_zero() {
        let seconds: Vec<Vec<f64>> = (0..6).map(|_| vec![1.0, 1.0, 2.0]).collect();
        let bootstrap = BlockBootstrap { block: 2, resamples: 20, seed: 1 };
        let p = model_confidence_set(&Blocks::from_seconds(&seconds).unwrap(), &bootstrap).unwrap();
        assert!(p[2] == 0.0 && p[0].max(p[1]) == 1.0 && !p.iter().any(|p| p.is_nan()), "{p:?}");
    }

    #[test]
    fn bad_blocks_are_refused() {
        let blocks = Blocks::from_seconds(&[vec![1.0, 2.0], vec![2.0, 1.0]]).unwrap();
        let with = |block, resamples| model_confidence_set(&blocks, &BlockBootstrap { block, resamples, seed: 1 });
        assert!(with(3, 10).is_err() && with(0, 10).is_err() && with(1, 0).is_err() && with(2, 10).is_ok());
        assert!(
            model_confidence_set(
                &Blocks::from_seconds(&[vec![1.0, 2.0]]).unwrap(),
                &BlockBootstrap { block: 1, resamples: 1, seed: 1 }
            )
            .is_err()
        );
    }
}
