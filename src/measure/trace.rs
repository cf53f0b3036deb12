//! The trace: what a drafter proposes at every position of a text that is already decided.
//!
//! With lossless greedy decoding the committed text does not depend on the draft length. So it is decoded once,
//! plainly, and the drafter is asked at every position of it; from the answers every draft length is replayed.

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
