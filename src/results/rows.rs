//! The raw files, one row type each. The order of a type's fields is the order of its file's columns.

use super::wire::{Raw, Wire};
use serde::{Deserialize, Serialize, Serializer};

/// What a forward is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    #[default]
    Target,
    Drafter,
}

/// How steps follow each other while they are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Each step is waited for before the next is submitted.
    #[default]
    Sync,
    /// The next step is submitted before the last is read.
    Pipelined,
    /// A drafter's proposal and the forward that verifies it together, as in decoding.
    Round,
}

/// Whether a run is one of the γ=0 controls that open and close a prompt's block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Control {
    #[default]
    No,
    First,
    Last,
}

/// `prompts.csv`: a prompt as used.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PromptRow {
    /// The prompt's id in the prompt file.
    pub prompt: String,
    pub category: String,
    /// `tune` or `confirm`.
    pub split: String,
    /// Its place in the prompt file, from 0.
    pub place: u64,
    /// Tokens after the chat template.
    pub prompt_tokens: u64,
    /// SHA-256 of the token ids as little-endian 32-bit integers.
    pub tokens_sha256: String,
}

/// `cost.csv`: one timed sample of a forward, a proposal or a round.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CostRow {
    pub machine: String,
    pub target: String,
    pub precision: String,
    /// `target`: a forward of the target; `drafter`: a proposal of the drafter, or a round with it.
    pub role: Role,
    /// The drafter's name; empty for the target.
    pub drafter: String,
    /// Tokens in the cache before the forward.
    pub context: u64,
    /// Sequences in the forward.
    pub batch: u64,
    /// Tokens of one sequence in the forward; for a drafter, the draft length asked for.
    pub width: u64,
    pub mode: Mode,
    /// Which launch of the process, from 0.
    pub launch: u64,
    /// Which pass over all widths, from 0; the widths' order is drawn anew in each.
    pub pass: u64,
    /// Place in the order taken, within the launch, from 0.
    pub order: u64,
    /// Forwards or proposals in the timed chain; `time_ms` is the mean over them.
    pub chain: u64,
    /// Milliseconds a forward, proposal or round.
    pub time_ms: Option<f64>,
    /// Bytes that it must move: weights, cache read and written.
    pub bytes: u64,
    /// Floating-point operations that it takes.
    pub flops: f64,
    /// True where the implied bandwidth is above the machine's measured ceiling.
    pub invalid: bool,
    /// Why there is no time; empty if there is one.
    #[serde(serialize_with = "one_line")]
    pub error: String,
}

/// `trace.csv`: what the drafter would have proposed at one position of the committed text.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TraceRow {
    pub prompt: String,
    pub category: String,
    pub drafter: String,
    /// Output tokens committed before the draft, from 0.
    pub position: u64,
    /// The token committed at this position.
    pub token: u32,
    /// The longest draft asked for: γ_max.
    pub draft_length_max: u64,
    /// Tokens proposed, at most γ_max; a lookup may propose fewer.
    pub drafted: u64,
    /// How many proposed tokens, from the first on, equal the text, which is known beyond the token budget. Of a sampled
    /// text one draw from the chances in `draft_trace.csv`.
    pub matched: u64,
}

/// `draft_trace.csv`: one place of the draft at a position of a sampled text. Places from the first on that cannot be
/// accepted are left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DraftTraceRow {
    pub prompt: String,
    pub drafter: String,
    /// Output tokens committed before the draft, from 0.
    pub position: u64,
    /// Place in the draft, from 1.
    pub draft_position: u64,
    /// Chance, given the text, that the text's token at this place is an accepted draft if all before it in the draft are.
    pub acceptance_probability: f32,
}

/// `runs.csv`: one timed run of one arm on one prompt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunRow {
    pub prompt: String,
    pub category: String,
    /// `tune` or `confirm`.
    pub split: String,
    /// The drafter's name; empty for plain decoding.
    pub drafter: String,
    pub draft_length: u64,
    /// Which launch of the process, from 0.
    pub launch: u64,
    /// The randomised block, one for each prompt and repeat, from 0.
    pub block: u64,
    /// Place in the block, from 0.
    pub order: u64,
    /// `first` or `last` for the block's γ=0 controls, else `no`.
    pub control: Control,
    /// Seconds since the launch began, when the run began.
    pub started_s: f64,
    /// Committed tokens.
    pub tokens: u64,
    /// Seconds for them, prompt processing excluded.
    pub seconds: Option<f64>,
    pub rounds: u64,
    /// Draft tokens verified.
    pub drafted: u64,
    /// Draft tokens accepted, those included that the token budget then cut off.
    pub accepted: u64,
    /// Tokens of the last round that the budget cut off; 0 if the round fitted.
    pub cut_off: u64,
    /// The first output position that differs from plain decoding; empty if none does.
    pub first_divergence: Option<u64>,
    /// The plain run's gap between the two largest logits there.
    pub logit_margin: Option<f64>,
    /// Why the run failed; empty if it did not.
    #[serde(serialize_with = "one_line")]
    pub error: String,
}

/// `looks.csv`: when a race looks, declared before its first block.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LookRow {
    /// Which look, from 1.
    pub look: u64,
    /// Prompts of the tuning split after whose blocks it is taken.
    pub blocks: u64,
}

/// An error's text on one line, without the places in source files that libraries add: `at /folder/file.rs:1:2`.
pub(super) fn one_line<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let mut words: Vec<&str> = Vec::new();
    for word in text.split_whitespace() {
        let place = word.starts_with('/') && [".rs:", ".cpp:", ".h:"].iter().any(|end| word.contains(end));
        if place && words.last() == Some(&"at") {
            words.pop();
        } else {
            words.push(word);
        }
    }
    serializer.serialize_str(&words.join(" "))
}

impl Wire for PromptRow {
    const FILE: &'static str = "prompts.csv";
}
impl Raw for PromptRow {
    type Key = String;
    fn key(&self) -> String {
        self.prompt.clone()
    }
}

impl Wire for CostRow {
    const FILE: &'static str = "cost.csv";
}
impl Raw for CostRow {
    type Key = (Role, String, String, u64, u64, u64, Mode, u64);
    /// A pass is not repeated by a later launch.
    fn key(&self) -> Self::Key {
        let CostRow { role, drafter, precision, context, batch, width, mode, pass, .. } = self.clone();
        (role, drafter, precision, context, batch, width, mode, pass)
    }
}

impl Wire for TraceRow {
    const FILE: &'static str = "trace.csv";
}
impl Raw for TraceRow {
    type Key = (String, String, u64);
    fn key(&self) -> Self::Key {
        (self.prompt.clone(), self.drafter.clone(), self.position)
    }
}

impl Wire for DraftTraceRow {
    const FILE: &'static str = "draft_trace.csv";
}
impl Raw for DraftTraceRow {
    type Key = (String, String, u64, u64);
    fn key(&self) -> Self::Key {
        (self.prompt.clone(), self.drafter.clone(), self.position, self.draft_position)
    }
}

impl Wire for RunRow {
    const FILE: &'static str = "runs.csv";
}
impl Raw for RunRow {
    type Key = (u64, u64);
    /// A block's order is seeded, so its places name the runs, whatever the launch.
    fn key(&self) -> Self::Key {
        (self.block, self.order)
    }
}

impl Wire for LookRow {
    const FILE: &'static str = "looks.csv";
}
impl Raw for LookRow {
    type Key = u64;
    fn key(&self) -> u64 {
        self.look
    }
}
