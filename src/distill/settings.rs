//! What makes two training runs the same run.

use super::adamw::AdamW;
use crate::scenario::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything that the trained weights depend on, but the machine. Kept with each checkpoint; a run goes on only with the
/// same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub target_sha256: String,
    /// SHA-256 of each `corpus.json`.
    pub corpus: Vec<String>,
    /// The target's layers that the drafter's start as.
    pub init: Vec<usize>,
    /// Ids that the drafter can propose.
    pub head_vocabulary: usize,
    /// Whether the drafter also reads the target's last hidden state.
    pub features: bool,
    /// Drafts in a row that a feature-conditioned drafter is trained for; 1 for another one.
    pub rollout: usize,
    /// Sequences a step.
    pub batch: usize,
    /// Steps of the run, if given so.
    pub steps: Option<u64>,
    /// Minutes of the run, if given so.
    pub minutes: Option<f64>,
    /// The peak of the schedule.
    pub learning_rate: f64,
    /// Steps up to the peak.
    pub warm_up: u64,
    pub adamw: AdamW,
    /// The share of the loss that the target's most probable id has to itself.
    pub hard_weight: f32,
    /// Sequences never trained on.
    pub held_out: usize,
    /// Steps between two evaluations.
    pub evaluate_every: u64,
    /// What both models are computed in.
    pub dtype: Dtype,
    pub seed: u64,
}

impl Settings {
    /// The first field in which another run differs, with both values: `batch is 32, this run has 64`.
    pub fn difference(&self, other: &Settings) -> Option<String> {
        let [ours, theirs] = [self, other].map(|settings| serde_json::to_value(settings).unwrap_or_default());
        let (Value::Object(ours), Value::Object(theirs)) = (ours, theirs) else { return None };
        let different = ours.iter().find(|(name, value)| theirs.get(*name) != Some(value));
        different.map(|(name, value)| format!("{name} is {value}, this run has {}", theirs[name]))
    }
}
