//! The scenario's fields, their defaults and the ranges they may take.

use super::budget;
use super::precision::{Dtype, Quantization};
use super::range::Range;
use super::simulated::Simulated;
use super::supposed::Supposed;
use super::sweep::Sweep;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A scenario as declared: what is run, on what, and how the draft length is chosen. Fixed before anything is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Names the results folder: letters, digits, `.`, `_` and `-`.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"))]
    pub name: String,
    /// One sentence for people.
    #[serde(default)]
    pub description: String,
    pub target: Target,
    /// Draft files, found beside the scenario or in a folder above it; names of `[simulated.drafters]` where it is simulated.
    #[schemars(length(min = 1))]
    pub drafts: Vec<String>,
    /// Candidate draft lengths γ; 0, plain decoding, is always among them.
    pub draft_lengths: Range,
    /// Widths b at which t(b) is measured besides the γ+1 that the draft lengths need.
    #[serde(default)]
    pub widths: Range,
    /// The prompt set: a JSONL file; none where it is simulated or acceptance is supposed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompts: String,
    /// How many prompts, from the first on, the draft length is chosen on.
    #[schemars(range(min = 3, max = 100_000))]
    pub tune_prompts: usize,
    /// How many prompts after those confirm it.
    #[serde(default)]
    #[schemars(range(max = 100_000))]
    pub confirm_prompts: usize,
    /// Committed tokens a run, the same for every arm.
    #[schemars(range(min = 2, max = 1_048_576))]
    pub max_tokens: usize,
    /// Tokens in the cache when t(b) is measured; half a run beyond the median prompt if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Lengthens every prompt with others in front of it, so that in the middle of a run `context` tokens are in the cache.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fill_context: bool,
    /// Runs a verification at a wider width where t(b) is measured to be lower there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pad: bool,
    /// Sequences in one forward; only a simulated target takes more than one.
    #[serde(default = "default_one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 1024))]
    pub batch: usize,
    /// 0 is greedy.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 10.0))]
    pub temperature: f64,
    /// How many blocks are timed on each prompt, each with texts of its own; more than one only at temperature > 0.
    #[serde(default = "default_one", skip_serializing_if = "is_one")]
    pub texts_per_prompt: usize,
    #[serde(default)]
    pub seed: u64,
    /// Confidence of every interval and set, simultaneous where there are several.
    #[serde(default = "default_confidence")]
    #[schemars(range(min = 0.5, max = 0.9999))]
    pub confidence: f64,
    /// The loss, relative to the best arm, that does not matter in practice.
    #[serde(default = "default_practical_margin")]
    #[schemars(range(min = 0.0, max = 0.5))]
    pub practical_margin: f64,
    /// How many promising draft lengths of each drafter are timed, γ=0 not counted.
    #[serde(default = "default_arms")]
    #[schemars(range(min = 1, max = 127))]
    pub arms: usize,
    /// After how many tuning prompts a race (`tune --race`) looks, ascending, three to five of them; about 12, 20, 32, 50 and
    /// 100 % of the tuning prompts if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 3, max = 5))]
    pub looks: Vec<usize>,
    /// Time for the whole job; `--budget` replaces it.
    #[serde(default = "default_time_budget", with = "budget")]
    #[schemars(with = "String")]
    pub time_budget: Duration,
    /// What `ridgepoint sweep` varies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
    /// A made-up machine in the place of this one: nothing is loaded, and the same rows come out everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated: Option<Simulated>,
    /// Acceptance that is declared instead of measured, for a target with random weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supposed: Option<Supposed>,
}

/// The model that decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// A checkpoint's file, folder, name under `models/`, or `hf://org/name[@revision]`.
    pub model: String,
    /// The type its weights are held in; as stored if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    /// Quantises the weights on load: `"bits"` or `"bits:group"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantize: Option<Quantization>,
}

fn default_one() -> usize {
    1
}

fn is_one(count: &usize) -> bool {
    *count == 1
}

fn default_confidence() -> f64 {
    0.95
}

fn default_practical_margin() -> f64 {
    0.02
}

fn default_arms() -> usize {
    4
}

fn default_time_budget() -> Duration {
    Duration::from_secs(600)
}

/// The largest width that a forward is measured at, and so the largest draft length plus one.
pub const MAX_WIDTH: usize = 128;
pub(super) const MAX_TOKENS: usize = 1 << 20;
const MAX_PROMPTS: usize = 100_000;
const MAX_BATCH: usize = 1024;
const MAX_TEXTS: usize = 1000;
/// Below this, scaled logits could leave the range of 32-bit numbers.
pub const LEAST_TEMPERATURE: f64 = 1e-4;

