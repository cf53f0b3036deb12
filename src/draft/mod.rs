//! Drafters: whatever proposes tokens for the target to verify.
//!
//! How to add a drafter: write `src/draft/NAME.rs` with a type that implements [`Drafter`], add its fields as one
//! variant of `DraftSpec` in `src/scenario/draft_file.rs`, one line to [`build`], and a TOML under `drafts/`.


pub mod lookup;
pub mod model;

use crate::decode::keys::KeyStream;
use crate::decode::sampling::Sampling;
use anyhow::Result;
use mlx_rs::Array;

/// Tokens proposed for one round. Lazy: nothing need be evaluated yet.
#[derive(Debug)]
pub struct Proposal {
    /// `[k]`, uint32.
    pub tokens: Array,
    /// `[k, vocab]`, float32: what they were drawn from; none where the drafter is deterministic.
    pub probabilities: Option<Array>,
}

/// Whatever proposes tokens. It sees committed tokens only; what was rejected is not its business beyond `propose`.
pub trait Drafter {
    /// Starts a new text with its prompt; `room` is how many tokens it may grow to in all, drafts included, so that
    /// nothing need grow while a run is timed.
    fn begin(&mut self, prompt: &[u32], room: i32) -> Result<()>;

    /// Up to `draft_length` tokens to follow `committed` (the whole text so far, prompt included); none if it has
    /// nothing to propose.
    fn propose(
        &mut self,
        committed: &[u32],
        draft_length: usize,
        sampling: &Sampling,
        keys: &mut KeyStream,
    ) -> Result<Option<Proposal>>;

    /// Tells it the text as it is after a round: what it holds beyond that text was rejected.
    fn settle(&mut self, committed: &[u32]) -> Result<()>;
}
