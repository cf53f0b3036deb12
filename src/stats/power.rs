//! How many prompts does it take? Planning before a run, from a pilot or from declared spread.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{ChiSquared, Distribution, StandardNormal};
use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::gamma::ln_gamma;

use super::blocks::{Blocks, covariance};
use super::error::{Result, StatsError, check_between, check_confidence};
use super::max_t::{difference_variance, max_t_draws, upper_quantile};
use super::paired::students_t;

/// Most prompts that a plan considers.
pub const MOST_PROMPTS: usize = 1_000_000;

/// Power of the two-sided paired t test of `prompts` differences whose mean is `effect` standard deviations, at level
/// `alpha` (Cohen, "Statistical Power Analysis for the Behavioral Sciences", 2nd edition, chapter 2; noncentral t).
pub fn paired_t_power(prompts: usize, effect: f64, alpha: f64) -> Result<f64> {
    check_between("alpha", alpha, 0.0, 1.0, "between 0 and 1, for example 0.05")?;
    check_between("effect", effect, f64::NEG_INFINITY, f64::INFINITY, "finite")?;
    if prompts < 2 {
        return Err(StatsError::TooFew { what: "prompts".into(), needed: 2, found: prompts });
    }
    let freedom = (prompts - 1) as f64;
    let critical = students_t(freedom).inverse_cdf(1.0 - alpha / 2.0);
    let shift = effect * (prompts as f64).sqrt();
    Ok(noncentral_t_above(critical, freedom, shift) + noncentral_t_above(critical, freedom, -shift))
}

/// Fewest prompts with which a two-sided paired t test at level (1 - confidence) / comparisons, the strictest step of Holm,
/// sees a relative difference of `difference` with chance `power`; `sd` is the standard deviation over prompts of the
/// relative difference (see [`pilot_spread`]).
pub fn prompts_to_detect(difference: f64, sd: f64, comparisons: usize, confidence: f64, power: f64) -> Result<usize> {
    check_confidence(confidence)?;
    check_between("difference", difference, 0.0, f64::INFINITY, "above 0, for example 0.02")?;
    check_between("sd", sd, 0.0, f64::INFINITY, "above 0")?;
    check_between("comparisons", comparisons as f64, 0.0, f64::INFINITY, "at least 1")?;
    check_between("power", power, 0.0, 1.0, "between 0 and 1, for example 0.8")?;
    let alpha = (1.0 - confidence) / comparisons as f64;
    fewest(2, |prompts| Ok(paired_t_power(prompts, difference / sd, alpha)? >= power))
}

/// Fewest prompts with which some arm is shown to lose less than `margin` to the fastest with chance `power`, where all of
/// `arms` arms are equally fast (the hardest case): by Monte Carlo over the estimates, which are taken to be equally
/// correlated with a common spread. `sd` is as in [`prompts_to_detect`].
pub fn prompts_to_decide(margin: f64, sd: f64, arms: usize, confidence: f64, power: f64, seed: u64) -> Result<usize> {
    check_confidence(confidence)?;
    check_between("margin", margin, 0.0, f64::INFINITY, "above 0, for example 0.02")?;
    check_between("sd", sd, 0.0, f64::INFINITY, "above 0")?;
    check_between("power", power, 0.0, 1.0, "between 0 and 1, for example 0.8")?;
    if arms < 2 {
        return Err(StatsError::TooFew { what: "arms".into(), needed: 2, found: arms });
    }
    fewest(5, |prompts| Ok(chance_to_decide(margin / sd, prompts, arms, confidence, seed) >= power))
}

/// Chance that the arm that comes out fastest is shown to be within `margin` (in standard deviations of a difference).
fn chance_to_decide(margin: f64, prompts: usize, arms: usize, confidence: f64, seed: u64) -> f64 {
    const DRAWS: usize = 20_000;
    let freedom = (prompts - 1) as f64;
    let independent: Vec<f64> = (0..arms * arms).map(|at| f64::from(u8::from(at % (arms + 1) == 0))).collect();
    let mut maxima = max_t_draws(&independent, arms, freedom, DRAWS, seed).swap_remove(0);
    let critical = upper_quantile(&mut maxima, confidence);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let denominator = ChiSquared::new(freedom).expect("two prompts or more");
    let decided = (0..DRAWS).filter(|_| {
        let (mut first, mut second) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..arms {
            let estimate: f64 = StandardNormal.sample(&mut rng);
            second = second.min(estimate.max(first));
            first = first.min(estimate);
        }
        let lead = (second - first) / 2f64.sqrt();
        let spread = (denominator.sample(&mut rng) / freedom).sqrt();
        (critical * spread - lead) / (prompts as f64).sqrt() < margin
    });
    decided.count() as f64 / DRAWS as f64
}

