//! Many texts at once, each from its own prompt at its own temperature.
//!
//! All texts of a batch stand at the same position, so one length of the cache serves all and no mask is needed: where
//! a text is still in its prompt, the prompt's token takes the place of the chosen one. Tokens stay on the device and
//! come to the host some dozens of steps at a time; then texts that have ended leave the batch.

use crate::decode::keys::KeyStream;
use crate::model::cache::KvCache;
use crate::model::transformer::Transformer;
use anyhow::Result;
use mlx_rs::ops::indexing::{TryIndexOp, argmax_axis};
use mlx_rs::ops::{maximum, select, stack};
use mlx_rs::transforms::{async_eval, eval};
use mlx_rs::{Array, random};

/// Steps between two looks at which texts have ended.
const LOOK_STEPS: usize = 32;
/// Tokens of one forward over the prompts, which bounds its memory.
const PREFILL_TOKENS: usize = 16384;
/// No draw of float32 noise is lower, but that of the number 0, which is minus infinity.
const LEAST_NOISE: f32 = -10.0;

/// A text to be written.
#[derive(Debug, Clone)]
pub struct Start {
    /// At least one token.
    pub prompt: Vec<u32>,
    /// 0 is greedy.
    pub temperature: f32,
    /// Tokens at most, prompt included; more than the prompt has.
    pub length: usize,
}

