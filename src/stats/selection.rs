//! Multiple comparisons with the best arm: which arms can be the fastest, and how much each can lose to it.

use serde::{Deserialize, Serialize};

use super::anytime;
use super::blocks::{Blocks, covariance};
use super::error::{Result, StatsError, check_confidence};
use super::max_t::{NO_SPREAD, difference_variance, largest_per_control, max_t_draws, upper_quantile};
use super::parallel::in_parallel;
use super::sign_flip::{Signs, t_of_normalised_sum};

/// From this number of prompts on, [`Method::for_prompts`] trusts the multivariate t.
pub const MAX_T_PROMPTS: usize = 20;

/// Where the critical values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Multivariate t with the estimated correlation, by seeded Monte Carlo.
    MaxT,
    /// Flipping the signs of whole prompts; all sign vectors where they are no more than the draws.
    SignFlip,
    /// Confidence sequences, valid whenever measuring stops; Bonferroni over the rivals.
    AnyTime,
}

impl Method {
    /// Sign flips below [`MAX_T_PROMPTS`] prompts, the multivariate t from there on.
    pub fn for_prompts(prompts: usize) -> Self {
        if prompts < MAX_T_PROMPTS { Method::SignFlip } else { Method::MaxT }
    }
}

/// What simultaneous comparison with the best says, one entry an arm.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    pub method: Method,
    /// Chance that an arm that is truly the fastest looks as slow as this one.
    pub p_best: Vec<f64>,
    /// Whether the arm can be the fastest: together these arms hold the fastest with the confidence asked for.
    pub may_be_best: Vec<bool>,
    /// Simultaneous upper bound on the loss to the fastest arm (0.02 is 2 % more seconds a token); infinite where the data
    /// give none.
    pub loss_bound: Vec<f64>,
    /// Critical value of the largest t statistic with this arm as the control.
    pub critical_value: Vec<f64>,
    covariance: Vec<f64>,
}

impl Selection {
    /// The bound that `arm` would have with `prompts` prompts, the costs and their spread being those measured, where the
    /// estimates fall `assurance` standard errors to the wrong side.
    pub(crate) fn expected_loss_bound(&self, blocks: &Blocks, arm: usize, prompts: usize, assurance: f64) -> f64 {
        let rivals = (0..blocks.arms()).filter(|&rival| rival != arm);
        let bounds = rivals.map(|rival| {
            let reach = (self.critical_value[rival] + assurance).powi(2) / prompts as f64;
            ratio_bound(blocks, &self.covariance, arm, rival, reach) - 1.0
        });
        bounds.fold(0.0, f64::max)
    }
}

/// Multiple comparisons with the best (Hsu, "Constrained simultaneous confidence intervals for multiple comparisons with
/// the best", 1984; Nelson and Matejcik, "Using common random numbers for indifference-zone selection and multiple
/// comparisons in simulation", 1995, for arms that share their prompts; Edwards and Hsu 1983 for one critical value per
/// control). The bounds on ratios of costs are Fieller's ("Some problems in interval estimation", 1954).
///
/// With probability `confidence` the fastest arm is among `may_be_best` and no arm loses more than its bound.
/// Needs two prompts; see [`Method`] for `draws` and `seed`.
pub fn compare_with_best(
    blocks: &Blocks,
    confidence: f64,
    method: Method,
    draws: usize,
    seed: u64,
) -> Result<Selection> {
    check_confidence(confidence)?;
    if blocks.prompts() < 2 {
        return Err(StatsError::TooFew { what: "prompts".into(), needed: 2, found: blocks.prompts() });
    }
    let residual_covariance = covariance(&blocks.relative_residuals(), blocks.arms());
    let (critical_value, p_best) = match method {
        Method::MaxT => by_max_t(blocks, &residual_covariance, confidence, draws, seed),
        Method::SignFlip => by_sign_flips(blocks, confidence, draws, seed),
        Method::AnyTime => by_confidence_sequences(blocks, confidence),
    };
    let may_be_best: Vec<bool> = p_best.iter().map(|&p| p > 1.0 - confidence).collect();
    let loss_bound: Vec<f64> = (0..blocks.arms())
        .map(|arm| {
            let rivals = (0..blocks.arms()).filter(|&rival| rival != arm && may_be_best[rival]);
            let bounds = rivals.map(|rival| {
                let reach = critical_value[rival].powi(2) / blocks.prompts() as f64;
                ratio_bound(blocks, &residual_covariance, arm, rival, reach) - 1.0
            });
            bounds.fold(0.0, f64::max)
        })
        .collect();
    Ok(Selection { method, p_best, may_be_best, loss_bound, critical_value, covariance: residual_covariance })
}

