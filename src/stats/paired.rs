//! Two arms on the same prompts: the paired t test and Wilcoxon's signed-rank test.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::error::{Result, StatsError, check_confidence, check_finite, check_length};
use super::summary::{mean_of, variance_of};

/// Result of a paired t test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedT {
    /// Mean of first minus second, in the unit of the samples.
    pub mean_difference: f64,
    /// Lower end of the interval of the mean difference.
    pub low: f64,
    /// Upper end of the interval of the mean difference.
    pub high: f64,
    pub t: f64,
    pub degrees_of_freedom: f64,
    /// Two-sided.
    pub p: f64,
}

/// Paired t test of `first` against `second` (Student, "The probable error of a mean", 1908), with an interval for the
/// mean difference. Equal differences everywhere are refused: they leave no spread to measure against.
pub fn paired_t(first: &[f64], second: &[f64], confidence: f64) -> Result<PairedT> {
    check_confidence(confidence)?;
    let differences = differences(first, second, 2)?;
    let mean_difference = mean_of(&differences);
    let standard_error = standard_error(&differences)?;
    let degrees_of_freedom = (differences.len() - 1) as f64;
    let distribution = students_t(degrees_of_freedom);
    let t = mean_difference / standard_error;
    let half_width = distribution.inverse_cdf(0.5 + confidence / 2.0) * standard_error;
    Ok(PairedT {
        mean_difference,
        low: mean_difference - half_width,
        high: mean_difference + half_width,
        t,
        degrees_of_freedom,
        p: 2.0 * distribution.cdf(-t.abs()),
    })
}

/// Standard error of the mean of paired differences.
pub(crate) fn standard_error(differences: &[f64]) -> Result<f64> {
    let variance = variance_of(differences);
    let scale = differences.iter().fold(0.0f64, |scale, d| scale.max(d.abs()));
    if variance.sqrt() <= 4.0 * f64::EPSILON * scale {
        return Err(StatsError::NoSpread { what: "paired differences".into() });
    }
    Ok((variance / differences.len() as f64).sqrt())
}

/// First minus second, checked.
pub(crate) fn differences(first: &[f64], second: &[f64], needed: usize) -> Result<Vec<f64>> {
    check_finite("first sample", first, needed)?;
    check_finite("second sample", second, needed)?;
    check_length("second sample", first.len(), second.len())?;
    Ok(first.iter().zip(second).map(|(a, b)| a - b).collect())
}

pub(crate) fn students_t(degrees_of_freedom: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, degrees_of_freedom).expect("degrees of freedom are positive")
}

/// How the p-value of the signed-rank test is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignedRankMethod {
    /// Over all sign assignments of the ranks at hand, ties included.
    Exact,
    /// Normal approximation with tie and continuity correction.
    Normal,
}

/// Result of Wilcoxon's signed-rank test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SignedRank {
    /// Sum of the ranks of the positive differences.
    pub rank_sum: f64,
    /// Differences that are not zero.
    pub used: usize,
    /// Differences that are zero, left out.
    pub zeros: usize,
    pub method: SignedRankMethod,
    /// Two-sided.
    pub p: f64,
}

/// Largest number of non-zero differences for which [`signed_rank`] computes the exact distribution.
pub const EXACT_SIGNED_RANK: usize = 100;

/// Wilcoxon's signed-rank test of `first` against `second` (Wilcoxon, "Individual comparisons by ranking methods",
/// 1945): zeros are dropped, ties get their mean rank. Exact up to [`EXACT_SIGNED_RANK`] non-zero differences.
pub fn signed_rank(first: &[f64], second: &[f64]) -> Result<SignedRank> {
    let differences = differences(first, second, 1)?;
    let used = differences.iter().filter(|&&d| d != 0.0).count();
    let method = if used <= EXACT_SIGNED_RANK { SignedRankMethod::Exact } else { SignedRankMethod::Normal };
    signed_rank_by(method, &differences)
}

/// The same from differences, with the method chosen by the caller.
pub fn signed_rank_by(method: SignedRankMethod, differences: &[f64]) -> Result<SignedRank> {
    check_finite("differences", differences, 1)?;
    let nonzero: Vec<f64> = differences.iter().copied().filter(|&d| d != 0.0).collect();
    let zeros = differences.len() - nonzero.len();
    if nonzero.is_empty() {
        return Ok(SignedRank { rank_sum: 0.0, used: 0, zeros, method, p: 1.0 });
    }
    let ranks = mid_ranks(&nonzero.iter().map(|d| d.abs()).collect::<Vec<_>>());
    let rank_sum = nonzero.iter().zip(&ranks).filter(|(d, _)| **d > 0.0).map(|(_, rank)| rank).sum();
    let p = match method {
        SignedRankMethod::Exact => exact_signed_rank_p(rank_sum, &ranks),
        SignedRankMethod::Normal => normal_signed_rank_p(rank_sum, &ranks),
    };
    Ok(SignedRank { rank_sum, used: nonzero.len(), zeros, method, p })
}

