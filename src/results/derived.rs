//! The derived files, one row type each: all of them follow from the raw files.

use super::wire::{Derived, Wire};
use serde::{Deserialize, Serialize};

/// `predictions.csv`: throughput predicted before any arm is timed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PredictionRow {
    pub drafter: String,
    pub draft_length: u64,
    /// Traced positions, and those whose first drafted token is accepted: the counts behind α.
    pub positions: u64,
    pub first_accepted: u64,
    /// Chance that one drafted token is accepted.
    pub alpha: Option<f64>,
    /// Committed tokens a round in the replay.
    pub tau: f64,
    /// Flat verification cost and i.i.d. α.
    pub textbook_tok_per_s: Option<f64>,
    /// Measured t(b) and i.i.d. α.
    pub iid_tok_per_s: Option<f64>,
    /// Measured t(b) and the exact replay of the trace.
    pub replay_tok_per_s: Option<f64>,
    /// Measured t(b) and a draft length chosen each round in knowledge of the match length: the bound on any rule.
    pub oracle_tok_per_s: Option<f64>,
}

/// `acceptance.csv`: one place in the draft on the tuning prompts of one category.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AcceptanceRow {
    pub drafter: String,
    pub category: String,
    /// Place in the draft, from 1.
    pub draft_position: u64,
    /// Positions of the text at which all earlier places are accepted.
    pub reached: u64,
    /// Those at which this one is too.
    pub accepted: u64,
    /// Accepted over reached; empty if never reached.
    pub alpha: Option<f64>,
}

/// `arms.csv`: one draft length that was timed, on the complete tuning prompts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ArmRow {
    pub drafter: String,
    pub draft_length: u64,
    /// Complete prompts.
    pub prompts: u64,
    /// Σ tokens / Σ seconds.
    pub tok_per_s: f64,
    /// Speed-up over plain decoding with its own BCa interval; empty for plain decoding.
    pub speedup: Option<f64>,
    pub speedup_low: Option<f64>,
    pub speedup_high: Option<f64>,
    /// Holm-adjusted p-value against plain decoding.
    pub p_holm: Option<f64>,
    /// Simultaneous upper bound on the loss to the fastest length; empty where the data give none.
    pub loss_bound: Option<f64>,
    pub may_be_best: bool,
    pub practically_best: bool,
    pub recommended: bool,
    pub rounds: u64,
    pub drafted: u64,
    pub accepted: u64,
    /// Committed tokens, of all runs that the three counts are of.
    pub tokens: u64,
    /// Predicted from t(b) and the replay of the same prompts.
    pub predicted_tok_per_s: Option<f64>,
    /// Measured over predicted throughput, less one.
    pub prediction_error: Option<f64>,
}

/// `categories.csv`: the speed-up of one arm on the prompts of one category.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CategoryRow {
    /// `tune` or `confirm`.
    pub split: String,
    pub drafter: String,
    pub draft_length: u64,
    pub category: String,
    /// Complete prompts of this category.
    pub prompts: u64,
    /// Over plain decoding, with a BCa interval over these prompts that holds for this row alone; empty below three.
    pub speedup: f64,
    pub speedup_low: Option<f64>,
    pub speedup_high: Option<f64>,
    pub rounds: u64,
    pub drafted: u64,
    pub accepted: u64,
    pub tokens: u64,
}

/// `sensitivity.csv`: one further question put to the measurements behind a decision.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SensitivityRow {
    pub drafter: String,
    /// What was asked, such as `signed-ranks`; see results/README.md.
    pub check: String,
    /// The draft length that the row is about; empty where it is about all of them or about nothing.
    pub draft_length: Option<u64>,
    pub statistic: Option<f64>,
    pub p: Option<f64>,
    /// Where a second opinion disagrees with the decision, in words; empty where it does not.
    pub disagreement: String,
}