/// Critical values and p-values from the multivariate t.
fn by_max_t(
    blocks: &Blocks,
    residual_covariance: &[f64],
    confidence: f64,
    draws: usize,
    seed: u64,
) -> (Vec<f64>, Vec<f64>) {
    let freedom = (blocks.prompts() - 1) as f64;
    let maxima = max_t_draws(residual_covariance, blocks.arms(), freedom, draws, seed);
    let arms: Vec<(Vec<f64>, f64)> = maxima.into_iter().zip(largest_t(blocks)).collect();
    let one = |(mut draws, observed): (Vec<f64>, f64)| {
        let as_large = draws.iter().filter(|t| **t >= observed).count();
        (upper_quantile(&mut draws, confidence), (as_large + 1) as f64 / (draws.len() + 1) as f64)
    };
    // Threads pay where the draws are many.
    let found = if draws > 20_000 { in_parallel(arms, one) } else { arms.into_iter().map(one).collect() };
    found.into_iter().unzip()
}

/// Critical values and p-values that hold at every number of prompts.
fn by_confidence_sequences(blocks: &Blocks, confidence: f64) -> (Vec<f64>, Vec<f64>) {
    let rivals = (blocks.arms() - 1).max(1) as f64;
    let alpha = (1.0 - confidence) / rivals;
    let critical = anytime::critical_value(blocks.prompts(), alpha);
    let p_values =
        largest_t(blocks).into_iter().map(|t| (rivals * anytime::p_value(t, blocks.prompts(), alpha)).min(1.0));
    (vec![critical; blocks.arms()], p_values.collect())
}

/// For every arm the t statistic of its largest excess over a rival, at least zero.
fn largest_t(blocks: &Blocks) -> Vec<f64> {
    largest_normalised_sums(blocks).into_iter().map(|sum| t_of_normalised_sum(sum, blocks.prompts())).collect()
}

/// p-values from flips of the differences themselves, which are exact when the errors of two arms are exchangeable;
/// critical values from flips of the residuals about the estimated ratios.
fn by_sign_flips(blocks: &Blocks, confidence: f64, draws: usize, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let (arms, prompts) = (blocks.arms(), blocks.prompts());
    let residuals = blocks.relative_residuals();
    let costs = blocks.relative_costs();
    let (cost_weights, residual_weights) = (inverse_norms(&costs, arms), inverse_norms(&residuals, arms));
    let observed = largest_normalised_sums(blocks);
    let mut as_large = vec![0; arms];
    let mut maxima = vec![Vec::new(); arms];
    let (mut sums, mut largest) = (vec![0.0; arms], vec![0.0; arms]);
    let mut signs = Signs::new(prompts, draws, seed);
    while let Some(signs) = signs.draw() {
        signed_sums(&costs, signs, &mut sums);
        largest_per_control(&sums, &cost_weights, &mut largest);
        for arm in 0..arms {
            as_large[arm] += usize::from(largest[arm] >= observed[arm] - 1e-9);
        }
        signed_sums(&residuals, signs, &mut sums);
        largest_per_control(&sums, &residual_weights, &mut largest);
        maxima.iter_mut().zip(&largest).for_each(|(column, sum)| column.push(*sum));
    }
    let p_best = as_large.into_iter().map(|count| signs.p_value(count)).collect();
    let critical = maxima.iter_mut().map(|column| t_of_normalised_sum(upper_quantile(column, confidence), prompts));
    (critical.collect(), p_best)
}

/// For every arm the largest Σ (cost - cost of a rival) over the root of the sum of squares, at least zero.
fn largest_normalised_sums(blocks: &Blocks) -> Vec<f64> {
    let costs = blocks.relative_costs();
    let mut sums = vec![0.0; blocks.arms()];
    signed_sums(&costs, &vec![1.0; blocks.prompts()], &mut sums);
    let mut largest = vec![0.0; blocks.arms()];
    largest_per_control(&sums, &inverse_norms(&costs, blocks.arms()), &mut largest);
    largest
}

/// Σ sign · value of each column.
fn signed_sums(rows: &[f64], signs: &[f64], sums: &mut [f64]) {
    sums.fill(0.0);
    for (row, sign) in rows.chunks_exact(sums.len()).zip(signs) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += sign * value);
    }
}

