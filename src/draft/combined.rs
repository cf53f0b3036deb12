//! A lookup where it is sure enough of what follows, else a model.

use super::host::HostDrafter;
use super::{Drafter, Proposal, TokenDrafts};
use crate::decode::keys::KeyStream;
use crate::decode::sampling::Sampling;
use crate::measure::trace::TextChances;
use crate::roofline::{ModelShape, StopRule};
use anyhow::Result;
use mlx_rs::Array;

/// Two drafters on one text. The one that does not draft only reads: the model catches up when it is next asked.
pub struct Combined {
    lookup: HostDrafter,
    model: Box<dyn Drafter>,
    /// The least confidence of a found draft's first token with which it is taken.
    min_confidence: f64,
}

impl Combined {
    pub fn new(lookup: HostDrafter, model: Box<dyn Drafter>, min_confidence: f64) -> Self {
        Combined { lookup, model, min_confidence }
    }

    /// Whether the lookup's draft is taken whose first token has this confidence. The draft length asked for has no part in
    /// it, so that a shorter draft is the start of a longer one.
    fn is_sure(&self, first: Option<f64>) -> bool {
        first.is_some_and(|confidence| confidence >= self.min_confidence)
    }

    fn is_taken(&self, found: &TokenDrafts) -> bool {
        self.is_sure(found.seen.first().map(|seen| seen.confidence))
    }
}

impl Drafter for Combined {
    fn begin(&mut self, prompt: &[u32], room: i32) -> Result<()> {
        self.lookup.begin(prompt, room)?;
        self.model.begin(prompt, room)
    }

    fn hidden_size(&self) -> Option<i32> {
        self.model.hidden_size()
    }

    fn observe(&mut self, hidden: &Array) -> Result<()> {
        self.model.observe(hidden)
    }

    fn propose(
        &mut self,
        committed: &[u32],
        draft_length: usize,
        sampling: &Sampling,
        keys: &mut KeyStream,
    ) -> Result<Option<Proposal>> {
        let first = self.lookup.found(committed, 1).confidences.first().copied();
        if self.is_sure(first) {
            self.lookup.propose(committed, draft_length, sampling, keys)
        } else {
            self.model.propose(committed, draft_length, sampling, keys)
        }
    }

    fn settle(&mut self, committed: &[u32]) -> Result<()> {
        self.lookup.settle(committed)?;
        self.model.settle(committed)
    }

    fn stop_by(&mut self, rule: Option<StopRule>) {
        self.lookup.stop_by(rule.clone());
        self.model.stop_by(rule);
    }

    fn token_drafts(
        &mut self,
        text: &[u32],
        first: usize,
        positions: usize,
        draft_length: usize,
    ) -> Result<Vec<TokenDrafts>> {
        let found = self.lookup.token_drafts(text, first, positions, draft_length)?;
        let drafted = self.model.token_drafts(text, first, positions, draft_length)?;
        let pairs = found.into_iter().zip(drafted);
        Ok(pairs.map(|(found, drafted)| if self.is_taken(&found) { found } else { drafted }).collect())
    }

    fn text_chances(
        &mut self,
        text: &[u32],
        first: usize,
        positions: usize,
        draft_length: usize,
        sampling: &Sampling,
    ) -> Result<Vec<TextChances>> {
        let found = self.lookup.token_drafts(text, first, positions, draft_length)?;
        let chances = self.model.text_chances(text, first, positions, draft_length, sampling)?;
        let chosen = |(place, (found, chances)): (usize, (TokenDrafts, TextChances))| match self.is_taken(&found) {
            true => TextChances::from(found.matching(&text[first + place..])),
            false => chances,
        };
        Ok(found.into_iter().zip(chances).enumerate().map(chosen).collect())
    }

    /// A lookup takes none to speak of.
    fn timed_part(&mut self) -> &mut dyn Drafter {
        self.model.as_mut()
    }

    fn shape(&self) -> Option<ModelShape> {
        self.model.shape()
    }
}
