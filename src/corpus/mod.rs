//! Text for the training of drafters, written by the target itself: what it is asked ([`crate::scenario::seeds`]), how it
//! answers many at once ([`batch`]), and where that goes ([`store`]).
//!
//! A shard follows from the seed and its own number alone, so a run that was killed goes on with the next shard as if
//! nothing had happened.

pub mod batch;
pub mod store;

use crate::decode::keys::KeyStream;
use crate::measure::Progress;
use crate::model::chat::Message;
use crate::model::language_model::LanguageModel;
use crate::scenario::seeds::{Part, Prompt, Seeds, Writing};
use anyhow::Result;
use batch::{Start, complete};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::{AtomicBool, Ordering};
use store::{Sequence, Store};

/// Batches in a shard. Prompts of like length share a batch, and there are more like ones among more.
const SHARD_BATCHES: usize = 4;
/// For texts that prompts are about: at 1 a small model writes what nobody would ask about.
const ANSWER_TEMPERATURE: f32 = 0.8;
/// The shortest sequence that has room for a prompt, a text in it and an answer.
pub const LEAST_SEQUENCE_TOKENS: usize = 32;

/// A corpus to be written.
pub struct Job<'a> {
    pub model: &'a LanguageModel,
    pub seeds: &'a Seeds,
    /// Plain texts as tokens. They come first.
    pub texts: &'a [Vec<u32>],
    /// Tokens wanted in all, padding not counted.
    pub tokens: usize,
    /// Set to stop in good order, without the shard that is being written.
    pub stop: &'a AtomicBool,
}

impl Job<'_> {
    /// Writes shards until the corpus has its tokens.
    pub fn run(&self, store: &mut Store, progress: &mut dyn Progress) -> Result<()> {
        let text_shards = self.text_shards(store);
        let mut shown = 0;
        progress.stage(&format!("writing {} tokens, thousands", self.tokens), (self.tokens / 1000) as u64);
        loop {
            let written = store.manifest().tokens();
            while shown < written.min(self.tokens) / 1000 {
                progress.step();
                shown += 1;
            }
            if written >= self.tokens || self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let number = store.manifest().shards.len();
            let sequences = match text_shards.get(number) {
                Some(sequences) => sequences.clone(),
                None => match self.written_shard(store, number)? {
                    Some(sequences) => sequences,
                    None => return Ok(()),
                },
            };
            store.add(&sequences)?;
        }
    }

    /// Plain texts cut into sequences, as many as fill the corpus.
    fn text_shards(&self, store: &Store) -> Vec<Vec<Sequence>> {
        let manifest = store.manifest();
        let pieces = self.texts.iter().flat_map(|text| text.chunks(manifest.sequence_tokens));
        // One token predicts nothing.
        let pieces = pieces.filter(|piece| piece.len() > 1);
        let sequences: Vec<Sequence> = pieces.map(|piece| Sequence { tokens: piece.to_vec(), loss_from: 0 }).collect();
        sequences.chunks(SHARD_BATCHES * manifest.batch).map(<[Sequence]>::to_vec).collect()
    }

    /// The sequences of shard `number`, or none if it was told to stop.
    fn written_shard(&self, store: &Store, number: usize) -> Result<Option<Vec<Sequence>>> {
        let manifest = store.manifest();
        let length = manifest.sequence_tokens;
        // No more than the end of the corpus needs, taking an answer to fill a quarter of its sequence.
        let missing = (self.tokens - manifest.tokens()).div_ceil(length / 4);
        let count = missing.min(SHARD_BATCHES * manifest.batch);
        let mut chance = ChaCha8Rng::seed_from_u64(manifest.seed);
        chance.set_stream(number as u64);
        let prompts: Vec<Prompt> = (0..count).map(|_| self.seeds.draw(&mut chance)).collect();
        let mut keys = KeyStream::new(chance.next_u64());
        let Some(contents) = self.contents(prompts, manifest.batch, length, &mut keys)? else { return Ok(None) };
        let mut starts = Vec::with_capacity(count);
        for (place, content) in contents.into_iter().enumerate() {
            let prompt = self.model.encode_chat(&[user(content)])?;
            // A prompt that leaves little room for an answer teaches little.
            if prompt.len() <= length * 3 / 4 {
                let temperature = manifest.temperatures[place % manifest.temperatures.len()];
                starts.push(Start { prompt, temperature, length });
            }
        }
        if starts.is_empty() {
            return Err(crate::usage!("--sequence-tokens {length}: no prompt leaves room for an answer; give more"));
        }
        let Some(texts) = self.complete(&starts, manifest.batch, &mut keys)? else { return Ok(None) };
        let sequences =
            starts.iter().zip(texts).map(|(start, tokens)| Sequence { tokens, loss_from: start.prompt.len() });
        Ok(Some(sequences.collect()))
    }

    /// The user's messages, after the target has written its parts of them. One of which nothing is left is dropped.
    fn contents(
        &self,
        prompts: Vec<Prompt>,
        batch: usize,
        length: usize,
        keys: &mut KeyStream,
    ) -> Result<Option<Vec<String>>> {
        let writings = prompts.iter().flatten().filter_map(|part| match part {
            Part::Written(writing) => Some(writing),
            Part::Text(_) => None,
        });
        let start = |writing: &Writing| {
            let (prompt, temperature) = match writing {
                Writing::Answer(content) => (self.model.encode_chat(&[user(content.clone())])?, ANSWER_TEMPERATURE),
                Writing::UserTurn => (self.model.encode_user_header()?, 1.0),
            };
            let length = prompt.len() + length * 3 / 8;
            Ok(Start { prompt, temperature, length })
        };
        let starts = writings.map(start).collect::<Result<Vec<_>>>()?;
        let Some(texts) = self.complete(&starts, batch, keys)? else { return Ok(None) };
        let own = |(start, text): (&Start, &Vec<u32>)| {
            Ok(self.model.tokenizer.decode(&text[start.prompt.len()..], true)?.trim().to_owned())
        };
        let mut written = starts.iter().zip(&texts).map(own).collect::<Result<Vec<String>>>()?.into_iter();
        let mut contents = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let parts = prompt.into_iter().map(|part| match part {
                Part::Text(text) => Some(text),
                Part::Written(_) => written.next(),
            });
            let content: String = parts.flatten().collect();
            if !content.trim().is_empty() {
                contents.push(content);
            }
        }
        Ok(Some(contents))
    }

    /// Prompt and continuation of each, batch by batch, prompts of like length together.
    fn complete(&self, starts: &[Start], batch: usize, keys: &mut KeyStream) -> Result<Option<Vec<Vec<u32>>>> {
        let mut order: Vec<usize> = (0..starts.len()).collect();
        order.sort_by_key(|place| starts[*place].prompt.len());
        let mut texts = vec![Vec::new(); starts.len()];
        for places in order.chunks(batch) {
            let some: Vec<Start> = places.iter().map(|place| starts[*place].clone()).collect();
            let stop = || self.stop.load(Ordering::Relaxed);
            let Some(done) = complete(&self.model.transformer, &some, &self.model.end_ids, keys, &stop)? else {
                return Ok(None);
            };
            for (place, text) in places.iter().zip(done) {
                texts[*place] = text;
            }
        }
        Ok(Some(texts))
    }
}

fn user(content: String) -> Message {
    Message { role: "user".to_owned(), content }
}
