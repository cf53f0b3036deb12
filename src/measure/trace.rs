//! The trace: what a drafter proposes at every position of a text that is already decided.
//!
//! With lossless greedy decoding the committed text does not depend on the draft length. So it is decoded once,
//! plainly, and the drafter is asked at every position of it; from the answers every draft length is replayed.

use crate::decode::keys::KeyStream;
use crate::decode::sampling::Sampling;
use crate::draft::Drafter;
use anyhow::{Result, ensure};

/// What was proposed at one position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Tokens that the drafter proposed, at most as many as asked for.
    pub proposed: usize,
    /// How many of them, from the first, the text goes on with.
    pub matched: usize,
}

/// Asks the drafter at one position after the other; see [`Drafter::matches`].
pub fn one_by_one<D: Drafter + ?Sized>(
    drafter: &mut D,
    text: &[u32],
    first: usize,
    positions: usize,
    draft_length: usize,
) -> Result<Vec<Match>> {
    let end = first + positions + draft_length;
    ensure!(first > 0 && text.len() >= end, "a trace up to token {end} needs a longer text than {}", text.len());
    let mut keys = KeyStream::new(0);
    drafter.begin(&text[..first], text.len() as i32)?;
    (first..first + positions)
        .map(|position| {
            let proposal = drafter.propose(&text[..position], draft_length, &Sampling::GREEDY, &mut keys)?;
            let tokens = match &proposal {
                Some(proposal) => {
                    proposal.tokens.eval()?;
                    proposal.tokens.try_as_slice::<u32>()?
                }
                None => &[],
            };
            let matched = tokens.iter().zip(&text[position..]).take_while(|(draft, token)| draft == token).count();
            drafter.settle(&text[..=position])?;
            Ok(Match { proposed: tokens.len(), matched })
        })
        .collect()
}
