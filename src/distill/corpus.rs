//! The text that a drafter is trained on: folders as `ridgepoint corpus` writes them, read into memory whole.

use crate::model::safetensors;
use crate::model::stored::{Catalogue, Encoding};
use anyhow::{Context, Result, bail, ensure};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The part of `corpus.json` that training reads.
#[derive(Debug, Deserialize)]
struct Manifest {
    schema_version: u32,
    target_sha256: String,
    vocab_size: usize,
    sequence_tokens: usize,
    shards: Vec<Shard>,
}

#[derive(Debug, Deserialize)]
struct Shard {
    file: String,
    sequences: usize,
}

/// One text in [`Corpus::tokens`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    start: usize,
    pub length: usize,
    /// The first token whose prediction counts: the start of the assistant's text, at least 1.
    pub loss_from: usize,
}

/// All sequences of all folders.
#[derive(Debug, Clone, Default)]
pub struct Corpus {
    tokens: Vec<u32>,
    pub sequences: Vec<Sequence>,
    /// Tokens of the longest sequence that a folder may hold.
    pub sequence_tokens: usize,
    /// SHA-256 of each folder's `corpus.json`.
    pub sha256: Vec<String>,
}

impl Corpus {
    /// Reads `folders`. All must be of the target with this hash and vocabulary, unless `force`.
    pub fn read(folders: &[PathBuf], target_sha256: &str, vocab_size: usize, force: bool) -> Result<Corpus> {
        let mut corpus = Corpus::default();
        for folder in folders {
            corpus.add(folder, target_sha256, vocab_size, force)?;
        }
        Ok(corpus)
    }

    fn add(&mut self, folder: &Path, target_sha256: &str, vocab_size: usize, force: bool) -> Result<()> {
        let path = folder.join("corpus.json");
        let name = path.display();
        let text = std::fs::read_to_string(&path).map_err(|error| {
            crate::usage!("{name}: cannot be read ({error}); make a corpus with: ridgepoint corpus TARGET --out DIR")
        })?;
        let mut json = serde_json::Deserializer::from_str(&text);
        let manifest: Manifest = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| crate::usage!("{name}: {}: {}; make the corpus again", error.path(), error.inner()))?;
        if manifest.schema_version != 1 {
            return Err(crate::usage!(
                "{name}: schema_version: {} is of another version; make the corpus again",
                manifest.schema_version
            ));
        }
        if manifest.target_sha256 != target_sha256 && !force {
            return Err(crate::usage!(
                "{name}: target_sha256: the corpus was made by another target than this one ({} and {}); make one with it, or insist with --force",
                short(&manifest.target_sha256),
                short(target_sha256)
            ));
        }
        if manifest.vocab_size != vocab_size {
            return Err(crate::usage!("{name}: vocab_size: {} is not the target's {vocab_size}", manifest.vocab_size));
        }
        self.sha256.push(crate::scenario::sha256_hex(text.as_bytes()));
        self.sequence_tokens = self.sequence_tokens.max(manifest.sequence_tokens);
        for shard in &manifest.shards {
            let path = folder.join(&shard.file);
            self.add_shard(&path, shard.sequences, manifest.sequence_tokens, vocab_size)
                .with_context(|| format!("{}: is no shard of a corpus; make the corpus again", path.display()))?;
        }
        Ok(())
    }

    fn add_shard(&mut self, path: &Path, sequences: usize, width: usize, vocab_size: usize) -> Result<()> {
        let shard = safetensors::open_file(path)?;
        let tokens = numbers(&shard, "tokens", &[sequences, width])?;
        let lengths = numbers(&shard, "lengths", &[sequences])?;
        let loss_from = numbers(&shard, "loss_from", &[sequences])?;
        for (row, (&length, &loss_from)) in tokens.chunks_exact(width).zip(lengths.iter().zip(&loss_from)) {
            let (length, loss_from) = (length as usize, loss_from as usize);
            ensure!(length <= width && loss_from <= length, "a length is {length} and its text starts at {loss_from}");
            if let Some(id) = row[..length].iter().find(|id| **id as usize >= vocab_size) {
                bail!("it has the id {id}, of a vocabulary of {vocab_size}");
            }
            self.sequences.push(Sequence { start: self.tokens.len(), length, loss_from: loss_from.max(1) });
            self.tokens.extend_from_slice(&row[..length]);
        }
        Ok(())
    }

    /// The tokens of a sequence.
    pub fn tokens(&self, sequence: Sequence) -> &[u32] {
        &self.tokens[sequence.start..][..sequence.length]
    }

    /// Tokens of all sequences.
    pub fn token_count(&self) -> usize {
        self.tokens.len()
    }

    /// Parts with nothing to predict leave; the others are parted by `seed` into `held_out` sequences and the rest.
    /// Refuses a corpus that leaves fewer than `batch` for training.
    pub fn split(&self, held_out: usize, batch: usize, seed: u64) -> Result<(Vec<Sequence>, Vec<Sequence>)> {
        let mut sequences = self.sequences.clone();
        sequences.retain(|sequence| sequence.loss_from < sequence.length);
        if sequences.len() < held_out + batch {
            return Err(crate::usage!(
                "--corpus: it has {} sequences ({} tokens); {held_out} held out and a batch of {batch} need at least {}: make more, or lower --held-out and --batch",
                sequences.len(),
                self.token_count(),
                held_out + batch
            ));
        }
        sequences.shuffle(&mut generator(seed, u64::MAX));
        let train = sequences.split_off(held_out);
        Ok((sequences, train))
    }

    /// The `count` ids that are predicted most often in `sequences`, in ascending order. Ids that never occur follow those
    /// that do, the lowest first.
    pub fn most_frequent(&self, sequences: &[Sequence], vocab_size: usize, count: usize) -> Vec<u32> {
        let mut uses = vec![0u64; vocab_size];
        for sequence in sequences {
            self.tokens(*sequence)[sequence.loss_from..].iter().for_each(|&id| uses[id as usize] += 1);
        }
        let mut ids: Vec<u32> = (0..vocab_size as u32).collect();
        ids.sort_by_key(|&id| std::cmp::Reverse(uses[id as usize]));
        ids.truncate(count);
        ids.sort_unstable();
        ids
    }
}

