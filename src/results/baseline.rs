//! The files of the baseline experiments: samples as taken, one file an experiment, and what follows from them.

use super::rows::one_line;
use super::wire::{Derived, Raw, Wire};
use serde::{Deserialize, Serialize};

/// `NN-name.csv`: one timed sample of a baseline experiment. All experiments have the same columns.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SampleRow {
    /// Which experiment, from 1.
    pub experiment: u64,
    pub machine: String,
    /// Empty for an operation on its own.
    pub model: String,
    /// How the weights are held, or of what type the arrays are.
    pub precision: String,
    /// What is timed.
    pub subject: String,
    /// Outputs of the weight matrix; elements of an array; empty where there is neither.
    pub outputs: Option<u64>,
    /// Inputs of the weight matrix.
    pub inputs: Option<u64>,
    /// Tokens in the cache before the forward.
    pub context: Option<u64>,
    /// Sequences in the forward.
    pub batch: Option<u64>,
    /// Tokens of one sequence in the forward.
    pub width: Option<u64>,
    /// Which launch of the process, from 0.
    pub launch: u64,
    /// Which pass over the experiment's cases, from 0; their order is drawn anew in each.
    pub pass: u64,
    /// Place in the order taken, within the experiment and launch, from 0.
    pub order: u64,
    /// Operations or steps in the sample; `time_ms` and everything beside it are of one of them.
    pub chain: u64,
    pub time_ms: Option<f64>,
    /// Bytes that it must move.
    pub bytes: u64,
    /// Floating-point operations that it takes.
    pub flops: f64,
    /// `bytes` over `time_ms`, in 10^9 bytes a second.
    pub bandwidth_gb_s: Option<f64>,
    /// `flops` over `time_ms`, in 10^9 a second.
    pub rate_gflop_s: Option<f64>,
    /// Memory that MLX held after the sample, in bytes.
    pub active_bytes: Option<u64>,
    /// The most that MLX held during the sample, in bytes.
    pub peak_bytes: Option<u64>,
    /// Resident memory of the process after the sample, in bytes; on the CPU.
    pub resident_bytes: Option<u64>,
    /// True where the implied bandwidth or rate is above the measured ceiling: something was not computed.
    pub invalid: bool,
    /// Why there is no time; empty if there is one.
    #[serde(serialize_with = "one_line")]
    pub error: String,
}

/// `points.csv`: all samples of one case.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PointRow {
    pub experiment: u64,
    pub model: String,
    pub precision: String,
    pub subject: String,
    pub outputs: Option<u64>,
    pub inputs: Option<u64>,
    pub context: Option<u64>,
    pub batch: Option<u64>,
    pub width: Option<u64>,
    /// Valid samples.
    pub samples: u64,
    /// Samples above a measured ceiling, which count nowhere.
    pub invalid: u64,
    /// Samples that failed.
    pub failed: u64,
    /// Median of the valid samples.
    pub time_ms: Option<f64>,
    /// Distribution-free 95 % interval of the median, where there are samples enough.
    pub time_low_ms: Option<f64>,
    pub time_high_ms: Option<f64>,
    pub bytes: u64,
    pub flops: f64,
    /// At the median time.
    pub bandwidth_gb_s: Option<f64>,
    /// Of the measured bandwidth ceiling.
    pub bandwidth_share: Option<f64>,
    /// At the median time.
    pub rate_gflop_s: Option<f64>,
    /// The largest over the samples.
    pub peak_bytes: Option<u64>,
}

/// `hypotheses.csv`: what an experiment says on this machine about one statement.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HypothesisRow {
    pub experiment: u64,
    pub name: String,
    /// The statement.
    pub hypothesis: String,
    /// `confirmed`, `refuted`, `undecided`, or `not run`.
    pub verdict: String,
    /// What decides.
    pub quantity: String,
    pub value: Option<f64>,
    /// 95 % interval of `value`.
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// The statement holds from here on.
    pub at_least: Option<f64>,
    /// The statement holds up to here.
    pub at_most: Option<f64>,
    /// What the value rests on, or why there is none.
    pub note: String,
}

impl Wire for SampleRow {
    /// Files are named after their experiments.
    const FILE: &'static str = "NN-name.csv";
}

impl Raw for SampleRow {
    type Key = (String, u64);
    /// The case and the pass.
    fn key(&self) -> Self::Key {
        (self.case(), self.pass)
    }
}

impl SampleRow {
    /// What is the same for all samples of a case.
    pub fn case(&self) -> String {
        let SampleRow { model, precision, subject, outputs, inputs, context, batch, width, .. } = self;
        format!("{model} {precision} {subject} {outputs:?} {inputs:?} {context:?} {batch:?} {width:?}")
    }
}

impl Wire for PointRow {
    const FILE: &'static str = "points.csv";
}
impl Derived for PointRow {}

impl Wire for HypothesisRow {
    const FILE: &'static str = "hypotheses.csv";
}
impl Derived for HypothesisRow {}
