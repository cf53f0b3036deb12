//! Exact replay of speculation for any draft length from one trace.
//!
//! **Greedy.** The committed text is the same for every draft length, so a round that starts at position p commits
//! min(m\[p\], γ) draft tokens and one token of the target, whatever came before.
//!
//! **At temperature > 0** the text is a random one, but *given the text* the rounds are a Markov chain with known chances.
//! Let p and q be the target's and the drafter's distributions after some committed prefix inside a draft. The round
//! draws x from q and accepts it with chance min(1, p(x)/q(x)), so a token y is committed as an accepted draft with chance
//! q(y) min(1, p(y)/q(y)) = min(p(y), q(y)), and committed at all with chance p(y): that is what lossless means, and it
//! holds whatever place of the draft has been reached. Hence
//!
//! * P(y was an accepted draft | y is committed) = min(1, q(y)/p(y));
//! * the next token is independent, given the prefix, of how far the draft has come, so later text says nothing more about
//!   an earlier acceptance, and the chances multiply along the text.
//!
//! A drafter that leaves nothing to chance has q = 1 at its token: the chance is 1 where the text goes on with it, else 0,
//! and a target that is greedy makes the text certain; both are the first case again. (The step is the maximal coupling of
//! p and q: Leviathan, Kalman and Matias 2023, appendix A.1.)

use anyhow::{Result, bail, ensure};

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
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    drafts: Vec<Draft>,
    draft_length_max: usize,
    /// For each position the chance of each place of the draft, up to the first that is 0; none if all are as matched.
    chances: Option<Vec<Vec<f64>>>,
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
        Ok(Trace { drafts, draft_length_max, chances: None })
    }

    /// The same of a text that was sampled: `chances` has for each position the chance, given the text, that the draft's
    /// first token is accepted, its second if the first was, and so on; what is left out is 0. What `drafts` matched is one
    /// draw from them.
    ///
    /// # Errors
    /// Also if a chance is outside 0 to 1, or one of a token that was not proposed, or what was matched is impossible.
    pub fn sampled(drafts: Vec<Draft>, draft_length_max: usize, chances: Vec<Vec<f64>>) -> Result<Trace> {
        let trace = Trace::new(drafts, draft_length_max)?;
        ensure!(
            chances.len() == trace.drafts.len(),
            "there are {} positions with chances; trace it again",
            chances.len()
        );
        for (position, (chances, draft)) in chances.iter().zip(&trace.drafts).enumerate() {
            let possible = chances.iter().all(|chance| (0.0..=1.0).contains(chance));
            let reached = chances.iter().take_while(|chance| **chance > 0.0).count();
            if !possible || chances.len() > draft.drafted || draft.matched > reached {
                bail!("position {position}: chances {chances:?} cannot be those of {draft:?}; trace it again");
            }
        }
        Ok(Trace { chances: Some(chances), ..trace })
    }

    /// Committed tokens: the budget of every replay.
    pub fn tokens(&self) -> usize {
        self.drafts.len()
    }

    pub fn draft_length_max(&self) -> usize {
        self.draft_length_max
    }

    /// Whether the text was sampled, so that a replay expects what a run does on average.
    pub fn is_sampled(&self) -> bool {
        self.chances.is_some()
    }

    /// The draft at a position, cut to γ tokens. Of a sampled text it is one draw.
    pub fn draft(&self, position: usize, draft_length: usize) -> Draft {
        let Draft { drafted, matched } = self.drafts[position];
        Draft { drafted: drafted.min(draft_length), matched: matched.min(draft_length) }
    }

    /// The chance that a place of the draft at a position, counted from 0, is accepted if all before it are.
    fn chance(&self, position: usize, place: usize) -> f64 {
        match &self.chances {
            Some(chances) => chances[position].get(place).copied().unwrap_or(0.0),
            None => f64::from(u8::from(place < self.drafts[position].matched)),
        }
    }
}

/// The chance that a committed token was an accepted draft, if it is reached by a draft: min(1, q/p), where p and q are the
/// target's and the drafter's chance of it; see above.
pub fn acceptance_chance(p: f32, q: f32) -> f32 {
    // A p of 0 is one that rounding made of a small one: the token was committed.
    if q >= p { 1.0 } else { q / p }
}

/// What a run with one draft length does; of a sampled text, on average over the runs that commit it. Counts are whole
/// where nothing is left to chance. Sums of several prompts are kept in the same form.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Replay {
    /// Committed tokens.
    pub tokens: u64,
    pub rounds: f64,
    /// Draft tokens verified.
    pub drafted: f64,
    /// Draft tokens accepted, those included that the token budget then cut off.
    pub accepted: f64,
    /// Tokens of last rounds that the budget cut off: accepted + rounds - cut_off = tokens.
    pub cut_off: f64,
    /// Rounds by draft tokens verified, from none on: the round's forward is one wider.
    pub rounds_by_drafted: Vec<f64>,
    /// Draft tokens accepted by place in the draft, from the first on.
    pub accepted_by_place: Vec<f64>,
}