/// Continues every text until an id of `end_ids`, which stays part of it, or until its length. Gives prompt and
/// continuation of each in the order of `starts`, or nothing if `stop` said so meanwhile.
pub fn complete(
    model: &Transformer,
    starts: &[Start],
    end_ids: &[u32],
    keys: &mut KeyStream,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Vec<Vec<u32>>>> {
    let mut texts: Vec<Vec<u32>> = starts.iter().map(|start| start.prompt.clone()).collect();
    let Some(shortest) = starts.iter().map(|start| start.prompt.len()).min() else { return Ok(Some(texts)) };
    let mut batch = Batch::begin(model, starts, shortest)?;
    let mut position = shortest;
    while !batch.rows.is_empty() {
        if stop() {
            return Ok(None);
        }
        let longest = batch.rows.iter().map(|row| starts[*row].length).max().unwrap_or(0);
        let steps = LOOK_STEPS.min(longest - position);
        let columns = (position..position + steps).map(|at| batch.step(model, at, keys)).collect::<Result<Vec<_>>>()?;
        position += steps;
        let chosen = stack(&columns, 1)?;
        chosen.eval()?;
        let chosen = chosen.try_as_slice::<u32>()?;
        let mut alive = Vec::with_capacity(batch.rows.len());
        for (place, (row, tokens)) in batch.rows.iter().zip(chosen.chunks_exact(steps)).enumerate() {
            let (start, text) = (&starts[*row], &mut texts[*row]);
            // A text that ended earlier goes on as long as it is in the batch, unread.
            if has_ended(start, text, end_ids) {
                continue;
            }
            let own = text.len().saturating_sub(position - steps);
            for &token in &tokens[own.min(steps)..] {
                text.push(token);
                if has_ended(start, text, end_ids) {
                    break;
                }
            }
            if !has_ended(start, text, end_ids) {
                alive.push(place as u32);
            }
        }
        // Copying the caches of the others costs about as much as some steps with all.
        if alive.len() * 8 <= batch.rows.len() * 7 {
            batch.keep(&alive)?;
        }
    }
    Ok(Some(texts))
}

fn has_ended(start: &Start, text: &[u32], end_ids: &[u32]) -> bool {
    text.len() == start.length || text[start.prompt.len()..].last().is_some_and(|token| end_ids.contains(token))
}

/// The texts that are still written, on the device.
struct Batch {
    /// Their places among all.
    rows: Vec<usize>,
    cache: KvCache,
    /// The token to be read next, `[rows]` uint32.
    token: Array,
    /// `[rows, longest prompt]` uint32, padded with 0.
    prompts: Array,
    /// Tokens of each prompt, `[rows]` int32.
    prompt_lengths: Array,
    /// `[rows, 1]` float32
    temperatures: Array,
}

impl Batch {
    /// Reads what all prompts have in common in length, but for its last token.
    fn begin(model: &Transformer, starts: &[Start], shortest: usize) -> Result<Batch> {
        let rows = starts.len() as i32;
        let longest = starts.iter().map(|start| start.prompt.len()).max().unwrap_or(0);
        let mut padded = vec![0; starts.len() * longest];
        for (row, start) in padded.chunks_exact_mut(longest).zip(starts) {
            row[..start.prompt.len()].copy_from_slice(&start.prompt);
        }
        let prompts = Array::from_slice(&padded, &[rows, longest as i32]);
        let lengths: Vec<i32> = starts.iter().map(|start| start.prompt.len() as i32).collect();
        let temperatures: Vec<f32> = starts.iter().map(|start| start.temperature).collect();
        let mut cache = model.new_cache();
        cache.reserve(starts.iter().map(|start| start.length).max().unwrap_or(0) as i32);
        let last = shortest as i32 - 1;
        let chunk = (PREFILL_TOKENS / starts.len()).max(1) as i32;
        for from in (0..last).step_by(chunk as usize) {
            model.prefill(&prompts.try_index((.., from..(from + chunk).min(last)))?, None, &mut cache)?;
        }
        Ok(Batch {
            rows: (0..starts.len()).collect(),
            cache,
            token: prompts.try_index((.., last))?,
            prompts,
            prompt_lengths: Array::from_slice(&lengths, &[rows]),
            temperatures: Array::from_slice(&temperatures, &[rows, 1]),
        })
    }

    /// Decides the token at position `at` of every text, and submits that.
    fn step(&mut self, model: &Transformer, at: usize, keys: &mut KeyStream) -> Result<Array> {
        let rows = self.token.dim(0);
        let logits = model.forward_pipelined(&self.token.reshape(&[rows, 1])?, &mut self.cache)?;
        let mut token = choose(&logits.reshape(&[rows, -1])?, &self.temperatures, &keys.next_key()?)?;
        let at = at as i32;
        if at < self.prompts.dim(1) {
            let in_prompt = self.prompt_lengths.gt(Array::from_int(at))?;
            token = select(in_prompt, self.prompts.try_index((.., at))?, token)?;
        }
        async_eval([&token])?;
        self.token = token.clone();
        Ok(token)
    }

    /// Goes on with the texts at these places of the batch.
    fn keep(&mut self, places: &[u32]) -> Result<()> {
        self.rows = places.iter().map(|place| self.rows[*place as usize]).collect();
        if places.is_empty() {
            return Ok(());
        }
        let places = Array::from_slice(places, &[places.len() as i32]);
        self.cache.keep_rows(&places)?;
        for array in [&mut self.token, &mut self.prompts, &mut self.prompt_lengths, &mut self.temperatures] {
            *array = array.take_axis(&places, 0)?;
        }
        eval([&self.token, &self.prompts, &self.prompt_lengths, &self.temperatures])?;
        Ok(())
    }
}

/// One token a row of `logits` (`[rows, vocab]`), at the row's own temperature (`[rows, 1]` float32, 0 is greedy).
///
/// The largest of logit + T · Gumbel noise is a draw from the softmax of logits / T (Maddison, Tarlow and Minka 2014,
/// "A* Sampling"), and the greedy choice at T = 0.
fn choose(logits: &Array, temperatures: &Array, key: &Array) -> Result<Array> {
    let noise = random::gumbel::<f32>(logits.shape(), key)?;
    let noise = maximum(noise, Array::from_f32(LEAST_NOISE))?.multiply(temperatures)?;
    Ok(argmax_axis(logits.as_type::<f32>()?.add(noise)?, -1, false)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{ChiSquared, ContinuousCDF};

    #[test]
    fn rows_are_drawn_at_their_own_temperatures() {
        const DRAWS: usize = 4000;
        let logits = [2.0f32, 1.0, 0.5, 0.0, -1.0];
        let temperatures = [0.0f32, 0.5, 1.0, 2.0];
        let rows =
            Array::from_slice(&logits.repeat(temperatures.len() * DRAWS), &[(temperatures.len() * DRAWS) as i32, 5]);
        let of_rows: Vec<f32> = temperatures.iter().flat_map(|temperature| [*temperature; DRAWS]).collect();
        let of_rows = Array::from_slice(&of_rows, &[of_rows.len() as i32, 1]);
        let drawn = choose(&rows, &of_rows, &random::key(9).unwrap()).unwrap().to_vec_exact::<u32>().unwrap();
        assert!(drawn[..DRAWS].iter().all(|token| *token == 0), "temperature 0 is greedy");
        for (temperature, drawn) in temperatures.iter().zip(drawn.chunks(DRAWS)).skip(1) {
            let weights = logits.map(|logit| f64::from(logit / temperature).exp());
            let total: f64 = weights.iter().sum();
            let statistic: f64 = (0..5)
                .map(|token| {
                    let expected = weights[token] / total * DRAWS as f64;
                    let seen = drawn.iter().filter(|one| **one as usize == token).count() as f64;
                    (seen - expected).powi(2) / expected
                })
                .sum();
            let p = ChiSquared::new(4.0).unwrap().sf(statistic);
            assert!(p > 1e-3, "temperature {temperature}: p = {p}");
        }
    }
}
