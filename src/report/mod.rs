//! What people read: terminal tables and sentences. Text only; the caller prints it.
//!
//! How to add a report: one file with a function from a decision or from rows to text, one `pub use` here.

mod sentence;
pub mod stream;
mod table;

pub use sentence::{Why, sentence};
pub use table::decision_table;

#[cfg(test)]
mod tests {
    use crate::decision::{Arm, ArmResult, Choice};
    use crate::stats::bootstrap::Estimate;

    pub(super) fn estimate(value: f64, low: f64, high: f64) -> Estimate {
        Estimate { value, low: Some(low), high: Some(high), confidence: 0.95, caveat: None }
    }

    /// Plain decoding, γ=2 and γ=4 of a lookup on 24 prompts of 48 tokens.
    pub(super) fn choice(recommended: Option<u64>) -> Choice {
        let arm = |draft_length: u64, speedup: f64, rounds: u64, may_be_best: bool, loss_bound: f64| ArmResult {
            arm: Arm { drafter: if draft_length == 0 { "" } else { "lookup" }.to_string(), draft_length },
            tok_per_s: 20.0 * speedup,
            speedup: estimate(speedup, speedup - 0.1, speedup + 0.1),
            rounds,
            drafted: rounds * draft_length,
            accepted: 1152 - rounds,
            tokens: 1152,
            may_be_best,
            loss_bound,
            p_holm: (draft_length > 0).then_some(0.004),
        };
        let mut plain = arm(0, 1.0, 1152, false, 0.6);
        plain.speedup = Estimate { low: None, high: None, ..plain.speedup };
        Choice {
            drafter: "lookup".to_string(),
            arms: vec![plain, arm(2, 1.5, 720, true, 0.0123), arm(4, 1.49, 640, true, f64::INFINITY)],
            recommended,
            prompts: 24,
            more_prompts: None,
            confirmation: None,
            confidence: 0.95,
            practical_margin: 0.02,
            warnings: Vec::new(),
        }
    }
}