impl Scenario {
    /// Checks every field's range and adds γ=0. Errors are (field, message).
    pub(super) fn validate(mut self) -> Result<Scenario, (&'static str, String)> {
        if !is_file_name(&self.name) {
            return Err(("name", format!("'{}' must be 1 to 64 letters, digits, '.', '_' or '-'", self.name)));
        }
        if self.target.model.trim().is_empty() {
            return Err(("target.model", "is empty; name a checkpoint".to_string()));
        }
        if self.drafts.is_empty() {
            return Err(("drafts", "is empty; list at least one draft file".to_string()));
        }
        self.draft_lengths = self.draft_lengths.with(0);
        let longest = *self.draft_lengths.values().last().expect("0 is there");
        within("draft_lengths", longest, 1, MAX_WIDTH - 1)?;
        for &width in self.widths.values() {
            within("widths", width, 1, MAX_WIDTH)?;
        }
        within("tune_prompts", self.tune_prompts, 3, MAX_PROMPTS)?;
        within("confirm_prompts", self.confirm_prompts, 0, MAX_PROMPTS)?;
        within("max_tokens", self.max_tokens, 2, MAX_TOKENS)?;
        if let Some(context) = self.context {
            within("context", context, 0, MAX_TOKENS)?;
        }
        within("arms", self.arms, 1, MAX_WIDTH - 1)?;
        self.check_looks()?;
        self.check_sampling()?;
        self.check_points()?;
        within("confidence", self.confidence, 0.5, 0.9999)?;
        within("practical_margin", self.practical_margin, 0.0, 0.5)?;
        Ok(self)
    }

    /// The operating points, and what they are simulated with.
    fn check_points(&self) -> Result<(), (&'static str, String)> {
        let sweep = self.sweep.clone().unwrap_or_default();
        sweep.contexts.values().iter().try_for_each(|&context| within("sweep.contexts", context, 0, MAX_TOKENS))?;
        within("batch", self.batch, 1, MAX_BATCH)?;
        sweep.batches.values().iter().try_for_each(|&batch| within("sweep.batches", batch, 1, MAX_BATCH))?;
        if self.fill_context && self.context.is_none() {
            return Err(("fill_context", "needs a context to fill; give one".into()));
        }
        if sweep.targets.iter().any(|target| target.trim().is_empty()) {
            return Err(("sweep.targets", "has an empty name; name checkpoints".into()));
        }
        for (field, names) in [("sweep.targets", &sweep.targets), ("drafts", &self.drafts)] {
            if let Some(place) = (1..names.len()).find(|&place| names[..place].contains(&names[place])) {
                return Err((field, format!("names '{}' twice; name it once", names[place])));
            }
        }
        if let Some(place) =
            (1..sweep.precisions.len()).find(|&place| sweep.precisions[..place].contains(&sweep.precisions[place]))
        {
            return Err(("sweep.precisions", format!("has '{}' twice; give it once", sweep.precisions[place])));
        }
        let Some(simulated) = &self.simulated else {
            match &self.supposed {
                None if self.prompts.is_empty() => return Err(("prompts", "is missing; name a prompt file".into())),
                Some(_) if !self.prompts.is_empty() => {
                    return Err(("prompts", "mean nothing to random weights; leave it out".into()));
                }
                None => {}
                Some(supposed) => supposed.validate()?,
            }
            return match self.batch.max(sweep.batches.values().last().copied().unwrap_or(1)) {
                1 => Ok(()),
                _ => Err(("batch", "a model decodes one sequence; only a [simulated] one takes more".into())),
            };
        };
        if self.supposed.is_some() {
            return Err(("supposed", "a [simulated] machine declares its acceptance itself; leave it out".into()));
        }
        simulated.validate()?;
        if !self.prompts.is_empty() {
            return Err(("prompts", "a [simulated] machine makes up its own; leave it out".into()));
        }
        let targets = if sweep.targets.is_empty() { vec![self.target.model.clone()] } else { sweep.targets };
        if let Some(unknown) = targets.iter().find(|target| !simulated.targets.contains_key(*target)) {
            return Err(("simulated.targets", format!("has no '{unknown}', which is a target; add it")));
        }
        if let Some(unknown) = self.drafts.iter().find(|draft| !simulated.drafters.contains_key(*draft)) {
            return Err(("simulated.drafters", format!("has no '{unknown}', which is among drafts; add it")));
        }
        Ok(())
    }

    fn check_sampling(&self) -> Result<(), (&'static str, String)> {
        if self.temperature != 0.0 {
            within("temperature", self.temperature, LEAST_TEMPERATURE, 10.0)
                .map_err(|(field, message)| (field, format!("{message}; 0 is greedy")))?;
        }
        within("texts_per_prompt", self.texts_per_prompt, 1, MAX_TEXTS)?;
        if self.texts_per_prompt > 1 && self.temperature == 0.0 {
            return Err((
                "texts_per_prompt",
                "greedy decoding has one text a prompt; leave it out, or set a temperature".into(),
            ));
        }
        if self.temperature > 0.0 && (self.simulated.is_some() || self.supposed.is_some()) {
            return Err(("temperature", "tokens are accepted with declared chances; leave it out".into()));
        }
        Ok(())
    }

    fn check_looks(&self) -> Result<(), (&'static str, String)> {
        if self.looks.is_empty() {
            return Ok(());
        }
        within("looks", self.looks.len(), 3, 5)
            .map_err(|_| ("looks", format!("give 3 to 5, got {}", self.looks.len())))?;
        for pair in [&[1], &self.looks[..]].concat().windows(2) {
            within("looks", pair[1], pair[0] + 1, self.tune_prompts)?;
        }
        Ok(())
    }
}

pub(super) fn within<T: PartialOrd + std::fmt::Display>(
    field: &'static str,
    value: T,
    low: T,
    high: T,
) -> Result<(), (&'static str, String)> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err((field, format!("must be {low} to {high}, got {value}")))
}

/// Whether a name may be that of a folder: 1 to 64 letters, digits, `.`, `_` and `-`, not starting with a dot.
pub fn is_file_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        && !name.starts_with('.')
}
