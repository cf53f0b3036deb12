//! Bootstrap intervals with the prompt as the unit: whole prompts are resampled, with every arm measured on them.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::error::{Result, check_between, check_confidence, check_length, check_positive};
use super::paired::students_t;
use super::parallel::{in_parallel, parts};
use super::summary::{mean_of, quantile_in_place};

/// Resamples that a published interval should use.
pub const RESAMPLES: usize = 10_000;
/// Resamples that one thread draws from one stream.
const PART: usize = 2_500;
/// Below this number of prompts no interval is given.
pub const FEWEST_PROMPTS: usize = 3;

/// How to draw, and how sure to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Two-sided confidence level, for example 0.95.
    pub confidence: f64,
    /// Bootstrap resamples, at least 1.
    pub resamples: usize,
    /// Seed of the generator; the same seed gives the same interval on every machine.
    pub seed: u64,
}

impl Options {
    /// [`RESAMPLES`] resamples.
    pub fn new(confidence: f64, seed: u64) -> Self {
        Options { confidence, resamples: RESAMPLES, seed }
    }
}

/// An estimate with an interval, or with the reason why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The statistic on all prompts.
    pub value: f64,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
    /// Nominal two-sided confidence of the interval.
    pub confidence: f64,
    /// Why there is no interval, or what limits it.
    pub caveat: Option<String>,
}

impl Estimate {
    fn without_interval(value: f64, options: &Options, caveat: &str) -> Self {
        Estimate { value, low: None, high: None, confidence: options.confidence, caveat: Some(caveat.into()) }
    }
}

/// Speed-up of an arm over plain decoding, Σ seconds_plain / Σ seconds_arm over the same prompts, with a BCa interval.
///
/// Both slices hold seconds, one entry a prompt, in the same order of prompts and for the same token budget.
pub fn speedup(seconds_plain: &[f64], seconds_arm: &[f64], options: &Options) -> Result<Estimate> {
    check_positive("seconds of plain decoding", seconds_plain, 1)?;
    check_positive("seconds of the arm", seconds_arm, 1)?;
    check_length("seconds of the arm", seconds_plain.len(), seconds_arm.len())?;
    bca(seconds_plain.len(), |prompts| ratio_of_sums(seconds_plain, seconds_arm, prompts), options)
}

/// BCa interval (Efron, "Better bootstrap confidence intervals", 1987) of any statistic of a multiset of prompts, with the
/// tails expanded for small samples (see [`expanded_tail`]).
///
/// `statistic` is given prompt indices, with repetition, and must be finite. With fewer than [`FEWEST_PROMPTS`]
/// prompts, or when every resample gives the same value, the estimate comes without an interval and says why.
pub fn bca(prompts: usize, statistic: impl Fn(&[usize]) -> f64 + Sync, options: &Options) -> Result<Estimate> {
    let mut estimates = bca_many(prompts, |chosen| vec![statistic(chosen)], options)?;
    Ok(estimates.remove(0))
}

/// BCa intervals of several statistics from the same resamples.
pub fn bca_many(
    prompts: usize,
    statistics: impl Fn(&[usize]) -> Vec<f64> + Sync,
    options: &Options,
) -> Result<Vec<Estimate>> {
    check_confidence(options.confidence)?;
    check_between("resamples", options.resamples as f64, 0.0, f64::INFINITY, "at least 1")?;
    let all: Vec<usize> = (0..prompts).collect();
    let measured = statistics(&all);
    if prompts < FEWEST_PROMPTS {
        let caveat = format!("{prompts} prompts: an interval needs at least {FEWEST_PROMPTS}");
        return Ok(measured.iter().map(|&value| Estimate::without_interval(value, options, &caveat)).collect());
    }
    let all_but = |out: usize| all.iter().copied().filter(|&prompt| prompt != out).collect::<Vec<_>>();
    let leave_one_out = columns((0..prompts).map(|out| statistics(&all_but(out))).collect());
    let one_part = |(stream, count): (u64, usize)| -> Vec<Vec<f64>> {
        let mut resamples = Resamples::of_stream(prompts, options.seed, stream);
        (0..count).map(|_| statistics(resamples.draw())).collect()
    };
    let drawn = in_parallel(parts(options.resamples, PART), one_part);
    let replicates = columns(drawn.into_iter().flatten().collect());
    let tail = expanded_tail(options.confidence, prompts);
    let pieces: Vec<_> = measured.into_iter().zip(replicates).zip(leave_one_out).collect();
    let one = |((value, mut replicates), leave_one_out): ((f64, Vec<f64>), Vec<f64>)| {
        let Some((low, high)) = bca_interval(value, &mut replicates, &leave_one_out, tail) else {
            return Estimate::without_interval(value, options, "every resample agrees: no spread to estimate");
        };
        Estimate {
            value,
            low: Some(low),
            high: Some(high),
            confidence: options.confidence,
            caveat: (prompts < 20).then(|| format!("{prompts} prompts: the interval is approximate")),
        }
    };
    // Threads pay where there is much to sort.
    Ok(if options.resamples > PART { in_parallel(pieces, one) } else { pieces.into_iter().map(one).collect() })
}