/// `decision.csv`: the draft length chosen in one regime.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DecisionRow {
    pub machine: String,
    pub target: String,
    pub drafter: String,
    pub precision: String,
    pub context: u64,
    pub batch: u64,
    /// `overhead-bound`, `memory-bound` or `compute-bound`, at the chosen width.
    pub regime: String,
    /// The recommendation; empty where undecided.
    pub draft_length: Option<u64>,
    /// Draft lengths that cannot be told from the best, separated by spaces.
    pub confidence_set: String,
    /// Draft lengths whose loss is below the practical margin, separated by spaces.
    pub practically_best: String,
    /// Speed-up over plain decoding on the confirmation prompts, with its interval.
    pub speedup_confirmed: Option<f64>,
    pub speedup_low: Option<f64>,
    pub speedup_high: Option<f64>,
    /// Holm-adjusted p-value against plain decoding on the tuning prompts.
    pub p_holm: Option<f64>,
    /// Complete blocks that the choice rests on.
    pub prompts: u64,
    /// Complete blocks that the confirmation rests on.
    pub prompts_confirm: u64,
    /// About how many more prompts would decide; empty where decided.
    pub more_prompts: Option<u64>,
    pub confidence: f64,
    pub practical_margin: f64,
    /// Separated by ` | `.
    pub warnings: String,
}

/// `regimes.csv`: one regime of several folders.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RegimeRow {
    /// The results folder as it was named.
    pub folder: String,
    pub machine: String,
    pub target: String,
    pub drafter: String,
    pub precision: String,
    pub context: u64,
    pub batch: u64,
    /// 0 is greedy.
    pub temperature: f64,
    /// Measured.
    pub bandwidth_gb_s: Option<f64>,
    /// Bytes that a plain step must move, a sequence.
    pub bytes_per_token: Option<f64>,
    pub alpha: Option<f64>,
    pub regime: String,
    /// The recommendation; empty where undecided.
    pub draft_length: Option<u64>,
    /// Separated by spaces.
    pub confidence_set: String,
    /// The length that the speed-up is of: the recommendation, or the fastest drafting one if that is plain or none.
    pub speedup_of: Option<u64>,
    pub speedup: Option<f64>,
    pub speedup_low: Option<f64>,
    pub speedup_high: Option<f64>,
    /// Whether the speed-up is from prompts that had no part in the choice.
    pub confirmed: bool,
    pub prompts: u64,
    pub more_prompts: Option<u64>,
}

/// `contrasts.csv`: two regimes of one drafter compared.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContrastRow {
    pub drafter: String,
    /// What the regimes differ in: `machine`, `model`, `context`, `batch`, `temperature`, or `folder` if in nothing.
    pub factor: String,
    /// The first regime's value of it, and the second's.
    pub first: String,
    pub second: String,
    pub folder_first: String,
    pub folder_second: String,
    /// Whether both were measured on the same prompts, which are then compared in pairs.
    pub paired: bool,
    pub prompts_first: u64,
    pub prompts_second: u64,
    /// The length with the lowest measured cost.
    pub best_first: u64,
    pub best_second: u64,
    /// Of 'one and the same length is the fastest in both', and Holm-adjusted over all contrasts.
    pub p_same_best: f64,
    pub p_holm: f64,
    /// Interval of the second's best length less the first's.
    pub difference_low: f64,
    pub difference_high: f64,
    /// Relative loss from using one regime's best length in the other.
    pub loss_of_first_in_second: f64,
    pub loss_of_first_in_second_low: f64,
    pub loss_of_first_in_second_high: f64,
    pub loss_of_second_in_first: f64,
    pub loss_of_second_in_first_low: f64,
    pub loss_of_second_in_first_high: f64,
    pub confidence: f64,
}

impl Wire for PredictionRow {
    const FILE: &'static str = "predictions.csv";
}
impl Derived for PredictionRow {}

impl Wire for AcceptanceRow {
    const FILE: &'static str = "acceptance.csv";
}
impl Derived for AcceptanceRow {}

impl Wire for ArmRow {
    const FILE: &'static str = "arms.csv";
}
impl Derived for ArmRow {}

impl Wire for CategoryRow {
    const FILE: &'static str = "categories.csv";
}
impl Derived for CategoryRow {}

impl Wire for DecisionRow {
    const FILE: &'static str = "decision.csv";
}
impl Derived for DecisionRow {}

impl Wire for SensitivityRow {
    const FILE: &'static str = "sensitivity.csv";
}
impl Derived for SensitivityRow {}

impl Wire for RegimeRow {
    const FILE: &'static str = "regimes.csv";
}
impl Derived for RegimeRow {}

impl Wire for ContrastRow {
    const FILE: &'static str = "contrasts.csv";
}
impl Derived for ContrastRow {}
