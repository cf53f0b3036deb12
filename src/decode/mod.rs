//! Decoding: sampling, acceptance rules, plain decoding and the speculative round.

pub mod accept;
pub mod keys;
pub mod plain;
pub mod sampling;
pub mod speculative;

use crate::model::cache::KvCache;
use crate::model::transformer::Transformer;
use anyhow::Result;
use keys::KeyStream;
use mlx_rs::Array;
use mlx_rs::ops::indexing::argmax_axis;
use mlx_rs::ops::{concatenate, zeros_dtype};
use mlx_rs::transforms::eval;
use sampling::Sampling;

/// A prompt is read in pieces of this many tokens, which bounds the memory that attention needs.
const PREFILL_CHUNK: usize = 512;

/// What a run of the decoder is asked for.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The text so far, at least one token.
    pub prompt: &'a [u32],
    /// Tokens to commit.
    pub max_tokens: usize,
    pub sampling: Sampling,
    pub seed: u64,
    /// Ids that end the text; empty while timing, so that every arm commits the same number of tokens.
    pub end_ids: &'a [u32],
    /// The target's cache after all of the prompt but the last token, to start from a copy of it; if none, they are read.
    pub read: Option<&'a KvCache>,
}

/// What a run did, and how long it took.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Committed tokens, without the prompt.
    pub tokens: Vec<u32>,
    /// Target forwards.
    pub rounds: usize,
    /// Tokens proposed by the drafter, over all rounds.
    pub drafted: usize,
    /// Proposed tokens that the target accepted, over all rounds, those cut off at the end included.
    pub accepted: usize,
    /// Committed tokens of the last round that the budget or the end of the text cut off.
    pub cut_off: usize,
    /// Reading the prompt, the drafter's reading included.
    pub prefill_seconds: f64,
    /// From the end of prefill to the last token in host memory.
    pub seconds: f64,
}

/// One round as an observer sees it, after it was committed.
#[derive(Debug, Clone, Copy)]
pub struct Round<'a> {
    /// The tokens it committed: accepted drafts, then one of the target's own.
    pub tokens: &'a [u32],
    /// How many of them were proposed by the drafter.
    pub accepted: usize,
    pub drafted: usize,
}

/// Reads all tokens of `prompt` but the last into `cache`: the last is the input of the first step.
pub fn prefill(model: &Transformer, cache: &mut KvCache, prompt: &[u32]) -> Result<()> {
    for chunk in prompt[..prompt.len() - 1].chunks(PREFILL_CHUNK) {
        model.prefill(&Array::from_slice(chunk, &[1, chunk.len() as i32]), None, cache)?;
    }
    Ok(())
}

/// The same with the normed hidden states of what was read: `[1, len - 1, hidden]`.
pub fn prefill_hidden(model: &Transformer, cache: &mut KvCache, prompt: &[u32]) -> Result<Array> {
    let mut all = Vec::new();
    for chunk in prompt[..prompt.len() - 1].chunks(PREFILL_CHUNK) {
        let hidden = model.hidden_states(&Array::from_slice(chunk, &[1, chunk.len() as i32]), None, cache)?;
        eval(cache.arrays().chain([&hidden]))?;
        all.push(hidden);
    }
    if all.is_empty() {
        return Ok(zeros_dtype(&[1, 0, model.config.hidden_size], model.dtype())?);
    }
    Ok(concatenate(&all, 1)?)
}

/// A cache with room for `room` tokens that holds all of the request's prompt but the last token.
fn start(model: &Transformer, request: &Request, room: i32) -> Result<KvCache> {
    if let Some(read) = request.read {
        return read.copied(room);
    }
    let mut cache = model.new_cache();
    cache.reserve(room);
    prefill(model, &mut cache, request.prompt)?;
    Ok(cache)
}

/// One token a row of `logits` (`[n, vocab]` to `[n]`); a key is spent only where chance decides.
pub fn choose(sampling: &Sampling, logits: &Array, keys: &mut KeyStream) -> Result<Array> {
    if sampling.is_greedy() { Ok(argmax_axis(logits, -1, false)?) } else { sampling.sample(logits, &keys.next_key()?) }
}
