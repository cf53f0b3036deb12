//! What a tuning job is measured with: a model on this machine, or a made-up one.

use crate::analysis::Arm;
use crate::results::{CostRow, RunRow, StopRuleRow};
use crate::roofline::{Forward, Padding, Seen, Source, StopRule};
use anyhow::Result;
use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes that a forward must move and floating-point operations that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    pub bytes: u64,
    pub flops: f64,
}

/// What a drafter would have proposed at one position of the committed text.
#[derive(Debug, Clone, PartialEq)]
pub struct TracedDraft {
    /// The token committed at this position.
    pub token: u32,
    pub drafted: usize,
    /// How many of the drafted tokens, from the first on, equal the text; of a sampled text, one draw.
    pub matched: usize,
    /// Of a sampled text: for each place of the draft up to the first that is 0, the chance that it is accepted if all
    /// before it are.
    pub chances: Vec<f32>,
}

impl TracedDraft {
    /// Of a text that leaves nothing to chance.
    pub fn greedy(token: u32, drafted: usize, matched: usize) -> TracedDraft {
        TracedDraft { token, drafted, matched, chances: Vec::new() }
    }
}

/// Every token that a drafter could have proposed at one position of the committed text.
#[derive(Debug, Clone, PartialEq)]
pub struct TracedTokens {
    /// The token committed at this position.
    pub token: u32,
    pub source: Source,
    pub drafts: Vec<TracedToken>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TracedToken {
    pub token: u32,
    pub seen: Seen,
    /// Whether the text has it there.
    pub matches: bool,
}

/// How runs draft and verify, beyond the draft length.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// By arm; an arm without one drafts as many tokens as it is long.
    pub stop: BTreeMap<Arm, StopRule>,
    pub padding: Padding,
}

/// One timed run of one arm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimedRun {
    pub tokens: usize,
    /// Without the prompt's processing.
    pub seconds: f64,
    pub rounds: usize,
    pub drafted: usize,
    pub accepted: usize,
    pub cut_off: usize,
    /// The first output position that differs from plain decoding, and the plain run's gap between its two largest
    /// logits there.
    pub first_divergence: Option<(usize, f64)>,
}

/// Times forwards, proposals and runs, and traces what drafters propose. Which of them, in which order and how often is not
/// its business. Prompts go by their place among those of the job.
pub trait Executor {
    /// Their names, in alphabetical order.
    fn drafters(&self) -> Vec<String>;

    /// How the target's weights are held.
    fn precision(&self) -> String;

    /// Of a forward of the target.
    fn work(&self, forward: Forward) -> Work;

    /// Of one drafted token behind so much context.
    fn draft_work(&self, drafter: &str, context: u64) -> Work;

    /// Refuses a text of so many tokens if the target cannot read it.
    fn check_room(&self, tokens: usize) -> Result<()>;

    /// Runs an arm shortly, untimed.
    fn warm_up(&mut self, arm: &Arm) -> Result<()>;

    /// Whether a round can take less than its proposal and its verification one after the other, so that rounds are timed
    /// as well.
    fn overlaps(&self) -> bool;

    /// Called once before the samples of the cost are timed.
    fn prepare(&mut self, samples: &[CostRow]) -> Result<()>;

    /// Seconds of one sample of the cost. `taken` counts those timed before it; none if it is run to warm up.
    fn time(&mut self, sample: &CostRow, taken: Option<usize>) -> Result<f64>;

    /// The bytes a second above which a sample's time cannot be.
    fn most_bandwidth(&self, sample: &CostRow) -> f64;

    /// A draft of `draft_length` tokens at each of the first `positions` positions of what plain decoding commits.
    fn trace(
        &mut self,
        prompt: usize,
        drafter: &str,
        positions: usize,
        draft_length: usize,
    ) -> Result<Vec<TracedDraft>>;

    /// The drafters with a rule or with several sources: those whose single tokens are traced.
    fn stop_rules(&self) -> Vec<StopRuleRow>;

    /// The same as `trace`, every token that could be drafted, for a drafter of `stop_rules`.
    fn trace_tokens(
        &mut self,
        prompt: usize,
        drafter: &str,
        positions: usize,
        draft_length: usize,
    ) -> Result<Vec<TracedTokens>>;

    /// From now on runs follow these rules, and verifications these widths.
    fn use_rules(&mut self, rules: Rules);

    /// One run of `max_tokens` tokens in a block, whose number seeds what is left to chance. `taken` are the runs before it.
    fn run(&mut self, prompt: usize, block: u64, arm: &Arm, max_tokens: usize, taken: &[RunRow]) -> Result<TimedRun>;

    /// Seconds from the start of the launch to the run after those taken.
    fn started_s(&self, taken: &[RunRow]) -> f64;

    /// Of the time budget.
    fn elapsed(&self) -> Duration;
}