/// Rows turned into columns; no rows give no columns.
fn columns(rows: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let count = rows.first().map_or(0, Vec::len);
    (0..count).map(|column| rows.iter().map(|row| row[column]).collect()).collect()
}

/// The BCa interval from the pieces: the estimate, its bootstrap replicates (reordered) and its leave-one-out
/// values; `tail` is the chance left on each side. `None` where the replicates or the leave-one-out values do not vary.
///
/// Bias correction with ties counted half, acceleration by the jackknife, type 7 quantiles of the replicates (Efron 1987;
/// Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 14.3).
pub fn bca_interval(value: f64, replicates: &mut [f64], leave_one_out: &[f64], tail: f64) -> Option<(f64, f64)> {
    let tolerance = 4.0 * f64::EPSILON * value.abs();
    let (smallest, largest) =
        (replicates.iter().copied().reduce(f64::min)?, replicates.iter().copied().reduce(f64::max)?);
    if replicates.iter().any(|r| !r.is_finite()) || largest - smallest <= tolerance {
        return None;
    }
    let below = replicates.iter().filter(|r| **r < value).count() as f64;
    let not_above = replicates.iter().filter(|r| **r <= value).count() as f64;
    let normal = Normal::standard();
    // An estimate outside all replicates would give an infinite correction; half a replicate keeps it finite.
    let count = replicates.len() as f64;
    let share = ((below + not_above) / (2.0 * count)).clamp(0.5 / count, 1.0 - 0.5 / count);
    let bias_correction = normal.inverse_cdf(share);
    let acceleration = acceleration(leave_one_out)?;
    let mut end = |quantile: f64| {
        let z = bias_correction + quantile;
        // Beyond 1 / acceleration the transformation has its pole: the outermost replicate is all that can be said.
        let rest = 1.0 - acceleration * z;
        let adjusted = if rest > 0.0 { normal.cdf(bias_correction + z / rest) } else { f64::from(u8::from(z > 0.0)) };
        quantile_in_place(replicates, adjusted)
    };
    let reach = -normal.inverse_cdf(tail.max(f64::MIN_POSITIVE));
    Some((end(-reach), end(reach)))
}

/// The chance to leave on each side of a bootstrap interval for `prompts` prompts, so that it is as wide as a t interval
/// where that is right: a bootstrap distribution is too narrow by √((n - 1) / n) and has the tails of a normal (Hesterberg,
/// "What teachers should know about the bootstrap", 2015, section 4.2.1). Without it 8 prompts cover 88 % for 95 %.
pub fn expanded_tail(confidence: f64, prompts: usize) -> f64 {
    let n = prompts as f64;
    let t = students_t(n - 1.0).inverse_cdf((1.0 - confidence) / 2.0);
    Normal::standard().cdf(t * (n / (n - 1.0)).sqrt())
}

/// Skewness of the jackknife values over six; `None` where they do not vary.
fn acceleration(leave_one_out: &[f64]) -> Option<f64> {
    let centre = mean_of(leave_one_out);
    let (squares, cubes) = leave_one_out
        .iter()
        .map(|v| centre - v)
        .fold((0.0, 0.0), |(squares, cubes), influence| (squares + influence.powi(2), cubes + influence.powi(3)));
    (squares > 0.0).then(|| cubes / (6.0 * squares.powf(1.5)))
}

