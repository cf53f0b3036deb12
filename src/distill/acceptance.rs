//! How drafts of four would fare on held-out text, from one teacher-forced pass.
//!
//! Rounds are walked over each text as decoding would: a draft matches as long as the drafter's choices are the target's,
//! and the next round starts behind it. On greedy text of the target that is exact, because matching drafts are the text;
//! on text sampled at a temperature it is an approximation, since the text goes on otherwise than the target's choice.

use serde::Serialize;

/// γ of the evaluation.
pub const DRAFT_LENGTH: usize = 4;

/// Rounds, and how many of them had their first, second, ... draft accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Acceptance {
    pub rounds: u64,
    pub accepted: [u64; DRAFT_LENGTH],
}

/// The same as shares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shares {
    /// α_j: accepted, of those drafts at place j whose predecessors were accepted; none where there were none.
    pub alpha: [Option<f64>; DRAFT_LENGTH],
    /// Committed tokens a round.
    pub tau: f64,
}

impl Acceptance {
    /// Adds the rounds of one text. `hits(j, t)`: whether a draft at place j of its round (from 0), made at position t, is
    /// the target's choice there; `positions`: those that count. Rounds that reach beyond them are left out.
    pub fn add(&mut self, positions: std::ops::Range<usize>, hits: impl Fn(usize, usize) -> bool) {
        let mut start = positions.start;
        while start + DRAFT_LENGTH <= positions.end {
            let matched = (0..DRAFT_LENGTH).take_while(|&place| hits(place, start + place)).count();
            self.rounds += 1;
            self.accepted[..matched].iter_mut().for_each(|count| *count += 1);
            start += matched + 1;
        }
    }

    /// None without a single round.
    pub fn shares(&self) -> Option<Shares> {
        if self.rounds == 0 {
            return None;
        }
        let mut alpha = [None; DRAFT_LENGTH];
        let mut reached = self.rounds;
        for (alpha, &accepted) in alpha.iter_mut().zip(&self.accepted) {
            *alpha = (reached > 0).then(|| accepted as f64 / reached as f64);
            reached = accepted;
        }
        Some(Shares { alpha, tau: 1.0 + self.accepted.iter().sum::<u64>() as f64 / self.rounds as f64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_follow_each_other() {
        // Hits at 3 to 5 and 8 on: rounds at 3 (three accepted), 7 (none), 8 (four), 13 (none: beyond the end).
        let mut acceptance = Acceptance::default();
        acceptance.add(3..16, |place, position| {
            assert!(place < DRAFT_LENGTH);
            matches!(position, 3..=5 | 8..)
        });
        assert_eq!(acceptance, Acceptance { rounds: 3, accepted: [2, 2, 2, 1] });
        let shares = acceptance.shares().unwrap();
        assert_eq!(shares.alpha, [Some(2.0 / 3.0), Some(1.0), Some(1.0), Some(0.5)]);
        assert_eq!(shares.tau, 1.0 + 7.0 / 3.0);
        assert_eq!(Acceptance::default().shares(), None);
    }
}
