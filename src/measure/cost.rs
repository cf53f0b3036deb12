//! t(b), the time of one target forward of width b; T_AR, a step of pipelined plain decoding; and what a drafter's
//! proposals and whole rounds cost. Each timer does one sample a call; in which order is the caller's business.

use crate::decode::keys::KeyStream;
use crate::decode::sampling::Sampling;
use crate::decode::speculative::{Input, verify};
use crate::decode::{accept, plain, prefill};
use crate::draft::{Drafter, Proposal};
use crate::machine::device;
use crate::model::cache::KvCache;
use crate::model::transformer::{Logits, Transformer};
use crate::roofline::Padding;
use anyhow::Result;
use mlx_rs::ops::indexing::argmax_axis;
use mlx_rs::ops::{concatenate, zeros_dtype};
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype};
use std::time::Instant;

/// Steps of a timed pipelined chain.
pub const CHAIN: usize = 16;

/// Times forwards of one model behind the same context, of one or several equal sequences.
pub struct ForwardTimer<'a> {
    model: &'a Transformer,
    cache: KvCache,
    /// What each sequence reads, as many tokens as the widest forward needs.
    inputs: Vec<u32>,
    batch: usize,
    sampling: Sampling,
}

impl<'a> ForwardTimer<'a> {
    /// Reads `context` tokens of `text`, which is repeated as needed, in each of `batch` sequences. Forwards may be up to
    /// `widest` wide.
    pub fn new(model: &'a Transformer, text: &[u32], context: usize, widest: usize, batch: usize) -> Result<Self> {
        Self::behind(model, text, &Self::read(model, text, context)?, context, widest, batch)
    }

    /// What [`behind`](Self::behind) starts from: a cache that holds `context` tokens of `text`, which is repeated as needed.
    pub fn read(model: &Transformer, text: &[u32], context: usize) -> Result<KvCache> {
        let mut cache = model.new_cache();
        // The last token of what is read is left out.
        let tokens: Vec<u32> = text.iter().copied().cycle().take(context + 1).collect();
        prefill(model, &mut cache, &tokens)?;
        Ok(cache)
    }

    /// The same as [`new`](Self::new) from a cache that holds at least `context` tokens of the text: one is enough for all
    /// contexts and batches.
    pub fn behind(
        model: &'a Transformer,
        text: &[u32],
        read: &KvCache,
        context: usize,
        widest: usize,
        batch: usize,
    ) -> Result<Self> {
        let inputs: Vec<u32> = text.iter().copied().cycle().skip(context).take(widest).collect();
        let cache = read.repeated(context as i32, batch as i32, (context + widest) as i32)?;
        Ok(ForwardTimer { model, cache, inputs, batch, sampling: Sampling::GREEDY })
    }

    /// Chooses tokens as `sampling` does. Where that leaves something to chance, there is one sequence.
    pub fn sampled(self, sampling: Sampling) -> Self {
        ForwardTimer { sampling, ..self }
    }

    /// Seconds of one synchronous forward of `width` tokens a sequence with what a round does with its verification: the
    /// greedy choice at every position, or the acceptance of the drafts, read by the host. Rolled back afterwards.
    pub fn forward(&mut self, width: usize) -> Result<f64> {
        let held = self.cache.len();
        let input = self.inputs[..width].repeat(self.batch);
        let started = Instant::now();
        let choices = self.choices(&input, width).and_then(|choices| Ok(eval([&choices])?));
        let seconds = started.elapsed().as_secs_f64();
        self.cache.truncate(held);
        choices.map(|()| seconds)
    }

    fn choices(&mut self, input: &[u32], width: usize) -> Result<Array> {
        let input = Array::from_slice(input, &[self.batch as i32, width as i32]);
        let logits = self.model.forward(&input, &mut self.cache, Logits::All)?;
        if self.sampling.is_greedy() {
            return Ok(argmax_axis(&logits, -1, false)?);
        }
        let probabilities = self.sampling.probabilities(&logits.squeeze_axes(&[0])?)?;
        let drafts = Array::from_slice(&self.inputs[1..width], &[width as i32 - 1]);
        let key = KeyStream::new(0).next_key()?;
        Ok(accept::rejection(&drafts, None, &probabilities, &key)?.tokens)
    }

    /// Seconds of a round of one sequence: a proposal of `draft_length` tokens behind `text`, filled up where there are fewer, and
    /// its verification, read by the host. The drafter must have begun with `text`; all is as before afterwards.
    pub fn round(&mut self, drafter: &mut dyn Drafter, text: &[u32], draft_length: usize) -> Result<f64> {
        let held = self.cache.len();
        let drafter = drafter.timed_part();
        let started = Instant::now();
        let verified = self.verified(drafter, text, draft_length);
        let seconds = started.elapsed().as_secs_f64();
        self.cache.truncate(held);
        drafter.settle(text)?;
        verified.map(|()| seconds)
    }

    fn verified(&mut self, drafter: &mut dyn Drafter, text: &[u32], draft_length: usize) -> Result<()> {
        let mut keys = KeyStream::new(0);
        let found = drafter.propose(text, draft_length, &self.sampling, &mut keys)?;
        let drafted = found.as_ref().map_or(0, |found| found.tokens.dim(0) as usize);
        let proposal = if drafted == draft_length {
            found
        } else {
            let missing = &self.inputs[1 + drafted..1 + draft_length];
            let missing = Array::from_slice(missing, &[missing.len() as i32]);
            let tokens = found.map_or(Ok(missing.clone()), |found| concatenate(&[&found.tokens, &missing], 0))?;
            Some(Proposal { tokens, probabilities: None })
        };
        let input = Input { last: &self.inputs[..1], proposal, padding: &Padding::default(), supposed: None };
        verify(self.model, &mut self.cache, input, &self.sampling, &mut keys).map(drop)
    }

