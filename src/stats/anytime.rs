//! Asymptotic confidence sequences: bounds that hold at all numbers of prompts at once, so that one may stop at any time.

/// Prompts near which the sequences are tightest.
pub const TUNED_FOR: usize = 50;
/// Below this number of prompts nothing is excluded: the sequences are asymptotic.
pub const FEWEST_PROMPTS: usize = 10;

/// Radius of a one-sided asymptotic confidence sequence, in standard errors of the mean of `n` values: the running mean
/// stays within it for all n at once with confidence 1 - `alpha` (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
/// "Time-uniform central limit theory and asymptotic confidence sequences", 2024, one-sided form of their theorem 2.2).
/// Infinite below [`FEWEST_PROMPTS`].
pub fn critical_value(n: usize, alpha: f64) -> f64 {
    if n < FEWEST_PROMPTS {
        return f64::INFINITY;
    }
    let intrinsic = n as f64 * tuning(alpha);
    (2.0 * (intrinsic + 1.0) / intrinsic * (1.0 + (intrinsic + 1.0).sqrt() / (2.0 * alpha)).ln()).sqrt()
}

/// The level at which [`critical_value`] equals `t`, for the tuning that belongs to `alpha`.
pub fn p_value(t: f64, n: usize, alpha: f64) -> f64 {
    if n < FEWEST_PROMPTS {
        return 1.0;
    }
    let intrinsic = n as f64 * tuning(alpha);
    let evidence = (t.max(0.0).powi(2) * intrinsic / (2.0 * (intrinsic + 1.0))).exp_m1();
    ((intrinsic + 1.0).sqrt() / (2.0 * evidence)).min(1.0)
}

/// The squared scale ρ² of the mixture that makes the two-sided sequence of level 2 α tightest near [`TUNED_FOR`].
fn tuning(alpha: f64) -> f64 {
    let log = -2.0 * (2.0 * alpha).min(0.9).ln();
    (log + (log + 1.0).ln()) / TUNED_FOR as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sign_flip::t_of_normalised_sum;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn the_p_value_inverts_the_critical_value() {
        for (n, alpha) in [(10, 0.05), (40, 0.003), (500, 0.2)] {
            assert!((p_value(critical_value(n, alpha), n, alpha) - alpha).abs() < 1e-12);
        }
        assert_eq!(
            (critical_value(9, 0.05), p_value(9.0, 9, 0.05), p_value(-1.0, 20, 0.05)),
            (f64::INFINITY, 1.0, 1.0)
        );
        // About 1.5 times as wide as an interval at one sample size.
        let ratio = critical_value(TUNED_FOR, 0.025) / 1.96;
        assert!((1.3..1.7).contains(&ratio), "{ratio}");
    }

    #[test]
    fn looking_after_every_prompt_keeps_the_error_rate() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (alpha, runs) = (0.1, 300);
        let crossed = (0..runs).filter(|_| {
            let (mut sum, mut squares) = (0.0, 0.0f64);
            (1..300usize).any(|n| {
                let value: f64 = StandardNormal.sample(&mut rng);
                sum += value;
                squares += value * value;
                t_of_normalised_sum(sum / squares.sqrt(), n) > critical_value(n, alpha)
            })
        });
        assert!(crossed.count() as f64 / f64::from(runs) <= alpha);
    }
}
