//! Prompt lookup as a drafter: what followed the last few tokens the last time they occurred.

use super::lookup::PromptLookup;
use super::{Drafter, Proposal};
use crate::decode::keys::KeyStream;
use crate::decode::sampling::Sampling;
use anyhow::Result;
use mlx_rs::Array;

pub struct PromptLookupDrafter {
    lookup: PromptLookup,
    /// Committed tokens that the lookup has been told.
    known: usize,
}

impl PromptLookupDrafter {
    pub fn new(max_ngram: usize, min_ngram: usize) -> Result<Self> {
        Ok(PromptLookupDrafter { lookup: PromptLookup::new(max_ngram, min_ngram)?, known: 0 })
    }
}

impl Drafter for PromptLookupDrafter {
    fn begin(&mut self, prompt: &[u32], _room: i32) -> Result<()> {
        self.lookup.reset(prompt);
        self.known = prompt.len();
        Ok(())
    }

    fn propose(
        &mut self,
        _committed: &[u32],
        draft_length: usize,
        _sampling: &Sampling,
        _keys: &mut KeyStream,
    ) -> Result<Option<Proposal>> {
        let tokens = self.lookup.propose(draft_length);
        let array = || Array::from_slice(&tokens, &[tokens.len() as i32]);
        Ok((!tokens.is_empty()).then(|| Proposal { tokens: array(), probabilities: None }))
    }

    fn settle(&mut self, committed: &[u32]) -> Result<()> {
        self.lookup.extend(&committed[self.known..]);
        self.known = committed.len();
        Ok(())
    }
}
