//! What is decided for one drafter in one regime.

use super::gather::Arm;
use crate::stats::bootstrap::Estimate;

/// One arm's result on the tuning prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmResult {
    pub arm: Arm,
    /// Σ tokens / Σ seconds.
    pub tok_per_s: f64,
    /// Speed-up over plain decoding with its BCa interval; for plain decoding 1 without an interval.
    pub speedup: Estimate,
    pub rounds: u64,
    pub drafted: u64,
    pub accepted: u64,
    pub tokens: u64,
    /// Whether it cannot be told from the best.
    pub may_be_best: bool,
    /// Simultaneous upper bound on its loss to the best; infinite where the data give none.
    pub loss_bound: f64,
    /// Holm-adjusted p-value against plain decoding; none for plain decoding.
    pub p_holm: Option<f64>,
}

impl ArmResult {
    /// Committed tokens a round.
    pub fn tau(&self) -> Option<f64> {
        (self.rounds > 0).then(|| self.tokens as f64 / self.rounds as f64)
    }

    /// Accepted over drafted.
    pub fn acceptance(&self) -> Option<f64> {
        (self.drafted > 0).then(|| self.accepted as f64 / self.drafted as f64)
    }
}

/// The recommended length on prompts that had no part in choosing it.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirmation {
    pub prompts: u64,
    pub draft_length: u64,
    /// Speed-up over plain decoding with its BCa interval.
    pub speedup: Estimate,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub drafter: String,
    /// Plain decoding first, then by draft length.
    pub arms: Vec<ArmResult>,
    /// The smallest practically best draft length that beats plain decoding, 0 if none does; none if undecided.
    pub recommended: Option<u64>,
    /// Complete prompts that it rests on.
    pub prompts: u64,
    /// About how many more would decide; none where decided or unknown.
    pub more_prompts: Option<u64>,
    pub confirmation: Option<Confirmation>,
    pub confidence: f64,
    pub practical_margin: f64,
    pub warnings: Vec<String>,
}

impl Choice {
    /// Draft lengths that cannot be told from the best.
    pub fn confidence_set(&self) -> Vec<u64> {
        self.lengths(|arm| arm.may_be_best)
    }

    /// Draft lengths that lose less than the practical margin to the best.
    pub fn practically_best(&self) -> Vec<u64> {
        self.lengths(|arm| arm.loss_bound < self.practical_margin)
    }

    fn lengths(&self, keep: impl Fn(&ArmResult) -> bool) -> Vec<u64> {
        self.arms.iter().filter(|arm| keep(arm)).map(|arm| arm.arm.draft_length).collect()
    }

    /// The result of a draft length.
    pub fn arm(&self, draft_length: u64) -> Option<&ArmResult> {
        self.arms.iter().find(|arm| arm.arm.draft_length == draft_length)
    }

    /// The arm of the highest throughput, plain decoding left out.
    pub fn fastest_draft(&self) -> Option<&ArmResult> {
        let drafts = self.arms.iter().filter(|arm| arm.arm.draft_length > 0);
        drafts.max_by(|a, b| a.tok_per_s.total_cmp(&b.tok_per_s))
    }
}
