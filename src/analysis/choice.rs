//! The draft length of one drafter: chosen on the tuning prompts, confirmed on others.

use super::gather::{Complete, Counts};
use crate::scenario::Scenario;
use crate::stats::bootstrap::{self, Estimate};
use crate::stats::decision::{DRAWS, Decision, Input, VersusPlain, decide};
use anyhow::{Context, Result, bail};

/// What was declared before anything was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    pub confidence: f64,
    pub practical_margin: f64,
    pub seed: u64,
}

impl Rules {
    pub fn of(scenario: &Scenario) -> Rules {
        let Scenario { confidence, practical_margin, seed, .. } = *scenario;
        Rules { confidence, practical_margin, seed }
    }
}

/// One draft length on the tuning prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmResult {
    pub draft_length: u64,
    /// Σ tokens / Σ seconds.
    pub tok_per_s: f64,
    pub counts: Counts,
}

/// The recommended length on prompts that had no part in choosing it.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirmation {
    pub prompts: usize,
    pub draft_length: u64,
    /// Speed-up over plain decoding with its BCa interval.
    pub speedup: Estimate,
}

/// What was decided for one drafter, and on what.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub drafter: String,
    /// Plain decoding first, then by draft length.
    pub arms: Vec<ArmResult>,
    pub decision: Decision,
    /// None while there are no timed confirmation prompts.
    pub confirmation: Option<Confirmation>,
    /// What to know before using it: the decision's warnings and the prompts left out.
    pub warnings: Vec<String>,
}

/// Chooses on complete blocks that hold plain decoding and one drafter's lengths.
///
/// # Errors
/// Fewer than two complete prompts, or no length but 0.
pub fn choose(drafter: &str, complete: &Complete, rules: &Rules) -> Result<Choice> {
    if complete.arms.len() < 2 {
        bail!("runs.csv: {drafter} has no timed draft length; time at least one");
    }
    let decision = decide(&Input {
        draft_lengths: complete.arms.iter().map(|arm| arm.draft_length as u32).collect(),
        seconds: complete.seconds.clone(),
        tokens: complete.tokens.clone(),
        confidence: rules.confidence,
        margin: rules.practical_margin,
        seed: rules.seed,
        draws: DRAWS,
        resamples: bootstrap::RESAMPLES,
        method: None,
    });
    let left_out = complete.left_out.len();
    let decision = decision.with_context(|| match complete.left_out.first() {
        Some(reason) => format!("runs.csv: {drafter}: {left_out} prompts were left out ({reason})"),
        None => format!("runs.csv: {drafter}"),
    })?;
    let mut warnings = decision.warnings.clone();
    warnings.extend(complete.left_out.iter().map(|reason| format!("left out {reason}")));
    let arms = complete.arms.iter().enumerate().map(|(place, arm)| ArmResult {
        draft_length: arm.draft_length,
        tok_per_s: complete.tok_per_s(place).expect("decided on at least one prompt"),
        counts: complete.counts[place].clone(),
    });
    Ok(Choice { drafter: drafter.to_string(), arms: arms.collect(), decision, confirmation: None, warnings })
}

/// The speed-up of the recommended length over plain decoding on the confirmation prompts; none if the recommendation is
/// plain decoding, or none, or was not timed there.
pub fn confirm(recommended: Option<u32>, complete: &Complete, rules: &Rules) -> Result<Option<Confirmation>> {
    let length = recommended.map_or(0, u64::from);
    let arm = complete.arms.iter().position(|arm| arm.draft_length == length);
    let (Some(arm), false, true) = (arm, complete.prompts.is_empty(), length > 0) else { return Ok(None) };
    let options = bootstrap::Options::new(rules.confidence, rules.seed);
    // The arms are sorted with plain decoding first.
    let speedup = bootstrap::speedup(&complete.arm_seconds(0), &complete.arm_seconds(arm), &options)?;
    Ok(Some(Confirmation { prompts: complete.prompts.len(), draft_length: length, speedup }))
}

impl ArmResult {
    /// Committed tokens a round.
    pub fn tau(&self) -> Option<f64> {
        (self.counts.rounds > 0).then(|| self.counts.tokens as f64 / self.counts.rounds as f64)
    }

    /// Accepted over drafted.
    pub fn acceptance(&self) -> Option<f64> {
        (self.counts.drafted > 0).then(|| self.counts.accepted as f64 / self.counts.drafted as f64)
    }
}

impl Choice {
    pub fn arm(&self, draft_length: u64) -> Option<&ArmResult> {
        self.arms.iter().find(|arm| arm.draft_length == draft_length)
    }

    pub fn versus_plain(&self, draft_length: u64) -> Option<&VersusPlain> {
        self.decision.versus_plain.iter().find(|arm| u64::from(arm.draft_length) == draft_length)
    }

    /// The length of the highest measured throughput, plain decoding left out.
    pub fn fastest_draft(&self) -> Option<&VersusPlain> {
        self.decision.versus_plain.iter().max_by(|a, b| a.speedup.total_cmp(&b.speedup))
    }

    /// The length to speak of: the recommended one, or the fastest drafting one if that is plain decoding or none.
    pub fn notable_length(&self) -> Option<u64> {
        let recommended = self.decision.recommended.filter(|length| *length > 0);
        recommended.or(self.fastest_draft().map(|arm| arm.draft_length)).map(u64::from)
    }
}
