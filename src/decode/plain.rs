//! Plain decoding, pipelined: the next step is submitted before the last token is read. The baseline of every
//! speed-up, so it is as fast as we can make it.

use super::keys::KeyStream;
use super::sampling::Sampling;
use super::{Request, Round, Run, choose, start};
use crate::model::cache::KvCache;
use crate::model::transformer::Transformer;
use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::transforms::async_eval;
use std::time::Instant;

/// Decodes one token a step. `observe` is called once a token, after the next step was submitted.
pub fn decode(model: &Transformer, request: &Request, observe: &mut dyn FnMut(Round)) -> Result<Run> {
    let started = Instant::now();
    let mut cache = start(model, request, (request.prompt.len() + request.max_tokens) as i32)?;
    let prefill_seconds = started.elapsed().as_secs_f64();

    let started = Instant::now();
    let mut keys = KeyStream::new(request.seed);
    let mut run = Run { prefill_seconds, ..Run::default() };
    let mut next = None;
    if request.max_tokens > 0 {
        let last = &request.prompt[request.prompt.len() - 1..];
        next = Some(step(model, &mut cache, &Array::from_slice(last, &[1]), &request.sampling, &mut keys)?);
    }
    while let Some(token) = next.take() {
        if run.tokens.len() + 1 < request.max_tokens {
            next = Some(step(model, &mut cache, &token, &request.sampling, &mut keys)?);
        }
        let token = token.try_item_exact::<u32>()?;
        run.tokens.push(token);
        run.rounds += 1;
        observe(Round { tokens: &[token], accepted: 0, drafted: 0 });
        if request.end_ids.contains(&token) {
            break;
        }
    }
    run.seconds = started.elapsed().as_secs_f64();
    Ok(run)
}

/// Submits one step on `token` (`[batch]`) and gives the token that follows it in each sequence, still being computed.
pub(crate) fn step(
    model: &Transformer,
    cache: &mut KvCache,
    token: &Array,
    sampling: &Sampling,
    keys: &mut KeyStream,
) -> Result<Array> {
    let batch = token.dim(0);
    let logits = model.forward_pipelined(&token.reshape(&[batch, 1])?, cache)?;
    let next = choose(sampling, &logits.reshape(&[batch, -1])?, keys)?;
    async_eval([&next])?;
    Ok(next)
}
