//! A drafter that is itself a transformer: another checkpoint, the target at fewer bits, its first layers, or layers
//! trained for it.

use super::{Drafter, Proposal};
use crate::decode::keys::KeyStream;
use crate::decode::sampling::{Sampling, draw};
use crate::decode::{choose, prefill};
use crate::measure::model_trace;
use crate::measure::trace::Match;
use crate::model::cache::KvCache;
use crate::model::transformer::{Logits, Transformer};
use crate::roofline::ModelShape;
use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::ops::concatenate;

/// Drafts one token after the other with its own KV cache. Nothing is evaluated before the round is.
pub struct ModelDrafter {
    model: Transformer,
    cache: KvCache,
}

impl ModelDrafter {
    pub fn new(model: Transformer) -> Self {
        let cache = model.new_cache();
        ModelDrafter { model, cache }
    }
}

/// A token (`[1]`) for logits `[1, n]` of `model`; what it was drawn from, if chance decided, joins `probabilities`.
pub(super) fn draft_token(
    model: &Transformer,
    logits: &Array,
    sampling: &Sampling,
    keys: &mut KeyStream,
    probabilities: &mut Vec<Array>,
) -> Result<Array> {
    if sampling.is_greedy() {
        return model.token_ids(choose(sampling, logits, keys)?);
    }
    let row = sampling.probabilities(logits)?;
    let choice = draw(&row, &keys.next_key()?)?;
    probabilities.push(model.over_vocabulary(row)?);
    model.token_ids(choice)
}

/// Tokens drawn one by one as a proposal.
pub(super) fn proposal(tokens: &[Array], probabilities: &[Array]) -> Result<Proposal> {
    let probabilities = if probabilities.is_empty() { None } else { Some(concatenate(probabilities, 0)?) };
    Ok(Proposal { tokens: concatenate(tokens, 0)?, probabilities })
}

impl Drafter for ModelDrafter {
    fn begin(&mut self, prompt: &[u32], room: i32) -> Result<()> {
        self.cache = self.model.new_cache();
        self.cache.reserve(room);
        prefill(&self.model, &mut self.cache, prompt)
    }

    fn propose(
        &mut self,
        committed: &[u32],
        draft_length: usize,
        sampling: &Sampling,
        keys: &mut KeyStream,
    ) -> Result<Option<Proposal>> {
        // After a round in which every draft was accepted the last one has not been read yet: two tokens to catch up.
        let unread = &committed[self.cache.len() as usize..];
        let mut input = Array::from_slice(unread, &[1, unread.len() as i32]);
        let (mut tokens, mut probabilities) = (Vec::new(), Vec::new());
        for _ in 0..draft_length {
            let logits = self.model.forward(&input, &mut self.cache, Logits::Last)?;
            let logits = logits.reshape(&[1, -1])?;
            let token = draft_token(&self.model, &logits, sampling, keys, &mut probabilities)?;
            input = token.reshape(&[1, 1])?;
            tokens.push(token);
        }
        if tokens.is_empty() {
            return Ok(None);
        }
        Ok(Some(proposal(&tokens, &probabilities)?))
    }

    fn settle(&mut self, committed: &[u32]) -> Result<()> {
        self.cache.truncate(self.cache.len().min(committed.len() as i32 - 1));
        Ok(())
    }

    fn matches(&mut self, text: &[u32], first: usize, positions: usize, draft_length: usize) -> Result<Vec<Match>> {
        model_trace::matches(&self.model, text, first, positions, draft_length)
    }

    fn shape(&self) -> Option<ModelShape> {
        Some(self.model.shape())
    }
}
