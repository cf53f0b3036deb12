//! Does the best draft length differ between two regimes, and what does it cost to carry one regime's length to the other?

use serde::{Deserialize, Serialize};

use super::blocks::Blocks;
use super::bootstrap::Resamples;
use super::error::{Result, check_between, check_confidence, check_length};
use super::selection::{Method, compare_with_best};
use super::summary::{quantile_of_sorted, sorted};

/// A quantity with a bootstrap percentile interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// Two regimes compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contrast {
    /// Length with the lowest cost in the first regime, and in the second.
    pub best: (u32, u32),
    /// p-value of 'one and the same length is the fastest in both regimes'.
    pub p_same_best: f64,
    /// Best length of the second regime less that of the first.
    pub difference: Spread,
    /// Relative loss in the second regime from using the first regime's best length there (0.05 is 5 % more time).
    pub regret_of_first_in_second: Spread,
    /// Relative loss in the first regime from using the second regime's best length there.
    pub regret_of_second_in_first: Spread,
}

/// How to compare regimes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    pub confidence: f64,
    /// The regimes were measured on the same prompts in the same order: they are then resampled together.
    pub same_prompts: bool,
    pub resamples: usize,
    /// Monte-Carlo draws of the simultaneous comparison.
    pub draws: usize,
    pub seed: u64,
}

/// Compares two regimes with the same arms (`draft_lengths`, in the order of the blocks' arms).
///
/// The test is by intersection and union: a length is rejected as the common best where either regime rejects it (twice
/// the smaller of its two p-values, which takes no account of how the regimes depend on each other), and p is the largest
/// over the lengths (Berger, "Multiparameter hypothesis testing and acceptance sampling", 1982). The intervals are
/// percentile intervals over resampled prompts (Efron and Tibshirani 1993, chapter 13): an index of a minimum has no
/// smooth sampling distribution, so they show how stable the answer is and the test carries the claim.
pub fn contrast(draft_lengths: &[u32], first: &Blocks, second: &Blocks, options: &Options) -> Result<Contrast> {
    check_confidence(options.confidence)?;
    check_between("resamples", options.resamples as f64, 0.0, f64::INFINITY, "at least 1")?;
    check_length("arms of the first regime", draft_lengths.len(), first.arms())?;
    check_length("arms of the second regime", draft_lengths.len(), second.arms())?;
    if options.same_prompts {
        check_length("prompts of the second regime", first.prompts(), second.prompts())?;
    }
    let p_best = |blocks: &Blocks| {
        let method = Method::for_prompts(blocks.prompts());
        compare_with_best(blocks, options.confidence, method, options.draws, options.seed).map(|found| found.p_best)
    };
    let p_same_best = p_best(first)?.into_iter().zip(p_best(second)?).map(|(a, b)| (2.0 * a.min(b)).min(1.0));
    let measured = Point::of(draft_lengths, first.means(), second.means());
    let mut points = Vec::with_capacity(options.resamples);
    let mut of_first = Resamples::new(first.prompts(), options.seed);
    let mut of_second = Resamples::new(second.prompts(), options.seed.wrapping_add(1));
    for _ in 0..options.resamples {
        let chosen = of_first.draw();
        let first_means = means_over(first, chosen);
        let second_means = means_over(second, if options.same_prompts { chosen } else { of_second.draw() });
        points.push(Point::of(draft_lengths, &first_means, &second_means));
    }
    let spread = |value: fn(&Point) -> f64| spread(value(&measured), points.iter().map(value).collect(), options);
    Ok(Contrast {
        best: measured.best,
        p_same_best: p_same_best.fold(0.0, f64::max),
        difference: spread(|point| f64::from(point.best.1) - f64::from(point.best.0)),
        regret_of_first_in_second: spread(|point| point.regrets.0),
        regret_of_second_in_first: spread(|point| point.regrets.1),
    })
}

/// What one set of mean costs says.
struct Point {
    best: (u32, u32),
    /// Of the first regime's best in the second, and of the second's in the first.
    regrets: (f64, f64),
}

impl Point {
    fn of(draft_lengths: &[u32], first: &[f64], second: &[f64]) -> Self {
        let fastest = |means: &[f64]| (0..means.len()).min_by(|&a, &b| means[a].total_cmp(&means[b])).unwrap_or(0);
        let (a, b) = (fastest(first), fastest(second));
        let regrets = (second[a] / second[b] - 1.0, first[b] / first[a] - 1.0);
        Point { best: (draft_lengths[a], draft_lengths[b]), regrets }
    }
}

fn means_over(blocks: &Blocks, chosen: &[usize]) -> Vec<f64> {
    let mut means = vec![0.0; blocks.arms()];
    for &prompt in chosen {
        means.iter_mut().zip(blocks.prompt(prompt)).for_each(|(mean, cost)| *mean += cost / chosen.len() as f64);
    }
    means
}

fn spread(value: f64, replicates: Vec<f64>, options: &Options) -> Spread {
    let (replicates, tail) = (sorted(&replicates), (1.0 - options.confidence) / 2.0);
    let at = |level| quantile_of_sorted(&replicates, level);
    Spread { value, low: at(tail), high: at(1.0 - tail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options { confidence: 0.95, same_prompts: true, resamples: 200, draws: 1_000, seed: 1 };

    fn blocks(costs: [f64; 3], offset: usize) -> Blocks {
        let noise = |prompt: usize, arm: usize| 1.0 + 0.01 * ((prompt * 29 + arm * 13 + offset) % 11) as f64;
        let row = |prompt| costs.iter().enumerate().map(|(arm, cost)| cost * noise(prompt, arm)).collect();
        Blocks::from_seconds(&(0..24).map(row).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn different_regimes_are_told_apart_with_the_price_of_confusing_them() {
        let found = contrast(&[0, 2, 8], &blocks([1.0, 0.7, 0.8], 0), &blocks([1.0, 0.9, 0.6], 5), &OPTIONS).unwrap();
        assert!(found.best == (2, 8) && found.p_same_best < 0.05);
        assert_eq!((found.difference.value, found.difference.low, found.difference.high), (6.0, 6.0, 6.0));
        let regret = found.regret_of_first_in_second;
        assert!(regret.low <= regret.value && regret.value <= regret.high && (regret.value - 0.5).abs() < 0.03);
    }

    #[test]
    fn equal_regimes_are_not() {
        for same_prompts in [true, false] {
            let options = Options { same_prompts, ..OPTIONS };
            let found =
                contrast(&[0, 2, 8], &blocks([1.0, 0.7, 0.7], 0), &blocks([1.0, 0.7, 0.7], 5), &options).unwrap();
            assert!(found.p_same_best > 0.05, "{found:?}");
        }
    }

    #[test]
    fn regimes_with_other_arms_or_prompts_are_refused() {
        let (a, b) =
            (blocks([1.0, 0.7, 0.8], 0), Blocks::from_seconds(&[vec![1.0, 2.0, 3.0], vec![1.0, 2.5, 3.0]]).unwrap());
        assert!(contrast(&[0, 2], &a, &a, &OPTIONS).is_err() && contrast(&[0, 2, 8], &a, &b, &OPTIONS).is_err());
        assert!(contrast(&[0, 2, 8], &a, &b, &Options { same_prompts: false, ..OPTIONS }).is_ok());
    }
}