/// Batches among which sequences are ordered by length.
const WINDOW: usize = 16;

/// The batches in which training reads sequences: each sequence at most once an epoch (those that fill no batch wait for
/// another epoch), each epoch in an order of its own that depends on the seed and the epoch alone. A batch holds sequences of
/// like lengths, so that little of it is padding.
#[derive(Debug, Clone)]
pub struct Order {
    sequences: Vec<Sequence>,
    batch: usize,
    seed: u64,
    epoch: Option<(u64, Vec<Vec<Sequence>>)>,
}

impl Order {
    /// `batch`: at most as many as there are sequences.
    pub fn new(sequences: Vec<Sequence>, batch: usize, seed: u64) -> Self {
        Order { sequences, batch, seed, epoch: None }
    }

    /// The sequences of a step, counted from 0.
    pub fn batch(&mut self, step: u64) -> &[Sequence] {
        let batches = (self.sequences.len() / self.batch) as u64;
        let (epoch, place) = (step / batches, (step % batches) as usize);
        if self.epoch.as_ref().is_none_or(|(held, _)| *held != epoch) {
            self.epoch = Some((epoch, self.shuffled(epoch)));
        }
        &self.epoch.as_ref().expect("was just made").1[place]
    }

    fn shuffled(&self, epoch: u64) -> Vec<Vec<Sequence>> {
        let mut generator = generator(self.seed, epoch);
        let mut sequences = self.sequences.clone();
        sequences.shuffle(&mut generator);
        sequences.truncate(sequences.len() / self.batch * self.batch);
        for window in sequences.chunks_mut(WINDOW * self.batch) {
            window.sort_by_key(|sequence| sequence.length);
        }
        let mut batches: Vec<_> = sequences.chunks_exact(self.batch).map(<[Sequence]>::to_vec).collect();
        batches.shuffle(&mut generator);
        batches
    }

    /// Positions that count in a batch, on the average over all sequences.
    pub fn mean_positions(&self) -> f64 {
        let positions: usize = self.sequences.iter().map(|sequence| sequence.length - sequence.loss_from).sum();
        positions as f64 / self.sequences.len() as f64 * self.batch as f64
    }
}

fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    generator
}

fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

/// A tensor of whole numbers.
fn numbers(shard: &Catalogue, name: &str, shape: &[usize]) -> Result<Vec<u32>> {
    let tensor = shard.tensors.get(name).with_context(|| format!("it has no tensor '{name}'"))?;
    let found: Vec<usize> = tensor.shape.iter().map(|size| *size as usize).collect();
    ensure!(tensor.encoding == Encoding::U32 && found == shape, "'{name}' is not uint32 of shape {shape:?}");
    let bytes = shard.read(tensor)?;
    Ok(bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus() -> Corpus {
        let mut corpus = Corpus::default();
        for n in 0..20usize {
            let tokens = [9, 9, n as u32 % 3, 7];
            corpus.sequences.push(Sequence {
                start: corpus.tokens.len(),
                length: 4,
                loss_from: if n == 0 { 4 } else { 2 },
            });
            corpus.tokens.extend(tokens);
        }
        corpus
    }

    #[test]
    fn what_is_held_out_is_not_trained_on() {
        let corpus = corpus();
        let (held_out, train) = corpus.split(5, 10, 1).unwrap();
        assert_eq!((held_out.len(), train.len()), (5, 14), "the one with nothing to predict is left out");
        assert!(held_out.iter().all(|sequence| !train.contains(sequence)));
        let error = corpus.split(10, 10, 1).unwrap_err().to_string();
        assert!(error.contains("19 sequences (80 tokens)") && error.contains("at least 20"), "{error}");
    }

    #[test]
    fn every_epoch_has_all_sequences_in_an_order_of_its_own() {
        let mut sequences = corpus().sequences;
        sequences.iter_mut().enumerate().for_each(|(n, sequence)| sequence.length = 10 + n * 7 % 20);
        let mut order = Order::new(sequences.clone(), 5, 3);
        let mut epoch = |first: u64| (first..first + 4).flat_map(|step| order.batch(step).to_vec()).collect::<Vec<_>>();
        let epochs = [epoch(0), epoch(4)];
        assert_ne!(epochs[0], epochs[1]);
        for mut epoch in epochs.clone() {
            for batch in epoch.chunks(5) {
                assert!(batch.iter().all(|sequence| sequence.length < batch[0].length + 5), "{batch:?}");
            }
            epoch.sort_by_key(|sequence| sequence.start);
            assert_eq!(epoch, sequences);
        }
        // A step depends on its number alone: a resumed run reads the same.
        assert_eq!(Order::new(sequences, 5, 3).batch(6), &epochs[1][10..15]);
    }

    #[test]
    fn the_head_has_what_is_predicted_most_often() {
        let corpus = corpus();
        // 7 ends all texts; 0, 1 and 2 take turns; 9 stands in prompts only and never counts.
        assert_eq!(corpus.most_frequent(&corpus.sequences, 12, 2), [1, 7]);
        assert_eq!(corpus.most_frequent(&corpus.sequences, 12, 5), [0, 1, 2, 3, 7]);
    }
}
