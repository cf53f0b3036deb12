//! The trace: what a drafter proposes at every position of a text that is already decided.
//!
//! With lossless decoding the committed text, or at temperature > 0 its distribution, does not depend on the draft length.
//! So it is decoded once, plainly, and the drafter is asked at every position of it; from the answers every draft length
//! is replayed. Of a sampled text it is asked for its chances of the text's own tokens (see `roofline::replay`).

use crate::decode::keys::KeyStream;
use crate::decode::sampling::Sampling;
use crate::draft::Drafter;
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

/// Asks the drafter at one position after the other; see [`Drafter::matches`].
///
/// # Errors
/// Also if the drafter draws its proposals, as one draw says nothing about its chances.
pub fn one_by_one<D: Drafter + ?Sized>(
    drafter: &mut D,
    text: &[u32],
    first: usize,
    positions: usize,
    draft_length: usize,
    sampling: &Sampling,
) -> Result<Vec<Match>> {
    let end = first + positions + draft_length;
    ensure!(first > 0 && text.len() >= end, "a trace up to token {end} needs a longer text than {}", text.len());
    let mut keys = KeyStream::new(0);
    drafter.begin(&text[..first], text.len() as i32)?;
    (first..first + positions)
        .map(|position| {
            let proposal = drafter.propose(&text[..position], draft_length, sampling, &mut keys)?;
            let tokens = match &proposal {
                Some(proposal) => {
                    ensure!(
                        proposal.probabilities.is_none(),
                        "this drafter draws its tokens and does not say its chances"
                    );
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