/// 1 / root of the sum of squared differences of two columns; 0 where they never differ.
fn inverse_norms(rows: &[f64], columns: usize) -> Vec<f64> {
    let mut squares = vec![0.0; columns * columns];
    for row in rows.chunks_exact(columns) {
        for (a, left) in row.iter().enumerate() {
            for (b, right) in row.iter().enumerate() {
                squares[a * columns + b] += (left - right) * (left - right);
            }
        }
    }
    let floor = NO_SPREAD * (rows.len() / columns) as f64;
    squares.into_iter().map(|square| if square > floor { square.sqrt().recip() } else { 0.0 }).collect()
}

/// Fieller's upper bound on the ratio of the costs of `arm` and `rival` from `covariance` of the relative residuals, with
/// `reach` the squared critical value over the number of prompts; infinite where there is none.
pub(crate) fn ratio_bound(blocks: &Blocks, covariance: &[f64], arm: usize, rival: usize, reach: f64) -> f64 {
    let variance = |a: usize, b: usize| covariance[a * blocks.arms() + b];
    let difference = difference_variance(covariance, blocks.arms(), arm, rival);
    let ratio = blocks.means()[arm] / blocks.means()[rival];
    if difference == 0.0 {
        return ratio;
    }
    let determinant = variance(arm, arm) * variance(rival, rival) - variance(arm, rival).powi(2);
    let leading = 1.0 - reach * variance(rival, rival);
    let root = reach * difference - reach * reach * determinant;
    if !reach.is_finite() || leading <= 0.0 || root < 0.0 {
        return f64::INFINITY;
    }
    ratio * (1.0 - reach * variance(arm, rival) + root.sqrt()) / leading
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::summary::{mean_of, variance_of};

    fn two_arms() -> Vec<Vec<f64>> {
        let noise = |prompt: usize, arm: usize| 1.0 + 0.03 * ((prompt * 7 + arm * 5) % 11) as f64;
        (0..9).map(|prompt| vec![1.1 * noise(prompt, 0), (1.0 + 0.2 * prompt as f64) * noise(prompt, 1)]).collect()
    }

    #[test]
    fn at_the_bound_the_ratio_is_just_not_rejected() {
        let seconds = two_arms();
        let blocks = Blocks::from_seconds(&seconds).unwrap();
        let covariance = covariance(&blocks.relative_residuals(), 2);
        for (arm, rival, critical) in [(0, 1, 2.0), (1, 0, 2.0), (0, 1, 0.3), (1, 0, 4.0f64)] {
            let ratio = ratio_bound(&blocks, &covariance, arm, rival, critical.powi(2) / 9.0);
            let contrast: Vec<f64> = seconds.iter().map(|row| row[arm] - ratio * row[rival]).collect();
            let t = mean_of(&contrast) / (variance_of(&contrast) / 9.0).sqrt();
            assert!((t + critical).abs() < 1e-9, "{t} {critical}");
        }
    }

    #[test]
    fn a_denominator_that_could_be_zero_gives_no_bound() {
        let blocks = Blocks::from_seconds(&[vec![1.0, 0.01], vec![1.0, 9.0]]).unwrap();
        let covariance = covariance(&blocks.relative_residuals(), 2);
        assert_eq!(ratio_bound(&blocks, &covariance, 0, 1, 4.0), f64::INFINITY);
        assert_eq!(ratio_bound(&blocks, &covariance, 0, 1, f64::INFINITY), f64::INFINITY);
    }

    #[test]
    fn the_only_arm_that_can_be_best_loses_nothing() {
        let rows: Vec<Vec<f64>> =
            (0..8).map(|prompt| vec![1.0 + 0.01 * prompt as f64, 2.0 - 0.01 * prompt as f64]).collect();
        let blocks = Blocks::from_seconds(&rows).unwrap();
        for method in [Method::MaxT, Method::SignFlip] {
            let found = compare_with_best(&blocks, 0.95, method, 1_000, 1).unwrap();
            assert_eq!((found.may_be_best, found.loss_bound[0]), (vec![true, false], 0.0));
            assert!(found.loss_bound[1] > blocks.loss(1, 0) && found.loss_bound[1] < 1.2);
        }
        assert!(compare_with_best(&Blocks::from_seconds(&rows[..1]).unwrap(), 0.95, Method::MaxT, 9, 1).is_err());
    }
}