/// Σ numerator / Σ denominator over the prompts of a resample.
pub fn ratio_of_sums(numerator: &[f64], denominator: &[f64], prompts: &[usize]) -> f64 {
    let (above, below) =
        prompts.iter().fold((0.0, 0.0), |(above, below), &i| (above + numerator[i], below + denominator[i]));
    above / below
}

/// Draws of prompt indices with replacement.
pub struct Resamples {
    rng: ChaCha8Rng,
    indices: Vec<usize>,
}

impl Resamples {
    pub fn new(prompts: usize, seed: u64) -> Self {
        Resamples::of_stream(prompts, seed, 0)
    }

    /// One of many independent sequences of the same seed.
    fn of_stream(prompts: usize, seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Resamples { rng, indices: vec![0; prompts] }
    }

    /// The next resample: as many indices as there are prompts.
    pub fn draw(&mut self) -> &[usize] {
        let prompts = self.indices.len() as u32;
        for index in &mut self.indices {
            *index = self.rng.random_range(0..prompts) as usize;
        }
        &self.indices
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::StatsError;
    use proptest::prelude::*;

    fn options(confidence: f64) -> Options {
        Options { confidence, resamples: 500, seed: 7 }
    }

    #[test]
    fn the_speedup_is_the_ratio_of_sums_and_not_the_mean_of_ratios() {
        let estimate = speedup(&[1.0, 9.0], &[2.0, 3.0], &options(0.95)).unwrap();
        assert_eq!(estimate.value, 2.0);
        assert_eq!((estimate.low, estimate.high), (None, None));
        assert!(estimate.caveat.unwrap().contains("at least 3"));
    }

    #[test]
    fn prompts_that_all_agree_give_no_invented_interval() {
        let estimate = speedup(&[1.5, 3.0, 0.3], &[1.0, 2.0, 0.2], &options(0.95)).unwrap();
        assert!((estimate.value - 1.5).abs() < 1e-12 && estimate.low.is_none());
        assert!(estimate.caveat.unwrap().contains("no spread"));
    }

    #[test]
    fn bad_seconds_are_named() {
        let error = speedup(&[1.0, 2.0], &[1.0, 0.0], &options(0.95)).unwrap_err();
        assert!(matches!(error, StatsError::NotPositive { index: 1, .. }));
        assert!(error.to_string().contains("seconds of the arm, entry 1"));
        assert!(speedup(&[1.0, f64::INFINITY], &[1.0, 1.0], &options(0.95)).is_err());
        assert!(speedup(&[1.0, 2.0], &[1.0], &options(0.95)).is_err());
        assert!(speedup(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0], &options(1.0)).is_err());
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let (plain, arm) = ([1.0, 2.0, 3.0, 4.0, 5.0], [0.9, 1.5, 2.9, 3.0, 4.5]);
        assert_eq!(speedup(&plain, &arm, &options(0.9)), speedup(&plain, &arm, &options(0.9)));
        assert_ne!(speedup(&plain, &arm, &options(0.9)), speedup(&plain, &arm, &Options { seed: 8, ..options(0.9) }));
    }

    proptest! {
        #[test]
        fn the_unit_of_time_does_not_matter(seconds in prop::collection::vec((0.5..2.0f64, 0.5..2.0f64), 3..20), exponent in -8i32..8) {
            let (plain, arm): (Vec<f64>, Vec<f64>) = seconds.into_iter().unzip();
            let scaled = |values: &[f64]| values.iter().map(|v| v * 2f64.powi(exponent)).collect::<Vec<_>>();
            prop_assert_eq!(
                speedup(&plain, &arm, &options(0.95)).unwrap(),
                speedup(&scaled(&plain), &scaled(&arm), &options(0.95)).unwrap()
            );
        }

        #[test]
        fn a_wider_confidence_gives_a_wider_interval(seconds in prop::collection::vec((0.5..2.0f64, 0.5..2.0f64), 3..20)) {
            let (plain, arm): (Vec<f64>, Vec<f64>) = seconds.into_iter().unzip();
            let narrow = speedup(&plain, &arm, &options(0.8)).unwrap();
            let wide = speedup(&plain, &arm, &options(0.99)).unwrap();
            if let (Some(low), Some(high)) = (narrow.low, narrow.high) {
                prop_assert!(wide.low.unwrap() <= low && high <= wide.high.unwrap());
            }
        }
    }
}
