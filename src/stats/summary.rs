//! Summaries of one sample: mean, standard deviation, quantiles, median with an interval, median absolute deviation.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF};

use super::error::{Result, check_between, check_confidence, check_finite};

/// Arithmetic mean.
pub fn mean(values: &[f64]) -> Result<f64> {
    check_finite("values", values, 1)?;
    Ok(mean_of(values))
}

/// Sample standard deviation (n - 1 in the denominator).
pub fn standard_deviation(values: &[f64]) -> Result<f64> {
    check_finite("values", values, 2)?;
    Ok(variance_of(values).sqrt())
}

/// Quantile at `level` in [0, 1] by linear interpolation of order statistics: type 7 of Hyndman and Fan, "Sample
/// quantiles in statistical packages", 1996 (the default of R and NumPy).
pub fn quantile(values: &[f64], level: f64) -> Result<f64> {
    check_finite("values", values, 1)?;
    check_between("quantile level", level, -f64::MIN_POSITIVE, 1.0 + f64::EPSILON, "between 0 and 1")?;
    Ok(quantile_of_sorted(&sorted(values), level))
}

/// Median: the quantile at 0.5.
pub fn median(values: &[f64]) -> Result<f64> {
    quantile(values, 0.5)
}

/// Median absolute deviation from the median, unscaled (multiply by 1.4826 to estimate a normal's standard deviation).
pub fn median_absolute_deviation(values: &[f64]) -> Result<f64> {
    let centre = median(values)?;
    median(&values.iter().map(|v| (v - centre).abs()).collect::<Vec<_>>())
}

/// An interval for a median, or how many samples it would take to have one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MedianInterval {
    /// The two order statistics, and the confidence that they achieve: at least the one asked for.
    Found { low: f64, high: f64, confidence: f64 },
    /// No two order statistics of so small a sample reach the confidence asked for.
    NeedsSamples { at_least: usize },
}

/// Distribution-free interval for the median from two order statistics, the closest pair symmetric in rank whose
/// binomial coverage is at least `confidence` (Conover, "Practical Nonparametric Statistics", 3rd edition, section 3.2).
pub fn median_interval(values: &[f64], confidence: f64) -> Result<MedianInterval> {
    check_finite("values", values, 1)?;
    check_confidence(confidence)?;
    let n = values.len();
    let binomial = Binomial::new(0.5, n as u64).expect("0.5 is a probability");
    // Coverage of [x_(rank + 1), x_(n - rank)], ranks from 1.
    let coverage = |rank: usize| 1.0 - 2.0 * binomial.cdf(rank as u64);
    let Some(rank) = (0..n.div_ceil(2)).take_while(|&rank| coverage(rank) >= confidence).last() else {
        return Ok(MedianInterval::NeedsSamples { at_least: samples_for_median_interval(confidence) });
    };
    let sorted = sorted(values);
    Ok(MedianInterval::Found { low: sorted[rank], high: sorted[n - 1 - rank], confidence: coverage(rank) })
}

/// The smallest sample whose extremes cover the median with `confidence`: 1 - 2 · 2^-n reaches it.
fn samples_for_median_interval(confidence: f64) -> usize {
    (1..).find(|&n| 1.0 - 2.0 * 0.5f64.powi(n) >= confidence || n == 1000).expect("bounded by 1000") as usize
}

pub(crate) fn mean_of(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample variance in two passes, so that a large mean does not cancel it.
pub(crate) fn variance_of(values: &[f64]) -> f64 {
    let centre = mean_of(values);
    values.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

pub(crate) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// Type 7 quantile of values already in ascending order; `level` in [0, 1].
pub(crate) fn quantile_of_sorted(sorted: &[f64], level: f64) -> f64 {
    let position = level * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

/// The same of values in any order, which it changes: finding two of them takes less than sorting all.
pub(crate) fn quantile_in_place(values: &mut [f64], level: f64) -> f64 {
    let position = level * (values.len() - 1) as f64;
    let at = position.floor() as usize;
    let (_, &mut below, rest) = values.select_nth_unstable_by(at, f64::total_cmp);
    let above = rest.iter().copied().min_by(f64::total_cmp).unwrap_or(below);
    below + (position - at as f64) * (above - below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::StatsError;
    use proptest::prelude::*;

    #[test]
    fn five_samples_are_too_few_for_95_percent_and_six_are_enough() {
        let needs = median_interval(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95).unwrap();
        assert_eq!(needs, MedianInterval::NeedsSamples { at_least: 6 });
        match median_interval(&[6.0, 1.0, 2.0, 3.0, 4.0, 5.0], 0.95).unwrap() {
            MedianInterval::Found { low, high, confidence } => {
                assert_eq!((low, high), (1.0, 6.0));
                assert!((confidence - 31.0 / 32.0).abs() < 1e-12);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bad_values_are_named() {
        let error = median(&[1.0, f64::NAN]).unwrap_err();
        assert!(matches!(error, StatsError::NotFinite { index: 1, .. }));
        assert!(mean(&[]).is_err() && standard_deviation(&[1.0]).is_err());
        assert!(quantile(&[1.0], 1.5).is_err() && median_interval(&[1.0], 1.0).is_err());
    }

    proptest! {
        #[test]
        fn follow_shift_and_scale(values in prop::collection::vec(-100.0..100.0f64, 1..40), shift in -9.0..9.0f64, scale in 0.1..9.0f64) {
            let moved: Vec<f64> = values.iter().map(|v| scale * v + shift).collect();
            prop_assert!((median(&moved).unwrap() - (scale * median(&values).unwrap() + shift)).abs() < 1e-9);
            let spread = median_absolute_deviation(&moved).unwrap() - scale * median_absolute_deviation(&values).unwrap();
            prop_assert!(spread.abs() < 1e-9);
        }

        #[test]
        fn a_quantile_does_not_need_the_order(values in prop::collection::vec(-9.0..9.0f64, 1..60), level in 0.0..=1.0f64) {
            prop_assert_eq!(quantile_in_place(&mut values.clone(), level), quantile_of_sorted(&sorted(&values), level));
        }

        #[test]
        fn an_interval_holds_the_median_and_keeps_its_promise(values in prop::collection::vec(-100.0..100.0f64, 1..80), confidence in 0.5..0.999f64) {
            match median_interval(&values, confidence).unwrap() {
                MedianInterval::Found { low, high, confidence: achieved } => {
                    let middle = median(&values).unwrap();
                    prop_assert!(low <= middle && middle <= high && achieved >= confidence);
                }
                MedianInterval::NeedsSamples { at_least } => prop_assert!(values.len() < at_least),
            }
        }
    }
}
