//! The speculative round: draft, verify, accept and roll back with one wait, for what is committed.

use super::accept::{self, Accepted};
use super::keys::KeyStream;
use super::sampling::Sampling;
use super::{Request, Round, Run, prefill_hidden, start};
use crate::draft::{Drafter, Proposal};
use crate::model::cache::KvCache;
use crate::model::transformer::Transformer;
use crate::roofline::Padding;
use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::transforms::eval;
use std::time::Instant;

/// Decodes in rounds of up to `draft_length` drafted tokens. `observe` is called once a round.
pub fn decode(
    model: &Transformer,
    drafter: &mut dyn Drafter,
    draft_length: usize,
    request: &Request,
    observe: &mut dyn FnMut(Round),
) -> Result<Run> {
    decode_as(model, drafter, draft_length, &Verification::default(), request, observe)
}

/// How rounds verify.
#[derive(Debug, Clone, Default)]
pub struct Verification<'a> {
    /// The widths that verifications are run at. What the further tokens give is not looked at, and the cache forgets them with
    /// the rejected ones.
    pub padding: Padding,
    /// How many drafted tokens are accepted at each output position, in the place of what the target says, if that is
    /// supposed. The work is the same, the text means nothing.
    pub supposed: Option<&'a [usize]>,
}

/// The same with verifications as `how` says.
pub fn decode_as(
    model: &Transformer,
    drafter: &mut dyn Drafter,
    draft_length: usize,
    how: &Verification,
    request: &Request,
    observe: &mut dyn FnMut(Round),
) -> Result<Run> {
    let started = Instant::now();
    // The last round may start one token before the end and still drafts and verifies at full length.
    let padded = how.padding.most(draft_length + 1);
    let room = (request.prompt.len() + request.max_tokens + draft_length + padded) as i32;
    let mut cache;
    if drafter.hidden_size().is_some() {
        cache = model.new_cache();
        cache.reserve(room);
        let hidden = prefill_hidden(model, &mut cache, request.prompt)?;
        drafter.begin(request.prompt, room)?;
        drafter.observe(&hidden)?;
    } else {
        cache = start(model, request, room)?;
        drafter.begin(request.prompt, room)?;
    }
    let prefill_seconds = started.elapsed().as_secs_f64();

    let started = Instant::now();
    let mut keys = KeyStream::new(request.seed);
    let mut committed = request.prompt.to_vec();
    let mut run = Run { prefill_seconds, ..Run::default() };
    let mut ended = false;
    while !ended && run.tokens.len() < request.max_tokens {
        let proposal = drafter.propose(&committed, draft_length, &request.sampling, &mut keys)?;
        let drafted = proposal.as_ref().map_or(0, |proposal| proposal.tokens.dim(0) as usize);
        let supposed = how.supposed.map(|accepted| accepted[run.tokens.len()]);
        let last = &committed[committed.len() - 1..];
        let input = Input { last, proposal, padding: &how.padding, supposed };
        let (mut tokens, hidden) = verify(model, &mut cache, input, &request.sampling, &mut keys)?;
        let accepted = tokens.len() - 1;
        run.rounds += 1;
        run.drafted += drafted;
        run.accepted += accepted;

        let full = tokens.len();
        tokens.truncate(request.max_tokens - run.tokens.len());
        if let Some(end) = tokens.iter().position(|token| request.end_ids.contains(token)) {
            tokens.truncate(end + 1);
            ended = true;
        }
        run.cut_off = full - tokens.len();
        committed.extend_from_slice(&tokens);
        run.tokens.extend_from_slice(&tokens);
        drafter.settle(&committed)?;
        if drafter.hidden_size().is_some() {
            drafter.observe(&hidden.try_index((.., ..tokens.len() as i32, ..))?)?;
        }
        observe(Round { tokens: &tokens, accepted: accepted.min(tokens.len()), drafted });
    }
    run.seconds = started.elapsed().as_secs_f64();
    Ok(run)
}

/// What a round verifies.
pub(crate) struct Input<'a> {
    /// The last committed token.
    pub last: &'a [u32],
    pub proposal: Option<Proposal>,
    pub padding: &'a Padding,
    /// How many drafts are accepted, if that is supposed.
    pub supposed: Option<usize>,
}

/// One target forward over the last committed token and the drafts, and what is committed of it: the accepted
/// drafts and one token of the target's own; with the normed hidden states of all. The cache is left holding all
/// committed tokens but that last one.
pub(crate) fn verify(
    model: &Transformer,
    cache: &mut KvCache,
    input: Input,
    sampling: &Sampling,
    keys: &mut KeyStream,
) -> Result<(Vec<u32>, Array)> {
    let held = cache.len();
    let Input { last, proposal, padding, supposed } = input;
    let pad = last[0];
    let last = Array::from_slice(last, &[1]);
    let (drafts, probabilities) = match proposal {
        Some(proposal) => (proposal.tokens, proposal.probabilities),
        None => (Array::from_slice::<u32>(&[], &[0]), None),
    };
    let width = drafts.dim(0) + 1;
    let padded = padding.width(width as usize) as i32;
    let input = if padded > width {
        let pads = vec![pad; (padded - width) as usize];
        concatenate(&[&last, &drafts, &Array::from_slice(&pads, &[padded - width])], 0)?
    } else {
        concatenate(&[&last, &drafts], 0)?
    };
    let hidden = model.hidden_states(&input.reshape(&[1, -1])?, None, cache)?;
    let mut logits = model.head(&hidden)?.reshape(&[padded, -1])?;
    if padded > width {
        logits = logits.try_index((..width, ..))?;
    }
    let Accepted { count, tokens } = if sampling.is_greedy() {
        accept::greedy(&drafts, &logits)?
    } else {
        accept::rejection(&drafts, probabilities.as_ref(), &sampling.probabilities(&logits)?, &keys.next_key()?)?
    };
    eval([&count, &tokens])?;
    let mut accepted = count.try_item_exact::<i32>()?;
    let mut committed = tokens.try_as_slice::<u32>()?.to_vec();
    if let Some(supposed) = supposed {
        accepted = (supposed as i32).min(drafts.dim(0));
        // Those that the drafter has read.
        committed[..accepted as usize].copy_from_slice(&drafts.try_as_slice::<u32>()?[..accepted as usize]);
    }
    committed.truncate(accepted as usize + 1);
    cache.truncate(held + 1 + accepted);
    Ok((committed, hidden))
}
