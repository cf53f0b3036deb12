//! t(b), the time of one target forward of width b, and what a drafter's proposals cost.

use crate::decode::prefill;
use crate::decode::keys::KeyStream;
use crate::decode::sampling::Sampling;
use crate::draft::Drafter;
use crate::model::cache::KvCache;
use crate::model::transformer::{Logits, Transformer};
use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::ops::indexing::argmax_axis;
use mlx_rs::transforms::eval;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::time::Instant;

/// One timed forward or proposal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Width b of the forward, or the draft length of the proposal.
    pub size: usize,
    /// Which pass over the sizes it belongs to, from 0.
    pub pass: usize,
    /// Place in the order taken, from 0.
    pub order: usize,
    /// From building the graph to the result in host memory.
    pub seconds: f64,
}

/// Times `passes` forwards of every width behind the same `context`, each pass in its own random order.
/// Every width is run once before any is timed. `text` is what the forwards read; it is repeated as needed.
pub fn verification(
    model: &Transformer,
    text: &[u32],
    context: usize,
    widths: &[usize],
    passes: usize,
    rng: &mut ChaCha8Rng,
    progress: &mut dyn FnMut(),
) -> Result<Vec<Sample>> {
    let tokens: Vec<u32> = text.iter().copied().cycle().take(context + 1).collect();
    let widest = widths.iter().copied().max().unwrap_or(0);
    let mut cache = model.new_cache();
    cache.reserve((context + widest) as i32);
    prefill(model, &mut cache, &tokens)?;
    let inputs: Vec<u32> = text.iter().copied().cycle().skip(context).take(widest).collect();
    let mut forward = |width: usize| forward_once(model, &mut cache, &inputs[..width]);
    in_random_order(widths, passes, rng, progress, &mut forward)
}

/// Forward, greedy choice at every position, choices read, rolled back: what a round does with its verification.
fn forward_once(model: &Transformer, cache: &mut KvCache, tokens: &[u32]) -> Result<f64> {
    let held = cache.len();
    let started = Instant::now();
    let input = Array::from_slice(tokens, &[1, tokens.len() as i32]);
    let logits = model.forward(&input, cache, Logits::All)?;
    let choices = argmax_axis(&logits, -1, false)?;
    eval([&choices])?;
    let seconds = started.elapsed().as_secs_f64();
    cache.truncate(held);
    Ok(seconds)
}

/// Times `passes` proposals of every draft length behind `text`, as [`verification`] times forwards.
pub fn drafting(
    drafter: &mut dyn Drafter,
    text: &[u32],
    draft_lengths: &[usize],
    passes: usize,
    rng: &mut ChaCha8Rng,
    progress: &mut dyn FnMut(),
) -> Result<Vec<Sample>> {
    let longest = draft_lengths.iter().copied().max().unwrap_or(0);
    drafter.begin(text, (text.len() + longest) as i32)?;
    let mut keys = KeyStream::new(0);
    let mut propose = |draft_length: usize| {
        let started = Instant::now();
        let proposal = drafter.propose(text, draft_length, &Sampling::GREEDY, &mut keys)?;
        if let Some(proposal) = &proposal {
            eval([&proposal.tokens])?;
        }
        let seconds = started.elapsed().as_secs_f64();
        drafter.settle(text)?;
        Ok(seconds)
    };
    in_random_order(draft_lengths, passes, rng, progress, &mut propose)
}

fn in_random_order(
    sizes: &[usize],
    passes: usize,
    rng: &mut ChaCha8Rng,
    progress: &mut dyn FnMut(),
    run: &mut dyn FnMut(usize) -> Result<f64>,
) -> Result<Vec<Sample>> {
    for &size in sizes {
        run(size)?;
        progress();
    }
    let mut samples = Vec::with_capacity(sizes.len() * passes);
    for pass in 0..passes {
        let mut sizes = sizes.to_vec();
        sizes.shuffle(rng);
        for size in sizes {
            let seconds = run(size)?;
            samples.push(Sample { size, pass, order: samples.len(), seconds });
            progress();
        }
    }
    Ok(samples)
}
