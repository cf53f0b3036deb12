//! What follows from `cost.csv`, one row type a file. A curve is the times of one model (or drafter) at one precision,
//! context and batch; `curve` is its number, from 0, and the place of its row in `cost_curves.csv`.

use super::rows::{Mode, Role};
use super::wire::{Derived, Wire};
use serde::{Deserialize, Serialize};

/// `cost_curves.csv`: one curve as a whole.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CostCurveRow {
    pub curve: u64,
    pub machine: String,
    pub target: String,
    pub precision: String,
    pub role: Role,
    pub drafter: String,
    pub context: u64,
    pub batch: u64,
    /// Widths with a valid synchronous time.
    pub widths: u64,
    /// Valid samples of all widths, pipelined ones included; then those left out and why.
    pub samples: u64,
    pub invalid: u64,
    pub failed: u64,
    /// Median of the narrowest width's synchronous times.
    pub narrowest_ms: f64,
    /// Median of the pipelined times, a step.
    pub pipelined_ms: Option<f64>,
    /// The chosen shape: `constant`, `linear`, `one-kink` or `steps`; empty where too few widths support one.
    pub shape: String,
    pub error_left_out: Option<f64>,
    /// Empty where samples are too few to tell.
    pub cliffs: Option<u64>,
    pub falls: Option<u64>,
    pub padded_widths: Option<u64>,
    /// Simultaneous over all gaps of the curve.
    pub confidence: f64,
    /// Measured ceilings and the ridge that follows.
    pub bandwidth_gb_s: Option<f64>,
    pub matrix_gflop_s: Option<f64>,
    pub ridge_flop_per_byte: Option<f64>,
    /// The width at which the FLOPs take as long as the bytes; empty if beyond the measured widths.
    pub ridge_width: Option<f64>,
    /// The same from a data sheet.
    pub spec: String,
    pub spec_bandwidth_gb_s: Option<f64>,
    pub spec_matrix_gflop_s: Option<f64>,
    pub spec_ridge_flop_per_byte: Option<f64>,
    pub spec_ridge_width: Option<f64>,
    /// What the data do not support saying, separated by ` | `.
    pub cannot_say: String,
}

/// `cost_widths.csv`: one width of one curve.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CostWidthRow {
    pub curve: u64,
    pub machine: String,
    pub target: String,
    pub precision: String,
    pub role: Role,
    pub drafter: String,
    pub context: u64,
    pub batch: u64,
    pub mode: Mode,
    pub width: u64,
    /// Valid ones.
    pub samples: u64,
    /// Median with its order-statistics interval; no interval where the samples are too few for the confidence asked for.
    pub time_ms: f64,
    pub time_low_ms: Option<f64>,
    pub time_high_ms: Option<f64>,
    /// What the interval achieves.
    pub confidence: Option<f64>,
    /// Of a forward or proposal.
    pub bytes: u64,
    pub flops: f64,
    /// Bytes and FLOPs over the median.
    pub bandwidth_gb_s: f64,
    pub rate_gflop_s: f64,
    /// The chosen cost model's time.
    pub model_ms: Option<f64>,
    /// Of the stretch that the width lies in; empty where it cannot be said.
    pub regime: String,
    /// The cheapest wider width, where it is cheaper; then the share of the time that it saves.
    pub pad_to: Option<u64>,
    pub pad_saving: Option<f64>,
    pub pad_p_holm: Option<f64>,
}

/// `cost_changes.csv`: a jump or fall between two neighbouring measured widths.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CostChangeRow {
    pub curve: u64,
    /// `cliff`: a rise steeper than on either side; `fall`: a wider forward is cheaper.
    pub kind: String,
    pub from_width: u64,
    pub to_width: u64,
    /// Time at `to_width` over that at `from_width`, less one, from means over passes.
    pub relative: f64,
    pub low: f64,
    pub high: f64,
    pub p_holm: f64,
}

/// `cost_stretches.csv`: neighbouring widths of one regime without a cliff or fall between them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CostStretchRow {
    pub curve: u64,
    pub from_width: u64,
    pub to_width: u64,
    /// Medians at its two ends.
    pub from_ms: f64,
    pub to_ms: f64,
    /// What a further token costs: mean over passes of the least-squares slope, with a t interval.
    pub slope_ms: Option<f64>,
    pub slope_low_ms: Option<f64>,
    pub slope_high_ms: Option<f64>,
    /// Median over its widths of the time that the bytes need at the measured bandwidth, over the time taken; the same of
    /// the FLOPs at the measured matrix rate.
    pub memory_share: Option<f64>,
    pub compute_share: Option<f64>,
    pub regime: String,
}

/// `cost_models.csv`: one piece of one fitted cost model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CostModelRow {
    pub curve: u64,
    pub shape: String,
    pub chosen: bool,
    /// Mean absolute relative error at widths left out of the fit, one at a time.
    pub error_left_out: f64,
    /// Which piece of the model, from 0.
    pub piece: u64,
    /// Where it begins, its time there, and what a further token costs on it.
    pub from_width: f64,
    pub level_ms: f64,
    pub slope_ms: f64,
}

impl Wire for CostCurveRow {
    const FILE: &'static str = "cost_curves.csv";
}
impl Derived for CostCurveRow {}

impl Wire for CostWidthRow {
    const FILE: &'static str = "cost_widths.csv";
}
impl Derived for CostWidthRow {}

impl Wire for CostChangeRow {
    const FILE: &'static str = "cost_changes.csv";
}
impl Derived for CostChangeRow {}

impl Wire for CostStretchRow {
    const FILE: &'static str = "cost_stretches.csv";
}
impl Derived for CostStretchRow {}

impl Wire for CostModelRow {
    const FILE: &'static str = "cost_models.csv";
}
impl Derived for CostModelRow {}
