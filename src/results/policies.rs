//! The files of rules that end drafts early: what they see, raw, and what follows from it.

use super::wire::{Derived, Raw, Wire};
use serde::{Deserialize, Serialize};

/// `stop_rules.csv`: a drafter with a rule, or one that drafts from several sources.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StopRuleRow {
    pub drafter: String,
    /// `p-min`, `entropy`, `acceptance-average` or `cost-aware`; empty where drafts have the length asked for.
    pub rule: String,
    pub threshold: Option<f64>,
    /// Of the entropy.
    pub weight: Option<f64>,
    /// Of the average, in draft tokens.
    pub memory: Option<f64>,
    /// The drafter of the scenario that proposes the same without a rule; empty if there is none.
    pub without_rule: String,
}

/// `draft_tokens.csv`: one token that a drafter would have proposed at one position of the committed text.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DraftTokenRow {
    pub prompt: String,
    pub drafter: String,
    /// Output tokens committed before the draft, from 0.
    pub position: u64,
    /// Place in the draft, from 1.
    pub draft_position: u64,
    /// `model` or `lookup`.
    pub source: String,
    pub token: u32,
    /// The drafter's largest probability there, at temperature 1; a lookup's estimate.
    pub confidence: f64,
    /// Of the drafter's distribution there, in nats; 0 for a lookup.
    pub entropy: f64,
    /// Whether the text has this token there, whatever came before it.
    pub matches: bool,
}

/// `calibration.csv`: draft tokens of similar confidence, and how many of them were accepted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CalibrationRow {
    pub drafter: String,
    /// `model` or `lookup`.
    pub source: String,
    /// Place in the draft, from 1; the last one stands for all later ones.
    pub draft_position: u64,
    /// The least confidence of these tokens; the next row's is the end.
    pub confidence_from: f64,
    /// Tokens before which all others of their draft were accepted, over every position of the tuning text.
    pub reached: u64,
    pub accepted: u64,
    /// What the rule takes for the chance of acceptance: (accepted + 1/2) / (reached + 1).
    pub chance: f64,
}

/// `stop_thresholds.csv`: the cost-aware rule at one place in the draft.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StopThresholdRow {
    pub drafter: String,
    /// The longest draft that the rule is for: γ.
    pub draft_length: u64,
    /// What a second is worth.
    pub rate_tok_per_s: f64,
    /// Tokens kept so far.
    pub kept: u64,
    /// From which chance that all of them are accepted on another token is computed; above 1 for never.
    pub computes_from: f64,
    /// From which chance, its own included, that token is kept; above 1 for never.
    pub keeps_from: f64,
}

/// `policies.csv`: a rule beside the best static draft length and the oracle, replayed on the tuning prompts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PolicyRow {
    pub drafter: String,
    pub rule: String,
    /// The longest draft that the rule may make: γ.
    pub draft_length: u64,
    pub prompts: u64,
    /// Of pipelined plain decoding.
    pub plain_tok_per_s: f64,
    /// The draft length without a rule that is the fastest in the replay, 0 included.
    pub static_draft_length: u64,
    pub static_tok_per_s: f64,
    /// Of the rule. What is fitted is fitted on other prompts than those replayed.
    pub rule_tok_per_s: f64,
    /// Of draft lengths chosen in knowledge of every match to come.
    pub oracle_tok_per_s: f64,
    /// Seconds saved against the best static length, by the rule over by the oracle; empty if the oracle saves none.
    pub share: Option<f64>,
    /// Its interval over prompts; empty below six prompts.
    pub share_low: Option<f64>,
    pub share_high: Option<f64>,
    pub confidence: f64,
    /// Committed tokens a round, draft tokens verified and accepted under the rule.
    pub tau: f64,
    pub drafted: u64,
    pub accepted: u64,
}

impl Wire for StopRuleRow {
    const FILE: &'static str = "stop_rules.csv";
}
impl Raw for StopRuleRow {
    type Key = String;
    fn key(&self) -> String {
        self.drafter.clone()
    }
}

impl Wire for DraftTokenRow {
    const FILE: &'static str = "draft_tokens.csv";
}
impl Raw for DraftTokenRow {
    type Key = (String, String, u64, u64);
    fn key(&self) -> Self::Key {
        (self.prompt.clone(), self.drafter.clone(), self.position, self.draft_position)
    }
}

impl Wire for CalibrationRow {
    const FILE: &'static str = "calibration.csv";
}
impl Derived for CalibrationRow {}

impl Wire for StopThresholdRow {
    const FILE: &'static str = "stop_thresholds.csv";
}
impl Derived for StopThresholdRow {}

impl Wire for PolicyRow {
    const FILE: &'static str = "policies.csv";
}
impl Derived for PolicyRow {}
