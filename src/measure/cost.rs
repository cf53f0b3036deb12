//! t(b), the time of one target forward of width b; T_AR, a step of pipelined plain decoding; and what a drafter's
//! proposals cost. Each timer does one sample a call; in which order is the caller's business.

use crate::decode::keys::KeyStream;
use crate::decode::sampling::Sampling;
use crate::decode::{plain, prefill};
use crate::draft::Drafter;
use crate::model::cache::KvCache;
use crate::model::transformer::{Logits, Transformer};
use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::ops::indexing::argmax_axis;
use mlx_rs::transforms::eval;
use std::time::Instant;

/// Times forwards of one model behind the same context.
pub struct ForwardTimer<'a> {
    model: &'a Transformer,
    cache: KvCache,
    /// What the forwards read, as many tokens as the widest needs.
    inputs: Vec<u32>,
}

impl<'a> ForwardTimer<'a> {
    /// Reads `context` tokens of `text`, which is repeated as needed. Forwards may be up to `widest` wide.
    pub fn new(model: &'a Transformer, text: &[u32], context: usize, widest: usize) -> Result<Self> {
        let mut tokens = text.iter().copied().cycle();
        let read: Vec<u32> = tokens.by_ref().take(context).collect();
        let inputs: Vec<u32> = tokens.take(widest).collect();
        let mut cache = model.new_cache();
        cache.reserve((context + widest) as i32);
        prefill(model, &mut cache, &[&read[..], &inputs[..1]].concat())?;
        Ok(ForwardTimer { model, cache, inputs })
    }

    /// Seconds of one synchronous forward of `width` tokens with the greedy choice at every position read by the
    /// host, which is what a round does with its verification. Rolled back afterwards.
    pub fn forward(&mut self, width: usize) -> Result<f64> {
        let held = self.cache.len();
        let started = Instant::now();
        let input = Array::from_slice(&self.inputs[..width], &[1, width as i32]);
        let logits = self.model.forward(&input, &mut self.cache, Logits::All)?;
        let choices = argmax_axis(&logits, -1, false)?;
        eval([&choices])?;
        let seconds = started.elapsed().as_secs_f64();
        self.cache.truncate(held);
        Ok(seconds)
    }

    /// Seconds a token of `steps` pipelined steps of plain greedy decoding. Rolled back afterwards.
    pub fn pipelined(&mut self, steps: usize) -> Result<f64> {
        let held = self.cache.len();
        let mut keys = KeyStream::new(0);
        let mut step =
            |cache: &mut KvCache, token: &Array| plain::step(self.model, cache, token, &Sampling::GREEDY, &mut keys);
        let started = Instant::now();
        let mut token = step(&mut self.cache, &Array::from_slice(&self.inputs[..1], &[1]))?;
        for _ in 1..steps {
            let next = step(&mut self.cache, &token)?;
            token.try_item_exact::<u32>()?;
            token = next;
        }
        token.try_item_exact::<u32>()?;
        let seconds = started.elapsed().as_secs_f64();
        self.cache.truncate(held);
        Ok(seconds / steps as f64)
    }
}

/// Seconds of one proposal of `draft_length` tokens behind `text`, evaluated on its own. The drafter must have begun
/// with `text`, and is where it was afterwards.
pub fn proposal(drafter: &mut dyn Drafter, text: &[u32], draft_length: usize) -> Result<f64> {
    let mut keys = KeyStream::new(0);
    let started = Instant::now();
    if let Some(proposal) = drafter.propose(text, draft_length, &Sampling::GREEDY, &mut keys)? {
        eval([&proposal.tokens])?;
    }
    let seconds = started.elapsed().as_secs_f64();
    drafter.settle(text)?;
    Ok(seconds)
}
