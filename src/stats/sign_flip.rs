//! Sign vectors over prompts, for tests that are exact for symmetric errors (Fisher, "The Design of Experiments", 1935,
//! section 21): the signs of whole prompts are flipped.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Sign vectors, one sign a prompt: all 2^n of them where that is no more than the draws asked for, else random ones.
pub struct Signs {
    signs: Vec<f64>,
    next: usize,
    count: usize,
    random: Option<ChaCha8Rng>,
}

impl Signs {
    pub fn new(prompts: usize, draws: usize, seed: u64) -> Self {
        let all = 1usize.checked_shl(prompts as u32).filter(|&all| all <= draws);
        let random = all.is_none().then(|| ChaCha8Rng::seed_from_u64(seed));
        Signs { signs: vec![1.0; prompts], next: 0, count: all.unwrap_or(draws), random }
    }

    /// Whether every sign vector comes exactly once.
    pub fn exhaustive(&self) -> bool {
        self.random.is_none()
    }

    /// The next sign vector, +1 or -1 a prompt.
    pub fn draw(&mut self) -> Option<&[f64]> {
        if self.next == self.count {
            return None;
        }
        let mut bits = self.next as u64;
        for (prompt, sign) in self.signs.iter_mut().enumerate() {
            if prompt % 64 == 0
                && let Some(rng) = &mut self.random
            {
                bits = rng.next_u64();
            }
            *sign = if bits >> (prompt % 64) & 1 == 1 { -1.0 } else { 1.0 };
        }
        self.next += 1;
        Some(&self.signs)
    }

    /// p-value from the number of sign vectors that are at least as extreme as what was observed. Random draws count the
    /// observation itself as one more (Phipson and Smyth, "Permutation p-values should never be zero", 2010).
    pub fn p_value(&self, at_least_as_extreme: usize) -> f64 {
        let observed = if self.exhaustive() { 0 } else { 1 };
        (at_least_as_extreme + observed) as f64 / (self.count + observed) as f64
    }
}

/// The t statistic that belongs to a sum of values over the root of their sum of squares, which flips leave as it is.
pub(crate) fn t_of_normalised_sum(sum: f64, prompts: usize) -> f64 {
    let n = prompts as f64;
    let rest = 1.0 - sum * sum / n;
    if rest <= 1e-14 { f64::INFINITY.copysign(sum) } else { sum * ((n - 1.0) / n / rest).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::summary::{mean_of, variance_of};

    #[test]
    fn every_sign_vector_comes_once_when_they_fit() {
        let mut signs = Signs::new(3, 8, 0);
        let mut seen = Vec::new();
        while let Some(vector) = signs.draw() {
            seen.push(vector.iter().fold(0, |code, &sign| 2 * code + i32::from(sign < 0.0)));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..8).collect::<Vec<_>>());
        assert!(signs.exhaustive() && !Signs::new(3, 7, 0).exhaustive() && !Signs::new(70, 100, 0).exhaustive());
    }

    #[test]
    fn a_random_p_value_counts_the_observation_itself() {
        assert_eq!(Signs::new(3, 8, 0).p_value(0), 0.0);
        assert_eq!(Signs::new(20, 99, 0).p_value(0), 0.01);
    }

    #[test]
    fn the_normalised_sum_gives_the_t_statistic() {
        let values = [0.3, -0.1, 0.8, 0.2];
        let sum = values.iter().sum::<f64>() / values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let t = mean_of(&values) / (variance_of(&values) / 4.0).sqrt();
        assert!((t_of_normalised_sum(sum, 4) - t).abs() < 1e-12);
        assert_eq!(t_of_normalised_sum(2.0, 4), f64::INFINITY);
    }
}
