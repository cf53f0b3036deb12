//! A drafter that is itself a transformer: another checkpoint, the target at fewer bits, its first layers, or layers
//! trained for it.

use super::{Drafter, Proposal, TokenDrafts};
use crate::decode::keys::KeyStream;
use crate::decode::sampling::{Sampling, draw};
use crate::decode::{choose, prefill};
use crate::measure::model_trace;
use crate::measure::trace::{Match, TextChances};
use crate::model::cache::KvCache;
use crate::model::transformer::{Logits, Transformer};
use crate::roofline::{ModelShape, Seen, Source, StopRule, Stopper};
use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::ops::{concatenate, logsumexp_axis};
use mlx_rs::transforms::eval;

/// Drafts one token after the other with its own KV cache. Nothing is waited for before the round is, unless a stopping
/// rule must know each token's distribution.
pub struct ModelDrafter {
    model: Transformer,
    cache: KvCache,
    stopper: Stopper,
}

impl ModelDrafter {
    pub fn new(model: Transformer) -> Self {
        let cache = model.new_cache();
        ModelDrafter { model, cache, stopper: Stopper::new(None) }
    }
}

/// What a stopping rule sees of the distributions of `logits` (`[rows, n]`), at temperature 1 whatever the sampling is:
/// their largest probabilities and their entropies in nats, `[rows]` float32 each. Lazy.
pub fn look(logits: &Array) -> Result<(Array, Array)> {
    let logits = logits.as_type::<f32>()?;
    let total = logsumexp_axis(&logits, -1, true)?;
    let logs = logits.subtract(&total)?;
    let entropies = logs.exp()?.multiply(&logs)?.sum_axis(-1, false)?.negative()?;
    Ok((logs.max_axis(-1, false)?.exp()?, entropies))
}

/// Whether the rule lets a token from these logits (`[1, n]`) be drafted; evaluates what it must know.
pub(super) fn goes_on(stopper: &mut Stopper, logits: &Array) -> Result<bool> {
    if !stopper.looks() {
        stopper.take();
        return Ok(true);
    }
    let (confidence, entropy) = look(logits)?;
    eval([&confidence, &entropy])?;
    let number = |array: &Array| Ok::<_, anyhow::Error>(f64::from(array.try_as_slice::<f32>()?[0]));
    Ok(stopper.keeps(Seen { confidence: number(&confidence)?, entropy: number(&entropy)? }))
}

/// Drafts of a model with what a rule sees of them.
pub(super) fn token_drafts(drafts: Vec<model_trace::Drafts>) -> Vec<TokenDrafts> {
    let seen = |(&confidence, &entropy): (&f32, &f32)| Seen { confidence: confidence.into(), entropy: entropy.into() };
    let with_source = |drafts: model_trace::Drafts| TokenDrafts {
        source: Source::Model,
        seen: drafts.confidences.iter().zip(&drafts.entropies).map(seen).collect(),
        tokens: drafts.tokens,
    };
    drafts.into_iter().map(with_source).collect()
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
        self.stopper.begin();
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
        self.stopper.round(committed.len(), draft_length);
        while self.stopper.wants() {
            let logits = self.model.forward(&input, &mut self.cache, Logits::Last)?;
            let logits = logits.reshape(&[1, -1])?;
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
        self.cache.truncate(self.cache.len().min(committed.len() as i32 - 1));
        self.stopper.settle(committed.len());
        Ok(())
    }

    fn stop_by(&mut self, rule: Option<StopRule>) {
        self.stopper = Stopper::new(rule);
    }

    fn matches(&mut self, text: &[u32], first: usize, positions: usize, draft_length: usize) -> Result<Vec<Match>> {
        model_trace::matches(&self.model, text, first, positions, draft_length)
    }

    fn text_chances(
        &mut self,
        text: &[u32],
        first: usize,
        positions: usize,
        draft_length: usize,
        sampling: &Sampling,
    ) -> Result<Vec<TextChances>> {
        let all = model_trace::probabilities(&self.model, text, first, positions + draft_length, sampling)?;
        let drafts = all.windows(draft_length).take(positions);
        Ok(drafts.map(|draft| TextChances { proposed: draft_length, probabilities: draft.to_vec() }).collect())
    }

    fn token_drafts(
        &mut self,
        text: &[u32],
        first: usize,
        positions: usize,
        draft_length: usize,
    ) -> Result<Vec<TokenDrafts>> {
        Ok(token_drafts(model_trace::drafts(&self.model, text, first, positions, draft_length)?))
    }

    fn timed_part(&mut self) -> &mut dyn Drafter {
        self
    }

    fn shape(&self) -> Option<ModelShape> {
        Some(self.model.shape())
    }
}
