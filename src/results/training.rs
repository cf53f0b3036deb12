//! `training.csv` beside a drafter that was trained here.

use super::wire::Wire;
use serde::{Deserialize, Serialize};

/// One evaluation on held-out text during training.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TrainingRow {
    /// Steps done.
    pub step: u64,
    /// Tokens read in them, padding left out.
    pub tokens: u64,
    /// Seconds of training so far, evaluations included, over all launches.
    pub seconds: f64,
    /// Mean loss of the steps since the row before, in nats a position; empty before the first step.
    pub loss: Option<f64>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// The loss on held-out text.
    pub held_out_loss: f64,
    /// Share of first drafts that are the target's choice; likewise the second, if the first was, and so on.
    pub alpha_1: Option<f64>,
    pub alpha_2: Option<f64>,
    pub alpha_3: Option<f64>,
    pub alpha_4: Option<f64>,
    /// Committed tokens a round of four drafts.
    pub tau_4: Option<f64>,
}

impl Wire for TrainingRow {
    const FILE: &'static str = "training.csv";
}