    /// Seconds a token of `steps` pipelined steps of plain decoding. Rolled back afterwards.
    pub fn pipelined(&mut self, steps: usize) -> Result<f64> {
        let held = self.cache.len();
        let seconds = self.chain(steps);
        self.cache.truncate(held);
        Ok(seconds? / steps as f64)
    }

    fn chain(&mut self, steps: usize) -> Result<f64> {
        let (sampling, mut keys) = (self.sampling, KeyStream::new(0));
        let mut step = |cache: &mut KvCache, token: &Array| plain::step(self.model, cache, token, &sampling, &mut keys);
        let first = self.inputs[..1].repeat(self.batch);
        let started = Instant::now();
        let mut token = step(&mut self.cache, &Array::from_slice(&first, &[self.batch as i32]))?;
        for _ in 1..steps {
            let next = step(&mut self.cache, &token)?;
            read(&token)?;
            token = next;
        }
        read(&token)?;
        Ok(started.elapsed().as_secs_f64())
    }
}

/// Waits for tokens and brings them to the host, as decoding does.
fn read(tokens: &Array) -> Result<()> {
    tokens.eval()?;
    std::hint::black_box(tokens.try_as_slice::<u32>()?);
    Ok(())
}

/// Makes a drafter ready for [`proposal`] behind `text`. Of the target's hidden states, where it reads them, only the number
/// counts for the time.
pub fn begin(drafter: &mut dyn Drafter, text: &[u32], room: i32) -> Result<()> {
    drafter.begin(text, room)?;
    match drafter.hidden_size() {
        Some(hidden) => drafter.observe(&zeros_dtype(&[1, text.len() as i32 - 1, hidden], Dtype::Float32)?),
        None => Ok(()),
    }
}

/// Seconds of one proposal of `draft_length` tokens behind `text`, evaluated on its own. The drafter must have begun
/// with `text`, and is where it was afterwards.
pub fn proposal(drafter: &mut dyn Drafter, text: &[u32], draft_length: usize, sampling: &Sampling) -> Result<f64> {
    let mut keys = KeyStream::new(0);
    let drafter = drafter.timed_part();
    let started = Instant::now();
    if let Some(proposal) = drafter.propose(text, draft_length, sampling, &mut keys)? {
        eval(proposal.probabilities.iter().chain([&proposal.tokens]))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    drafter.settle(text)?;
    Ok(seconds)
}

/// How often something is run for one sample. Behind another shape a forward on an NVIDIA GPU is dearer than behind one of its own,
/// and decoding repeats its shapes, so there a sample comes right behind an untimed run of the same.
pub fn runs_a_sample() -> u32 {
    if device::on_nvidia_gpu() { 2 } else { 1 }
}

/// The seconds of the last of [`runs_a_sample`] runs; of one where nothing is `taken`, which warms up.
pub fn sample(taken: Option<usize>, run: impl FnMut() -> Result<f64>) -> Result<f64> {
    last_of(taken.map_or(1, |_| runs_a_sample()), run)
}

fn last_of(runs: u32, mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    for _ in 1..runs {
        run()?;
    }
    run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::host::HostDrafter;
    use crate::draft::lookup::PromptLookup;
    use crate::model::weights::LoadOptions;
    use anyhow::bail;
    use mlx_rs::Device;
    use std::path::Path;

    #[test]
    fn a_round_leaves_the_cache_as_it_was() {
        Device::set_default(&Device::cpu());
        let config = serde_json::json!({
            "model_type": "llama", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 64, "max_position_embeddings": 64
        });
        let model = crate::model::synthetic(Path::new("tiny"), &config, &LoadOptions::default(), 1).unwrap();
        let mut drafter = HostDrafter::new(Box::new(PromptLookup::new(2, 1).unwrap()));
        for sampling in [Sampling::GREEDY, Sampling::new(0.8, 0.95).unwrap()] {
            let mut timer = ForwardTimer::new(&model, &[1, 2, 3], 12, 5, 1).unwrap().sampled(sampling);
            // Four tokens are found, and none.
            for text in [[1, 2, 3, 1, 2], [1, 2, 3, 4, 5]] {
                begin(&mut drafter, &text, 16).unwrap();
                assert!(timer.round(&mut drafter, &text, 4).unwrap() > 0.0);
                assert_eq!(timer.cache.len(), 12);
            }
        }
    }

    #[test]
    fn the_last_run_is_the_sample_and_the_first_failure_its_error() {
        let seconds = |runs| {
            let mut count = 0.0;
            last_of(runs, || {
                count += 1.0;
                Ok(count)
            })
        };
        assert_eq!(seconds(1).unwrap(), 1.0);
        assert_eq!(seconds(2).unwrap(), 2.0);
        let mut count = 0;
        let failed = last_of(2, || {
            count += 1;
            bail!("run {count}")
        });
        assert_eq!(failed.unwrap_err().to_string(), "run 1");
    }
}
