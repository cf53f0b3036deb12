//! The draft length of one drafter: chosen on the tuning prompts, confirmed on others.

use super::equivalence::{Equivalent, equivalent};
use super::gather::{Complete, Counts};
use crate::results::{Design, Stamp};
use crate::scenario::Scenario;
use crate::stats::bootstrap::{self, Estimate};
use crate::stats::decision::{DRAWS, Decision, Input, VersusPlain, anytime_speedup, decide};
use crate::stats::selection::Method;
use crate::stats::sensitivity::{Sensitivity, sensitivity};
use crate::stats::sequential::Look;
use crate::stats::validity::{Validity, check_controls};
use anyhow::{Context, Result, bail};

/// What was declared before anything was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    pub confidence: f64,
    pub practical_margin: f64,
    pub seed: u64,
    /// How lengths are compared; none chooses by the number of prompts.
    pub method: Option<Method>,
    /// Blocks that a prompt has once it is done.
    pub texts_per_prompt: usize,
}

impl Rules {
    /// Of a results folder: a run that may be stopped at any time needs its own method.
    pub fn of(stamp: &Stamp, scenario: &Scenario) -> Rules {
        let method = (stamp.identity.design == Design::AnyTime).then_some(Method::AnyTime);
        Rules { method, ..Rules::of_scenario(scenario) }
    }

    pub fn of_scenario(scenario: &Scenario) -> Rules {
        let Scenario { confidence, practical_margin, seed, texts_per_prompt, .. } = *scenario;
        Rules { confidence, practical_margin, seed, method: None, texts_per_prompt }
    }

    /// What the decision is made from.
    pub(super) fn input(&self, complete: &Complete) -> Input {
        Input {
            draft_lengths: complete.arms.iter().map(|arm| arm.draft_length as u32).collect(),
            seconds: complete.seconds.clone(),
            tokens: complete.tokens.clone(),
            confidence: self.confidence,
            margin: self.practical_margin,
            seed: self.seed,
            draws: DRAWS,
            resamples: bootstrap::RESAMPLES,
            method: self.method,
        }
    }
}

/// One draft length on the tuning prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmResult {
    pub draft_length: u64,
    /// Prompts that it was compared on.
    pub prompts: usize,
    /// Σ tokens / Σ seconds.
    pub tok_per_s: f64,
    pub counts: Counts,
}

/// The recommended length on prompts that had no part in choosing it.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirmation {
    pub prompts: usize,
    pub draft_length: u64,
    /// Speed-up over plain decoding with its interval.
    pub speedup: Estimate,
    /// The other lengths that were timed there: the next shorter and the next longer one.
    pub neighbours: Vec<Neighbour>,
}

/// A length beside the recommended one, on the confirmation prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbour {
    pub draft_length: u64,
    /// Speed-up over plain decoding with its interval.
    pub speedup: Estimate,
    /// The recommended length against this one; none without spread.
    pub equivalent: Option<Equivalent>,
}

/// What was decided for one drafter, and on what.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub drafter: String,
    /// Plain decoding first, then by draft length.
    pub arms: Vec<ArmResult>,
    pub decision: Decision,
    /// The looks of a race; empty where all lengths were timed on all prompts.
    pub looks: Vec<Look>,
    /// The length spoken of against the fastest one measured, where that is another, and against plain decoding.
    pub equivalents: Vec<Equivalent>,
    /// The same question put to other methods.
    pub sensitivity: Sensitivity,
    /// What the controls say about the machine; none where there are none.
    pub validity: Option<Validity>,
    /// None while there are no timed confirmation prompts.
    pub confirmation: Option<Confirmation>,
    /// What to know before using it: of the decision, of the controls, of the second opinions, and the prompts left out.
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
    let input = rules.input(complete);
    let left_out = complete.left_out.len();
    let decision = decide(&input).with_context(|| match complete.left_out.first() {
        Some(reason) => format!("runs.csv: {drafter}: {left_out} prompts were left out ({reason})"),
        None => format!("runs.csv: {drafter}"),
    })?;
    examined(drafter, complete, &input, decision)
}