impl Replay {
    /// Committed tokens a round, the target's own included.
    pub fn tau(&self) -> f64 {
        self.tokens as f64 / self.rounds
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

fn add_counts(sum: &mut Vec<f64>, counts: &[f64]) {
    sum.resize(sum.len().max(counts.len()), 0.0);
    for (total, count) in sum.iter_mut().zip(counts) {
        *total += count;
    }
}

/// Replays one prompt with draft length γ up to the trace's token budget, by the chance of each position to start a round:
/// from the first position on, each passes its chance on to the positions at which its round may end.
///
/// # Errors
/// If γ is longer than the drafts of the trace.
pub fn replay(trace: &Trace, draft_length: usize) -> Result<Replay> {
    if draft_length > trace.draft_length_max {
        bail!("draft length {draft_length} cannot be replayed from a trace of {}", trace.draft_length_max);
    }
    let budget = trace.tokens();
    let mut result = Replay {
        tokens: budget as u64,
        rounds_by_drafted: vec![0.0; draft_length + 1],
        accepted_by_place: vec![0.0; draft_length],
        ..Replay::default()
    };
    let mut starts = vec![0.0; budget + draft_length + 1];
    starts[0] = 1.0;
    for position in 0..budget {
        let start = starts[position];
        if start == 0.0 {
            continue;
        }
        let drafted = trace.draft(position, draft_length).drafted;
        result.rounds += start;
        result.drafted += start * drafted as f64;
        result.rounds_by_drafted[drafted] += start;
        let mut reached = start;
        for place in 0..drafted {
            let accepted = reached * trace.chance(position, place);
            starts[position + place + 1] += reached - accepted;
            result.accepted += accepted;
            result.accepted_by_place[place] += accepted;
            reached = accepted;
        }
        starts[position + drafted + 1] += reached;
    }
    result.cut_off = starts[budget..].iter().enumerate().map(|(beyond, chance)| beyond as f64 * chance).sum();
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
        assert_eq!((result.rounds, result.drafted, result.accepted, result.tokens), (5.0, 10.0, 6.0, 10));
        assert_eq!(result.cut_off, 1.0);
        assert_eq!(result.accepted_by_place, [4.0, 2.0]);
        assert_eq!(result.rounds_by_drafted, [0.0, 0.0, 5.0]);
        assert_eq!(result.tau(), 2.0);
    }

    #[test]
    fn plain_decoding_takes_a_round_a_token() {
        let result = replay(&trace(&[3, 2, 1, 0], 3), 0).unwrap();
        assert_eq!((result.rounds, result.drafted, result.accepted, result.cut_off), (4.0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn a_lookup_that_finds_nothing_makes_a_narrow_round() {
        let drafts = [(0, 0), (3, 1), (2, 2), (0, 0)].map(|(drafted, matched)| Draft { drafted, matched });
        let result = replay(&Trace::new(drafts.to_vec(), 3).unwrap(), 3).unwrap();
        assert_eq!((result.rounds, result.drafted, result.accepted), (3.0, 3.0, 1.0));
        assert_eq!(result.rounds_by_drafted, [2.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn a_sampled_replay_by_hand() {
        // γ=2 over two tokens. From 0: both accepted with 1/2 · 1/4, and the round ends one token beyond the budget; the
        // first alone with 1/2 · 3/4, and it ends at the budget; none with 1/2, and position 1 starts a round, which accepts
        // its first (1) and then its second with 1/2: one or two tokens beyond the budget.
        let drafts = vec![Draft { drafted: 2, matched: 1 }, Draft { drafted: 2, matched: 1 }];
        let chances = vec![vec![0.5, 0.25], vec![1.0, 0.5]];
        let trace = Trace::sampled(drafts, 2, chances).unwrap();
        let result = replay(&trace, 2).unwrap();
        assert_eq!((result.tokens, result.rounds, result.drafted), (2, 1.5, 3.0));
        assert_eq!(result.accepted_by_place, [0.5 + 0.5, 0.125 + 0.25]);
        assert_eq!(result.accepted, 1.375);
        assert_eq!(result.cut_off, 0.125 + 0.25 * 1.0 + 0.25 * 2.0);
        assert_eq!(result.accepted + result.rounds - result.cut_off, 2.0);
        assert_eq!(replay(&trace, 0).unwrap().rounds, 2.0);
    }

    #[test]
    fn a_trace_that_cannot_be_is_refused() {
        assert!(Trace::new(vec![], 1).is_err());
        assert!(Trace::new(vec![Draft { drafted: 1, matched: 2 }], 2).is_err());
        assert!(Trace::new(vec![Draft { drafted: 3, matched: 2 }], 2).is_err());
        assert!(replay(&trace(&[0], 2), 3).is_err());
        let sampled = |matched, chances: &[f64]| {
            Trace::sampled(vec![Draft { drafted: 2, matched }], 2, vec![chances.to_vec()]).is_err()
        };
        assert!(!sampled(1, &[0.5, 0.5]) && !sampled(0, &[]));
        assert!(sampled(0, &[1.5]) && sampled(0, &[f64::NAN]) && sampled(0, &[1.0; 3]) && sampled(1, &[0.0, 1.0]));
    }
}
