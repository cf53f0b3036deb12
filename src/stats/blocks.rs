//! Complete blocks: every arm measured on every prompt, as seconds a token.

use super::error::{Result, StatsError, check_length, check_positive};

/// Costs of `arms` arms on `prompts` prompts, checked and ready for paired inference.
///
/// The estimand of an arm is C = Σ seconds / Σ tokens. Its per-prompt values are the linearised ones of a ratio of sums
/// (Cochran, "Sampling Techniques", 3rd edition, 1977, section 6.3): C + (seconds - C · tokens) / mean tokens. Their mean
/// is C, and with the same token budget everywhere they are the seconds a token of each prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocks {
    prompts: usize,
    arms: usize,
    costs: Vec<f64>,
    means: Vec<f64>,
}

impl Blocks {
    /// From `seconds[prompt][arm]` for the same token budget in every prompt and arm; the unit is seconds a budget.
    pub fn from_seconds(seconds: &[Vec<f64>]) -> Result<Self> {
        let ones: Vec<Vec<u64>> = seconds.iter().map(|row| vec![1; row.len()]).collect();
        Blocks::new(seconds, &ones)
    }

    /// From `seconds[prompt][arm]` and the tokens that were committed in them. Needs one prompt and one arm.
    pub fn new(seconds: &[Vec<f64>], tokens: &[Vec<u64>]) -> Result<Self> {
        let prompts = seconds.len();
        if prompts == 0 {
            return Err(StatsError::TooFew { what: "prompts".into(), needed: 1, found: 0 });
        }
        check_length("prompts with token counts", prompts, tokens.len())?;
        let arms = seconds[0].len();
        for (prompt, (times, counts)) in seconds.iter().zip(tokens).enumerate() {
            check_positive(&format!("seconds of prompt {prompt}"), times, 1)?;
            check_length(&format!("seconds of prompt {prompt}"), arms, times.len())?;
            check_length(&format!("tokens of prompt {prompt}"), arms, counts.len())?;
            let counts: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
            check_positive(&format!("tokens of prompt {prompt}"), &counts, 1)?;
        }
        let total = |arm: usize, value: &dyn Fn(usize, usize) -> f64| (0..prompts).map(|i| value(i, arm)).sum::<f64>();
        let mean_tokens: Vec<f64> =
            (0..arms).map(|arm| total(arm, &|i, arm| tokens[i][arm] as f64) / prompts as f64).collect();
        let means: Vec<f64> =
            (0..arms).map(|arm| total(arm, &|i, arm| seconds[i][arm]) / (mean_tokens[arm] * prompts as f64)).collect();
        let mut costs = Vec::with_capacity(prompts * arms);
        for (times, counts) in seconds.iter().zip(tokens) {
            for arm in 0..arms {
                let surplus = times[arm] - means[arm] * counts[arm] as f64;
                costs.push(means[arm] + surplus / mean_tokens[arm]);
            }
        }
        Ok(Blocks { prompts, arms, costs, means })
    }

    pub fn prompts(&self) -> usize {
        self.prompts
    }

    pub fn arms(&self) -> usize {
        self.arms
    }

    /// Seconds a token of one prompt, one entry an arm.
    pub fn prompt(&self, prompt: usize) -> &[f64] {
        &self.costs[prompt * self.arms..(prompt + 1) * self.arms]
    }

    /// Seconds a token of one arm, one entry a prompt.
    pub fn arm(&self, arm: usize) -> Vec<f64> {
        self.costs.iter().skip(arm).step_by(self.arms).copied().collect()
    }

    /// Σ seconds / Σ tokens of each arm.
    pub fn means(&self) -> &[f64] {
        &self.means
    }

    /// The arm with the lowest mean; the first of equals.
    pub fn fastest(&self) -> usize {
        (0..self.arms).min_by(|&a, &b| self.means[a].total_cmp(&self.means[b])).expect("at least one arm")
    }

    /// Mean cost of `arm` over that of `reference`, less one: how much it loses.
    pub fn loss(&self, arm: usize, reference: usize) -> f64 {
        self.means[arm] / self.means[reference] - 1.0
    }

    /// Costs over the mean of the first arm: `[prompt][arm]`, row-major.
    pub fn relative_costs(&self) -> Vec<f64> {
        self.costs.iter().map(|cost| cost / self.means[0]).collect()
    }

    /// Costs over their arm's mean, less one: `[prompt][arm]`, row-major. To first order the deviation of the logarithm of
    /// an arm's cost is their mean, so the difference of two columns carries the error of a ratio of costs.
    pub fn relative_residuals(&self) -> Vec<f64> {
        self.costs.iter().enumerate().map(|(at, cost)| cost / self.means[at % self.arms] - 1.0).collect()
    }
}

/// Covariance of the columns of a row-major matrix with `columns` columns of mean zero, `[column][column]` row-major.
pub(crate) fn covariance(rows: &[f64], columns: usize) -> Vec<f64> {
    let mut covariance = vec![0.0; columns * columns];
    for row in rows.chunks_exact(columns) {
        for (a, left) in row.iter().enumerate() {
            for (b, right) in row.iter().enumerate() {
                covariance[a * columns + b] += left * right;
            }
        }
    }
    let freedom = (rows.len() / columns - 1) as f64;
    covariance.iter_mut().for_each(|c| *c /= freedom);
    covariance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimand_is_the_ratio_of_sums_with_unequal_tokens() {
        let blocks = Blocks::new(&[vec![1.0, 2.0], vec![8.0, 3.0]], &[vec![10, 10], vec![20, 10]]).unwrap();
        assert!((blocks.means()[0] - 0.3).abs() < 1e-15 && (blocks.means()[1] - 0.25).abs() < 1e-15);
        assert!((blocks.arm(0).iter().sum::<f64>() / 2.0 - 0.3).abs() < 1e-15);
        assert_eq!(blocks.fastest(), 1);
    }

    #[test]
    fn equal_tokens_leave_seconds_a_token() {
        let blocks = Blocks::new(&[vec![1.0, 2.0], vec![8.0, 4.0]], &[vec![4, 4], vec![4, 4]]).unwrap();
        assert_eq!(blocks.prompt(1), [2.0, 1.0]);
    }

    #[test]
    fn holes_and_impossible_values_are_named() {
        let message = |seconds: &[Vec<f64>], tokens: &[Vec<u64>]| Blocks::new(seconds, tokens).unwrap_err().to_string();
        assert!(
            message(&[vec![1.0, 2.0], vec![1.0]], &[vec![1, 1], vec![1]]).starts_with("seconds of prompt 1: length 1")
        );
        assert!(message(&[vec![1.0, -2.0]], &[vec![1, 1]]).starts_with("seconds of prompt 0, entry 1"));
        assert!(message(&[vec![1.0, f64::NAN]], &[vec![1, 1]]).contains("not a finite number"));
        assert!(message(&[vec![1.0, 2.0]], &[vec![1, 0]]).starts_with("tokens of prompt 0, entry 1"));
        assert!(message(&[], &[]).starts_with("prompts: 0 given"));
    }
}
