//! The trace: what a drafter proposes at every position of a text that is already decided.
//!
//! With lossless decoding the committed text, or at temperature > 0 its distribution, does not depend on the draft length.
//! So it is decoded once, plainly, and the drafter is asked at every position of it; from the answers every draft length
//! is replayed. Of a sampled text it is asked for its chances of the text's own tokens (see `roofline::replay`).

use crate::roofline::acceptance_chance;
use anyhow::{Result, ensure};

/// What was proposed at one position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Tokens that the drafter proposed, at most as many as asked for.
    pub proposed: usize,
    /// How many of them, from the first, the text goes on with.
    pub matched: usize,
}

/// Refuses a text that does not reach `tokens` tokens beyond the `first` ones, of which there must be one.
pub fn check_length(text: &[u32], first: usize, tokens: usize) -> Result<()> {
    let end = first + tokens;
    ensure!(first > 0 && text.len() >= end, "a trace up to token {end} needs a longer text than {}", text.len());
    Ok(())
}

/// The chances that a drafter gave the text's own tokens, at one position of a sampled text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextChances {
    /// Tokens that the drafter proposed, at most as many as asked for.
    pub proposed: usize,
    /// For each place of the draft, if all before it were the text's tokens, the drafter's probability of the text's token
    /// there. What is left out at the end is 0.
    pub probabilities: Vec<f32>,
}

impl TextChances {
    /// The chance of each place, up to the first that is 0, that it is accepted if all before it are. `target` has the
    /// target's probabilities of the text's tokens from this position on.
    pub fn acceptance(&self, target: &[f32]) -> Vec<f32> {
        let chances = target.iter().zip(&self.probabilities).map(|(&p, &q)| acceptance_chance(p, q));
        chances.take_while(|chance| *chance > 0.0).collect()
    }
}

impl From<Match> for TextChances {
    /// Of a drafter that leaves nothing to chance.
    fn from(found: Match) -> TextChances {
        TextChances { proposed: found.proposed, probabilities: vec![1.0; found.matched] }
    }
}
