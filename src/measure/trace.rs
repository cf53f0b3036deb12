//! The trace: what a drafter proposes at every position of a text that is already decided.
//!
//! With lossless greedy decoding the committed text does not depend on the draft length. So it is decoded once,
//! plainly, and the drafter is asked at every position of it; from the answers every draft length is replayed.

use crate::decode::keys::KeyStream;
use crate::decode::sampling::Sampling;
use crate::draft::Drafter;
use anyhow::Result;

/// What was proposed at one position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Tokens that the drafter proposed, at most `draft_length_max`.
    pub proposed: usize,
    /// How many of them, from the first, the text goes on with.
    pub matched: usize,
}

/// Drafts `draft_length_max` tokens at every position of `text` from `prompt_len` to `positions` behind it.
/// `text` must reach `draft_length_max` tokens beyond the last position, so that no match is cut short.
pub fn trace(
    drafter: &mut dyn Drafter,
    text: &[u32],
    prompt_len: usize,
    positions: usize,
    draft_length_max: usize,
) -> Result<Vec<Match>> {
    assert!(text.len() >= prompt_len + positions + draft_length_max, "the text must outlast every draft");
    let mut keys = KeyStream::new(0);
    drafter.begin(&text[..prompt_len], text.len() as i32)?;
    (prompt_len..prompt_len + positions)
        .map(|position| {
            let proposal = drafter.propose(&text[..position], draft_length_max, &Sampling::GREEDY, &mut keys)?;
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
