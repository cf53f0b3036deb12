//! The stream of random keys that makes a seed mean a text.

use anyhow::Result;
use mlx_rs::{Array, random};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A seeded sequence of MLX random keys: the n-th key depends on the seed and on n alone, never on MLX's global random
/// state and never on what was evaluated in between. One sequence serves one generation.
#[derive(Debug, Clone)]
pub struct KeyStream {
    generator: ChaCha8Rng,
}

impl KeyStream {
    pub fn new(seed: u64) -> Self {
        Self { generator: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The next key, `[2]` uint32. Made on the host, so it adds nothing to the graph.
    pub fn next_key(&mut self) -> Result<Array> {
        Ok(random::key(self.generator.next_u64())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u64, count: usize) -> Vec<Vec<u32>> {
        let mut stream = KeyStream::new(seed);
        (0..count).map(|_| stream.next_key().unwrap().to_vec_exact().unwrap()).collect()
    }

    #[test]
    fn the_seed_and_nothing_else_decides_the_keys() {
        let first = keys(7, 100);
        random::seed(1).unwrap();
        assert_eq!(first, keys(7, 100));
        assert_ne!(first, keys(8, 100));
        let mut distinct = first.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), first.len());
    }
}
