//! A trained drafter that also reads the target's hidden states (EAGLE, Li et al. 2024): beside each token the normed
//! hidden state of the position before it. Where the target has not been yet, behind the first draft of a round, the
//! drafter's own stands in its place.

use super::model::{draft_token, goes_on, proposal, token_drafts};
use super::{Drafter, Proposal, TokenDrafts};
use crate::decode::keys::KeyStream;
use crate::decode::sampling::Sampling;
use crate::measure::model_trace;
use crate::measure::trace::TextChances;
use crate::model::cache::KvCache;
use crate::model::transformer::Transformer;
use crate::roofline::{ModelShape, StopRule, Stopper};
use anyhow::{Result, bail, ensure};
use mlx_rs::Array;
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::zeros_dtype;

/// Tokens of a prompt that are read at once.
const CHUNK: usize = 512;

/// Keys and values of a draft come from the drafter's own hidden state, so none is kept: what was accepted is read again,
/// with the target's, at the start of the next round.
pub struct ConditionedDrafter {
    model: Transformer,
    cache: KvCache,
    prompt: Vec<u32>,
    /// Tokens that were read with the target's hidden states.
    read: i32,
    /// The hidden states before the tokens that have not been read, `[1, n, hidden]` in all.
    waiting: Vec<Array>,
    /// The hidden state before the last token that was read, `[1, 1, hidden]`.
    last: Array,
    stopper: Stopper,
}

impl ConditionedDrafter {
    pub fn new(model: Transformer) -> Result<Self> {
        let (cache, last) = (model.new_cache(), nothing(&model)?);
        Ok(ConditionedDrafter {
            model,
            cache,
            prompt: Vec::new(),
            read: 0,
            waiting: Vec::new(),
            last,
            stopper: Stopper::new(None),
        })
    }
}

/// What stands before the first token.
fn nothing(model: &Transformer) -> Result<Array> {
    Ok(zeros_dtype(&[1, 1, model.config.hidden_size], model.dtype())?)
}

impl Drafter for ConditionedDrafter {
    fn begin(&mut self, prompt: &[u32], room: i32) -> Result<()> {
        self.cache = self.model.new_cache();
        self.cache.reserve(room);
        self.prompt = prompt.to_vec();
        self.read = 0;
        self.waiting = vec![nothing(&self.model)?];
        self.stopper.begin();
        Ok(())
    }

    fn hidden_size(&self) -> Option<i32> {
        Some(self.model.config.hidden_size)
    }

    fn observe(&mut self, hidden: &Array) -> Result<()> {
        self.waiting.push(hidden.as_dtype(self.model.dtype())?);
        if self.read > 0 || self.prompt.len() < 2 {
            return Ok(());
        }
        let features = concatenate(&self.waiting, 1)?;
        for chunk in self.prompt[..self.prompt.len() - 1].chunks(CHUNK) {
            let (from, to) = (self.cache.len(), self.cache.len() + chunk.len() as i32);
            let tokens = Array::from_slice(chunk, &[1, chunk.len() as i32]);
            self.model.prefill(&tokens, Some(&features.try_index((.., from..to, ..))?), &mut self.cache)?;
        }
        self.read = self.cache.len();
        self.waiting = vec![features.try_index((.., self.read.., ..))?];
        Ok(())
    }

    fn propose(
        &mut self,
        committed: &[u32],
        draft_length: usize,
        sampling: &Sampling,
        keys: &mut KeyStream,
    ) -> Result<Option<Proposal>> {
        self.stopper.round(committed.len(), draft_length);
        if !self.stopper.wants() {
            return Ok(None);
        }
        let unread = &committed[self.read as usize..];
        let mut input = Array::from_slice(unread, &[1, unread.len() as i32]);
        let mut features = concatenate(&self.waiting, 1)?;
        let known = features.dim(1);
        ensure!(known as usize == unread.len(), "{} tokens to read with {known} hidden states", unread.len());
        self.last = features.try_index((.., -1.., ..))?;
        self.waiting.clear();
        let (mut tokens, mut probabilities) = (Vec::new(), Vec::new());
        let mut first = true;
        while self.stopper.wants() {
            let hidden = self.model.hidden_states(&input, Some(&features), &mut self.cache)?;
            if std::mem::take(&mut first) {
                self.read = self.cache.len();
            }
            features = hidden.try_index((.., -1.., ..))?;
            let logits = self.model.head(&features)?.reshape(&[1, -1])?;
            if !goes_on(&mut self.stopper, &logits)? {
                break;
            }
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
        // Where nothing was committed, the last token is read again.
        if self.read == committed.len() as i32 {
            self.read -= 1;
            self.waiting = vec![self.last.clone()];
        }
        self.cache.truncate(self.read);
        self.stopper.settle(committed.len());
        Ok(())
    }

    fn stop_by(&mut self, rule: Option<StopRule>) {
        self.stopper = Stopper::new(rule);
    }

    /// The text must have been observed: [`begin`](Drafter::begin) with its first token, then the target's hidden states
    /// of the others.
    fn token_drafts(
        &mut self,
        text: &[u32],
        first: usize,
        positions: usize,
        draft_length: usize,
    ) -> Result<Vec<TokenDrafts>> {
        let features = concatenate(&self.waiting, 1)?;
        let drafts = model_trace::conditioned_drafts(&self.model, text, &features, first, positions, draft_length)?;
        Ok(token_drafts(drafts))
    }

    fn timed_part(&mut self) -> &mut dyn Drafter {
        self
    }

    /// Its chances inside a draft follow from its own hidden states behind the text's tokens, which no forward here gives.
    fn text_chances(
        &mut self,
        _text: &[u32],
        _first: usize,
        _positions: usize,
        _draft_length: usize,
        _sampling: &Sampling,
    ) -> Result<Vec<TextChances>> {
        bail!("a drafter that reads the target's hidden states can be traced at temperature 0 only; use another one")
    }

    fn shape(&self) -> Option<ModelShape> {
        Some(self.model.shape())
    }
}
