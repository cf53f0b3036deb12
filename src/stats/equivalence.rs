//! Equivalence: is one arm as fast as another, up to a margin that was declared beforehand?

use serde::{Deserialize, Serialize};
use statrs::distribution::ContinuousCDF;

use super::error::{Result, StatsError, check_between, check_finite, check_length, check_positive};
use super::paired::{differences, standard_error, students_t};
use super::summary::mean_of;

/// Two one-sided tests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Equivalence {
    /// p-value of 'not below the lower limit'.
    pub p_lower: f64,
    /// p-value of 'not above the upper limit'. On its own, for seconds: 'does not lose'.
    pub p_upper: f64,
    /// The larger of the two: equivalence is shown at level α where it is at most α.
    pub p: f64,
}

impl Equivalence {
    fn new(p_lower: f64, p_upper: f64) -> Self {
        Equivalence { p_lower, p_upper, p: p_lower.max(p_upper) }
    }
}

/// TOST for the mean of paired differences first - second (Schuirmann, "A comparison of the two one-sided tests
/// procedure and the power approach", 1987): both limits are in the unit of the samples.
pub fn tost(first: &[f64], second: &[f64], low: f64, high: f64) -> Result<Equivalence> {
    if !(low.is_finite() && high.is_finite() && low < high) {
        return Err(StatsError::Parameter { name: "upper limit", value: high, allowed: "above the lower limit" });
    }
    let differences = differences(first, second, 2)?;
    let p_lower = one_sided(&differences, low, standard_error(&differences)?);
    let p_upper = one_sided_below(&differences, high)?;
    Ok(Equivalence::new(p_lower, p_upper))
}

/// TOST for the ratio Σ seconds_arm / Σ seconds_reference between 1 / (1 + margin) and 1 + margin, in the form of
/// Sasabuchi's test (Hauschke, Kieser and Hothorn, "Proof of safety in toxicology based on the ratio of two means",
/// 1999): the null 'ratio = r' says that seconds_arm - r · seconds_reference has mean zero.
pub fn tost_ratio(seconds_arm: &[f64], seconds_reference: &[f64], margin: f64) -> Result<Equivalence> {
    check_between("margin", margin, 0.0, f64::INFINITY, "above 0, for example 0.02")?;
    check_positive("seconds of the arm", seconds_arm, 2)?;
    check_positive("seconds of the reference", seconds_reference, 2)?;
    check_length("seconds of the reference", seconds_arm.len(), seconds_reference.len())?;
    let against = |numerator: &[f64], denominator: &[f64]| {
        let contrast: Vec<f64> = numerator.iter().zip(denominator).map(|(a, b)| a - (1.0 + margin) * b).collect();
        one_sided_below(&contrast, 0.0)
    };
    Ok(Equivalence::new(against(seconds_reference, seconds_arm)?, against(seconds_arm, seconds_reference)?))
}

/// p-value of the one-sided t test against 'the mean is at least `limit`'.
pub(crate) fn one_sided_below(values: &[f64], limit: f64) -> Result<f64> {
    check_finite("values", values, 2)?;
    let negated: Vec<f64> = values.iter().map(|v| -v).collect();
    Ok(one_sided(&negated, -limit, standard_error(values)?))
}

/// p-value of the one-sided t test against 'the mean is at most `limit`'.
fn one_sided(values: &[f64], limit: f64, standard_error: f64) -> f64 {
    let t = (mean_of(values) - limit) / standard_error;
    students_t((values.len() - 1) as f64).sf(t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bad_limits_and_times_are_refused() {
        assert!(tost(&[1.0, 2.0], &[1.0, 3.0], 0.1, -0.1).is_err());
        assert!(tost_ratio(&[1.0, 2.0], &[1.0, 3.0], 0.0).is_err());
        assert!(tost_ratio(&[1.0, -2.0], &[1.0, 3.0], 0.02).is_err());
        assert!(tost_ratio(&[1.0, 2.0, 3.0], &[1.0, 3.0], 0.02).is_err());
    }

    proptest! {
        #[test]
        fn the_ratio_form_ignores_the_unit_and_mirrors_exchange(
            pairs in prop::collection::vec((0.5..2.0f64, 0.5..2.0f64), 3..20), exponent in -6i32..6,
        ) {
            let (arm, reference): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let scaled = |values: &[f64]| values.iter().map(|v| v * 2f64.powi(exponent)).collect::<Vec<_>>();
            let here = tost_ratio(&arm, &reference, 0.02).unwrap();
            prop_assert_eq!(here, tost_ratio(&scaled(&arm), &scaled(&reference), 0.02).unwrap());
            let there = tost_ratio(&reference, &arm, 0.02).unwrap();
            prop_assert_eq!((here.p_lower, here.p_upper), (there.p_upper, there.p_lower));
        }
    }
}
