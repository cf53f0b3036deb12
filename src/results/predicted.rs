//! What `predict` writes: a row type a file. Nothing in them was measured but what a column says was.

use super::wire::{Derived, Wire};
use serde::{Deserialize, Serialize};

/// `predicted_widths.csv`: one width of one curve on the other machine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PredictedWidthRow {
    /// Where the prediction comes from, and for which machine it is.
    pub source: String,
    pub machine: String,
    pub target: String,
    /// Of the forward that is predicted.
    pub precision: String,
    pub context: u64,
    pub batch: u64,
    pub width: u64,
    /// Measured at the source.
    pub source_ms: f64,
    /// The part of it that scales with bandwidth in the prediction, that which scales with the matrix rate, and the rest.
    pub source_memory_ms: f64,
    pub source_compute_ms: f64,
    pub source_rest_ms: f64,
    /// The prediction; empty where it cannot be said.
    pub predicted_ms: Option<f64>,
    /// Ends of all that the source's samples and every way to take a time apart allow; empty where samples are too few.
    pub predicted_low_ms: Option<f64>,
    pub predicted_high_ms: Option<f64>,
    pub confidence: f64,
    /// Measured on the other machine, if it was.
    pub measured_ms: Option<f64>,
    /// Predicted over measured, less one.
    pub error: Option<f64>,
    pub within: Option<bool>,
}

/// `predicted_lengths.csv`: the best draft length at one acceptance and one price of a drafted token.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PredictedLengthRow {
    pub source: String,
    pub machine: String,
    pub target: String,
    pub precision: String,
    pub context: u64,
    pub batch: u64,
    /// `alpha`, or the folder and drafter of a trace.
    pub acceptance: String,
    /// Chance that a drafted token is accepted: as supposed, or of the trace's first place.
    pub alpha: Option<f64>,
    /// A measured drafter, or empty where its cost is supposed.
    pub drafter: String,
    /// Of a drafted token, in plain steps, where it is supposed.
    pub draft_cost: Option<f64>,
    /// The fastest; 0 is plain decoding.
    pub draft_length: u64,
    pub speedup: f64,
    pub speedup_low: Option<f64>,
    pub speedup_high: Option<f64>,
    /// The shortest length that loses less than `margin` to the fastest.
    pub shortest_good: u64,
    pub margin: f64,
    /// Lengths not shown to be slower than the fastest, as ranges; empty where there are no intervals.
    pub may_be_best: String,
    /// The best length if verification were free, and what it loses to the fastest at the cost that there is.
    pub textbook_length: u64,
    pub textbook_loss: f64,
    /// Where the other machine was measured: the fastest there, and what the predicted length loses to it.
    pub measured_length: Option<u64>,
    pub regret: Option<f64>,
    pub confidence: f64,
}

impl Wire for PredictedWidthRow {
    const FILE: &'static str = "predicted_widths.csv";
}
impl Derived for PredictedWidthRow {}

impl Wire for PredictedLengthRow {
    const FILE: &'static str = "predicted_lengths.csv";
}
impl Derived for PredictedLengthRow {}