/// Twice the smaller tail of the rank sum when every rank is positive with chance one half. Doubled ranks are integers
/// even with ties, so the distribution is a convolution over integers.
fn exact_signed_rank_p(rank_sum: f64, ranks: &[f64]) -> f64 {
    let doubled: Vec<usize> = ranks.iter().map(|rank| (2.0 * rank).round() as usize).collect();
    let total: usize = doubled.iter().sum();
    let mut chance = vec![0.0; total + 1];
    chance[0] = 1.0;
    let mut reach = 0;
    for rank in doubled {
        reach += rank;
        for sum in (0..=reach).rev() {
            let taken = if sum >= rank { chance[sum - rank] } else { 0.0 };
            chance[sum] = 0.5 * (chance[sum] + taken);
        }
    }
    let observed = (2.0 * rank_sum).round() as usize;
    // The distribution is symmetric, so the upper tail equals the lower tail of the mirrored sum.
    let smaller = observed.min(total - observed);
    (2.0 * chance[..=smaller].iter().sum::<f64>()).min(1.0)
}

fn normal_signed_rank_p(rank_sum: f64, ranks: &[f64]) -> f64 {
    // Σ rank² / 4 is the variance, ties included.
    let centre = ranks.iter().sum::<f64>() / 2.0;
    let deviation = ranks.iter().map(|rank| rank * rank).sum::<f64>().sqrt() / 2.0;
    let distance = ((rank_sum - centre).abs() - 0.5).max(0.0) / deviation;
    2.0 * Normal::standard().cdf(-distance)
}

/// Ranks from 1, equal values sharing the mean of their ranks.
pub(crate) fn mid_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut placed = 0;
    for ties in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = placed as f64 + (ties.len() + 1) as f64 / 2.0;
        ties.iter().for_each(|&member| ranks[member] = rank);
        placed += ties.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_differences_have_no_t_and_identical_samples_no_signed_rank_evidence() {
        let error = paired_t(&[1.0, 2.0, 3.0], &[0.5, 1.5, 2.5], 0.95).unwrap_err();
        assert!(matches!(error, StatsError::NoSpread { .. }));
        assert_eq!(signed_rank(&[1.0, 2.0], &[1.0, 2.0]).unwrap().p, 1.0);
    }

    #[test]
    fn bad_input_is_named() {
        assert!(matches!(paired_t(&[1.0], &[1.0], 0.95), Err(StatsError::TooFew { .. })));
        assert!(matches!(paired_t(&[1.0, 2.0], &[1.0], 0.95), Err(StatsError::TooFew { .. })));
        assert!(matches!(paired_t(&[1.0, 2.0, 3.0], &[1.0, 2.0], 0.95), Err(StatsError::Length { .. })));
        assert!(matches!(signed_rank(&[f64::NAN], &[1.0]), Err(StatsError::NotFinite { index: 0, .. })));
    }

    #[test]
    fn ties_share_their_mean_rank() {
        assert_eq!(mid_ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [4.0, 1.0, 4.0, 2.0, 4.0]);
    }

    fn pairs() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
        prop::collection::vec((0..64i32, 0..64i32), 3..30)
            .prop_map(|pairs| pairs.into_iter().map(|(a, b)| (f64::from(a), f64::from(b))).unzip())
    }

    proptest! {
        // Small integers keep shift and scaling by powers of two exact.
        #[test]
        fn shift_and_unit_do_not_matter((first, second) in pairs(), shift in 0..50i32, exponent in -4i32..4) {
            let moved = |values: &[f64]| values.iter().map(|v| (v + f64::from(shift)) * 2f64.powi(exponent)).collect::<Vec<_>>();
            let (a, b) = (signed_rank(&first, &second).unwrap(), signed_rank(&moved(&first), &moved(&second)).unwrap());
            prop_assert_eq!(a, b);
            match (paired_t(&first, &second, 0.95), paired_t(&moved(&first), &moved(&second), 0.95)) {
                (Ok(a), Ok(b)) => prop_assert!((a.p - b.p).abs() < 1e-12 && (a.t - b.t).abs() < 1e-9),
                (a, b) => prop_assert!(a.is_err() && b.is_err()),
            }
        }

        #[test]
        fn exchanging_the_samples_keeps_p((first, second) in pairs()) {
            let (a, b) = (signed_rank(&first, &second).unwrap(), signed_rank(&second, &first).unwrap());
            prop_assert!((a.p - b.p).abs() < 1e-12);
            if let (Ok(a), Ok(b)) = (paired_t(&first, &second, 0.95), paired_t(&second, &first, 0.95)) {
                prop_assert!((a.t + b.t).abs() < 1e-9 && (a.p - b.p).abs() < 1e-12);
            }
        }
    }
}