/// Standard deviations over prompts of the relative difference between the pilot's fastest arm and each other arm, in the
/// order of the arms (0 for the fastest itself).
pub fn pilot_spread(pilot: &Blocks) -> Result<Vec<f64>> {
    spread_against(pilot, pilot.fastest())
}

/// Standard deviations over prompts of the relative difference between the arm at `reference` and each other arm, in the
/// order of the arms (0 for the reference itself). Needs two prompts.
pub fn spread_against(pilot: &Blocks, reference: usize) -> Result<Vec<f64>> {
    if pilot.prompts() < 2 {
        return Err(StatsError::TooFew { what: "prompts of the pilot".into(), needed: 2, found: pilot.prompts() });
    }
    check_between("reference", reference as f64, -1.0, pilot.arms() as f64, "an arm of the pilot")?;
    let covariance = covariance(&pilot.relative_residuals(), pilot.arms());
    Ok((0..pilot.arms()).map(|arm| difference_variance(&covariance, pilot.arms(), arm, reference).sqrt()).collect())
}

/// The smallest count from `least` on that is enough, by doubling and bisection; more than [`MOST_PROMPTS`] is refused.
fn fewest(least: usize, enough: impl Fn(usize) -> Result<bool>) -> Result<usize> {
    let mut high = least;
    while !enough(high)? {
        if high >= MOST_PROMPTS {
            let allowed = "large enough to be seen within a million prompts";
            return Err(StatsError::Parameter { name: "difference over spread", value: 0.0, allowed });
        }
        high *= 2;
    }
    let mut low = (high / 2).max(least - 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if enough(middle)? { high = middle } else { low = middle }
    }
    Ok(high)
}

/// P(T > limit) for a noncentral t: the normal tail averaged over the chi distribution of the denominator, by Simpson's
/// rule over the range that holds all but rounding of its mass.
fn noncentral_t_above(limit: f64, freedom: f64, shift: f64) -> f64 {
    // The tail falls off within 1 / limit.
    let steps = 2_000 * (limit / 4.0).ceil().clamp(1.0, 100.0) as usize;
    let normal = Normal::standard();
    let reach = 9.0 / (2.0 * freedom).sqrt();
    let (from, to) = ((1.0 - reach).max(0.0), 1.0 + reach.max(1.0));
    let log_constant = 2f64.ln() + 0.5 * freedom * (0.5 * freedom).ln() - ln_gamma(0.5 * freedom);
    let integrand = |s: f64| {
        if s == 0.0 {
            return if freedom == 1.0 { log_constant.exp() * normal.sf(-shift) } else { 0.0 };
        }
        let density = (log_constant + (freedom - 1.0) * s.ln() - 0.5 * freedom * s * s).exp();
        density * normal.sf(limit * s - shift)
    };
    let step = (to - from) / steps as f64;
    let weight = |i: usize| {
        if i == 0 || i == steps {
            1.0
        } else if i % 2 == 1 {
            4.0
        } else {
            2.0
        }
    };
    (0..=steps).map(|i| weight(i) * integrand(from + i as f64 * step)).sum::<f64>() * step / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_spread_and_more_comparisons_need_more_prompts() {
        let needed = |sd, comparisons| prompts_to_detect(0.02, sd, comparisons, 0.95, 0.8).unwrap();
        assert!(needed(0.02, 1) < needed(0.04, 1) && needed(0.04, 1) < needed(0.04, 16));
        let decide = |sd, arms| prompts_to_decide(0.02, sd, arms, 0.95, 0.8, 1).unwrap();
        assert!(decide(0.02, 2) < decide(0.04, 2) && decide(0.04, 2) < decide(0.04, 17));
    }

    #[test]
    fn what_cannot_be_seen_or_makes_no_sense_is_refused() {
        assert!(prompts_to_detect(1e-9, 1.0, 1, 0.95, 0.8).unwrap_err().to_string().contains("million prompts"));
        assert!(
            prompts_to_detect(0.0, 1.0, 1, 0.95, 0.8).is_err() && prompts_to_detect(0.1, 1.0, 0, 0.95, 0.8).is_err()
        );
        assert!(prompts_to_detect(0.1, f64::NAN, 1, 0.95, 0.8).is_err() && paired_t_power(1, 0.5, 0.05).is_err());
        assert!(prompts_to_decide(0.02, 0.02, 1, 0.95, 0.8, 1).is_err());
    }

    #[test]
    fn a_pilot_gives_the_spread_of_the_ratios() {
        let blocks = Blocks::from_seconds(&[vec![1.0, 2.2], vec![3.0, 6.0], vec![2.0, 4.0]]).unwrap();
        let spread = pilot_spread(&blocks).unwrap();
        assert!(spread[0] == 0.0 && spread[1] > 0.0);
    }
}