/// A decision with what the controls and other methods say about it.
pub(super) fn examined(drafter: &str, complete: &Complete, input: &Input, decision: Decision) -> Result<Choice> {
    let input = &Input { confidence: decision.confidence, ..input.clone() };
    let validity = match complete.controls.as_slice() {
        [] => None,
        controls => Some(check_controls(controls, input.confidence, input.margin)?),
    };
    let outlying = validity.as_ref().map_or(&[][..], |validity| &validity.outlying_prompts);
    let sensitivity = sensitivity(input, &decision, outlying)?;
    let mut warnings = decision.warnings.clone();
    warnings.extend(validity.iter().flat_map(|validity| validity.warnings.clone()));
    if !outlying.is_empty() {
        let names: Vec<&str> = outlying.iter().map(|&prompt| complete.prompts[prompt].as_str()).collect();
        warnings.push(format!("outlying controls on {}, kept; see the decision without them", names.join(", ")));
    }
    warnings.extend(sensitivity.disagreements.iter().map(|other| other.says.clone()));
    warnings.extend(complete.left_out.iter().map(|reason| format!("left out {reason}")));
    let mut choice = Choice {
        drafter: drafter.to_string(),
        arms: (0..complete.arms.len()).map(|place| arm_result(complete, place)).collect(),
        decision,
        looks: Vec::new(),
        equivalents: Vec::new(),
        sensitivity,
        validity,
        confirmation: None,
        warnings,
    };
    if let Some(length) = choice.notable_length() {
        let others = [u64::from(choice.decision.observed_best), 0];
        choice.equivalents =
            others.into_iter().filter_map(|other| equivalent(complete, length, other, input.margin)).collect();
        choice.equivalents.dedup();
    }
    Ok(choice)
}

pub(super) fn arm_result(complete: &Complete, place: usize) -> ArmResult {
    ArmResult {
        draft_length: complete.arms[place].draft_length,
        prompts: complete.prompts.len(),
        tok_per_s: complete.tok_per_s(place).expect("decided on at least one prompt"),
        counts: complete.counts[place].clone(),
    }
}

/// The speed-up of the recommended length over plain decoding on the confirmation prompts; none if the recommendation is
/// plain decoding, or none, or was not timed there. If measuring may have stopped at any time, so holds the interval.
pub fn confirm(recommended: Option<u32>, complete: &Complete, rules: &Rules) -> Result<Option<Confirmation>> {
    let length = recommended.map_or(0, u64::from);
    let arm = complete.arms.iter().position(|arm| arm.draft_length == length);
    let (Some(arm), false, true) = (arm, complete.prompts.is_empty(), length > 0) else { return Ok(None) };
    // The arms are sorted with plain decoding first.
    let plain = complete.arm_seconds(0);
    let speedup = |arm: usize| match rules.method {
        Some(Method::AnyTime) => anytime_speedup(&plain, &complete.arm_seconds(arm), rules.confidence),
        _ => {
            let options = bootstrap::Options::new(rules.confidence, rules.seed);
            bootstrap::speedup(&plain, &complete.arm_seconds(arm), &options)
        }
    };
    let neighbour = |other: usize| {
        let draft_length = complete.arms[other].draft_length;
        let equivalent = equivalent(complete, length, draft_length, rules.practical_margin);
        Ok(Neighbour { draft_length, speedup: speedup(other)?, equivalent })
    };
    let others = (1..complete.arms.len()).filter(|other| *other != arm);
    Ok(Some(Confirmation {
        prompts: complete.prompts.len(),
        draft_length: length,
        speedup: speedup(arm)?,
        neighbours: others.map(neighbour).collect::<Result<_>>()?,
    }))
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
