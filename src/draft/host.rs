//! Drafters that find their tokens in earlier text, on the host.

use super::suffix_tree::HostDraft;
use super::{Drafter, Proposal, TokenDrafts};
use crate::decode::keys::KeyStream;
use crate::decode::sampling::Sampling;
use crate::measure::trace::check_length;
use crate::roofline::{Seen, Source, StopRule, Stopper};
use anyhow::Result;
use mlx_rs::Array;

/// An index over the committed text.
pub trait Lookup {
    /// Starts a new text.
    fn reset(&mut self, prompt: &[u32]);

    /// Appends committed tokens.
    fn extend(&mut self, tokens: &[u32]);

    /// What may follow, up to `max` tokens. A shorter draft is the start of a longer one.
    fn draft(&self, max: usize) -> HostDraft;
}

/// Drafts what a lookup finds. It leaves nothing to chance, whatever the sampling.
pub struct HostDrafter {
    lookup: Box<dyn Lookup>,
    /// Committed tokens that the lookup knows.
    held: usize,
    stopper: Stopper,
}

impl HostDrafter {
    pub fn new(lookup: Box<dyn Lookup>) -> Self {
        HostDrafter { lookup, held: 0, stopper: Stopper::new(None) }
    }

    /// What may follow `committed`, before a rule cuts it.
    pub fn found(&mut self, committed: &[u32], max: usize) -> HostDraft {
        self.read(committed);
        self.lookup.draft(max)
    }

    fn read(&mut self, committed: &[u32]) {
        self.lookup.extend(&committed[self.held..]);
        self.held = committed.len();
    }
}

impl Drafter for HostDrafter {
    fn begin(&mut self, prompt: &[u32], _room: i32) -> Result<()> {
        self.lookup.reset(prompt);
        self.held = prompt.len();
        self.stopper.begin();
        Ok(())
    }

    fn propose(
        &mut self,
        committed: &[u32],
        draft_length: usize,
        _sampling: &Sampling,
        _keys: &mut KeyStream,
    ) -> Result<Option<Proposal>> {
        let draft = self.found(committed, draft_length);
        self.stopper.round(committed.len(), draft_length);
        let kept = self.stopper.cut(&draft.confidences);
        if kept == 0 {
            return Ok(None);
        }
        Ok(Some(Proposal { tokens: Array::from_slice(&draft.tokens[..kept], &[kept as i32]), probabilities: None }))
    }

    fn settle(&mut self, committed: &[u32]) -> Result<()> {
        self.read(committed);
        self.stopper.settle(committed.len());
        Ok(())
    }

    fn stop_by(&mut self, rule: Option<StopRule>) {
        self.stopper = Stopper::new(rule);
    }

    fn token_drafts(
        &mut self,
        text: &[u32],
        first: usize,
        positions: usize,
        draft_length: usize,
    ) -> Result<Vec<TokenDrafts>> {
        // The last draft is made behind one token less.
        check_length(text, first, positions.saturating_sub(1))?;
        self.begin(&text[..first], text.len() as i32)?;
        let found = |position: usize| {
            let HostDraft { tokens, confidences } = self.found(&text[..position], draft_length);
            let seen = confidences.into_iter().map(|confidence| Seen { confidence, entropy: 0.0 }).collect();
            TokenDrafts { source: Source::Lookup, tokens, seen }
        };
        Ok((first..first + positions).map(found).collect())
    }

    fn timed_part(&mut self) -> &mut dyn Drafter {
        self
    }
}
