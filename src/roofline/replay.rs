//! Exact replay of greedy speculation for any draft length from one trace.
//!
//! Under lossless greedy decoding the committed text is the same for every draft length, so a round that starts at
//! position p commits min(m\[p\], γ) draft tokens and one token of the target, whatever came before.

use anyhow::{Result, bail};

/// What the drafter proposes at one position of the committed text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draft {
    /// Tokens proposed when γ_max are asked for.
    pub drafted: usize,
    /// How many of them, from the first on, equal the committed text.
    pub matched: usize,
}

/// One prompt's trace: a draft for each position 0..N of N committed tokens. Matches are counted against the text that
/// would follow, also beyond the N tokens, as the last rounds' drafts reach there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    drafts: Vec<Draft>,
    draft_length_max: usize,
}

impl Trace {
    /// # Errors
    /// If there is no position, or at one more tokens match than are proposed, or more are proposed than asked for.
    pub fn new(drafts: Vec<Draft>, draft_length_max: usize) -> Result<Trace> {
        if drafts.is_empty() {
            bail!("a trace has no positions; trace the prompt again");
        }
        for (position, draft) in drafts.iter().enumerate() {
            let Draft { drafted, matched } = *draft;
            if matched > drafted || drafted > draft_length_max {
                bail!(
                    "position {position}: matched {matched}, drafted {drafted}, asked for {draft_length_max}; each must be at most the next"
                );
            }
        }
        Ok(Trace { drafts, draft_length_max })
    }

    /// Committed tokens: the budget of every replay.
    pub fn tokens(&self) -> usize {
        self.drafts.len()
    }

    pub fn draft_length_max(&self) -> usize {
        self.draft_length_max
    }

    /// The draft at a position, cut to γ tokens.
    pub fn draft(&self, position: usize, draft_length: usize) -> Draft {
        let Draft { drafted, matched } = self.drafts[position];
        Draft { drafted: drafted.min(draft_length), matched: matched.min(draft_length) }
    }
}

/// What a run with one draft length does. Sums of several prompts are kept in the same form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replay {
    /// Committed tokens.
    pub tokens: u64,
    pub rounds: u64,
    /// Draft tokens verified.
    pub drafted: u64,
    /// Draft tokens accepted, those included that the token budget then cut off.
    pub accepted: u64,
    /// Tokens of last rounds that the budget cut off: accepted + rounds - cut_off = tokens.
    pub cut_off: u64,
    /// Rounds by draft tokens verified, from none on: the round's forward is one wider.
    pub rounds_by_drafted: Vec<u64>,
    /// Draft tokens accepted by place in the draft, from the first on.
    pub accepted_by_place: Vec<u64>,
}

impl Replay {
    /// Committed tokens a round, the target's own included.
    pub fn tau(&self) -> f64 {
        self.tokens as f64 / self.rounds as f64
    }

    /// Adds another prompt's counts.
    pub fn add(&mut self, other: &Replay) {
        self.tokens += other.tokens;
        self.rounds += other.rounds;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
        self.cut_off += other.cut_off;
        add_counts(&mut self.rounds_by_drafted, &other.rounds_by_drafted);
        add_counts(&mut self.accepted_by_place, &other.accepted_by_place);
    }
}

fn add_counts(sum: &mut Vec<u64>, counts: &[u64]) {
    sum.resize(sum.len().max(counts.len()), 0);
    for (total, count) in sum.iter_mut().zip(counts) {
        *total += count;
    }
}

/// Replays one prompt with draft length γ up to the trace's token budget.
///
/// # Errors
/// If γ is longer than the drafts of the trace.
pub fn replay(trace: &Trace, draft_length: usize) -> Result<Replay> {
    if draft_length > trace.draft_length_max {
        bail!("draft length {draft_length} cannot be replayed from a trace of {}", trace.draft_length_max);
    }
    let mut result = Replay {
        rounds_by_drafted: vec![0; draft_length + 1],
        accepted_by_place: vec![0; draft_length],
        ..Replay::default()
    };
    let budget = trace.tokens();
    let mut position = 0;
    while position < budget {
        let draft = trace.draft(position, draft_length);
        result.rounds += 1;
        result.drafted += draft.drafted as u64;
        result.accepted += draft.matched as u64;
        result.rounds_by_drafted[draft.drafted] += 1;
        result.accepted_by_place[..draft.matched].iter_mut().for_each(|count| *count += 1);
        position += draft.matched + 1;
    }
    result.tokens = budget as u64;
    result.cut_off = (position - budget) as u64;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(matched: &[usize], longest: usize) -> Trace {
        let drafts = matched.iter().map(|&matched| Draft { drafted: longest, matched }).collect();
        Trace::new(drafts, longest).unwrap()
    }

    #[test]
    fn a_replay_by_hand() {
        // γ=2: at 0 two match, 3 tokens; at 3 none, 1; at 4 one, 2; at 6 four but two allowed, 3; at 9 one
        // matches and 2 tokens would come, but one is left.
        let trace = trace(&[2, 0, 0, 0, 1, 0, 4, 3, 2, 1], 4);
        let result = replay(&trace, 2).unwrap();
        assert_eq!((result.rounds, result.drafted, result.accepted, result.tokens), (5, 10, 6, 10));
        assert_eq!(result.cut_off, 1);
        assert_eq!(result.accepted_by_place, [4, 2]);
        assert_eq!(result.rounds_by_drafted, [0, 0, 5]);
        assert_eq!(result.tau(), 2.0);
    }

    #[test]
    fn plain_decoding_takes_a_round_a_token() {
        let result = replay(&trace(&[3, 2, 1, 0], 3), 0).unwrap();
        assert_eq!((result.rounds, result.drafted, result.accepted, result.cut_off), (4, 0, 0, 0));
    }

    #[test]
    fn a_lookup_that_finds_nothing_makes_a_narrow_round() {
        let drafts = [(0, 0), (3, 1), (2, 2), (0, 0)].map(|(drafted, matched)| Draft { drafted, matched });
        let result = replay(&Trace::new(drafts.to_vec(), 3).unwrap(), 3).unwrap();
        assert_eq!((result.rounds, result.drafted, result.accepted), (3, 3, 1));
        assert_eq!(result.rounds_by_drafted, [2, 0, 0, 1]);
    }

    #[test]
    fn a_trace_that_cannot_be_is_refused() {
        assert!(Trace::new(vec![], 1).is_err());
        assert!(Trace::new(vec![Draft { drafted: 1, matched: 2 }], 2).is_err());
        assert!(Trace::new(vec![Draft { drafted: 3, matched: 2 }], 2).is_err());
        assert!(replay(&trace(&[0], 2), 3).is_err());
    }
}
