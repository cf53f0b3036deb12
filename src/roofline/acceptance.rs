//! How often draft tokens are accepted, with the counts behind every share.

use super::replay::Trace;

/// Of the draft tokens at one place in the draft that were reached, how many were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PositionCount {
    pub reached: u64,
    pub accepted: u64,
}

impl PositionCount {
    /// α_j; none if the place was never reached.
    pub fn alpha(&self) -> Option<f64> {
        (self.reached > 0).then(|| self.accepted as f64 / self.reached as f64)
    }
}

/// Acceptance over every position of the traced text, not only those where some draft length starts a round.
/// A place counts as reached if all before it were accepted; where the drafter proposes nothing there, it is reached and
/// not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// By place in the draft, from the first on.
    pub by_place: Vec<PositionCount>,
}

impl Acceptance {
    /// Counts over traces, to the longest draft of any of them.
    pub fn of<'a>(traces: impl IntoIterator<Item = &'a Trace>) -> Acceptance {
        let mut by_place = Vec::new();
        for trace in traces {
            let longest = trace.draft_length_max();
            by_place.resize(by_place.len().max(longest), PositionCount::default());
            for position in 0..trace.tokens() {
                let matched = trace.draft(position, longest).matched;
                for (place, count) in by_place[..longest].iter_mut().enumerate().take(matched + 1) {
                    count.reached += 1;
                    count.accepted += u64::from(place < matched);
                }
            }
        }
        Acceptance { by_place }
    }

    /// The first place: every position of the text counts once.
    pub fn first(&self) -> PositionCount {
        self.by_place.first().copied().unwrap_or_default()
    }

    /// α of the i.i.d. formulas: the chance that one drafted token is accepted, over the positions of the target's text
    /// (Leviathan, Kalman and Matias 2023, definition 3.1). Later places are not pooled into it: they are reached where
    /// drafting is easy, and a single easy stretch is counted at every position of it.
    pub fn alpha(&self) -> Option<f64> {
        self.first().alpha()
    }
}

/// Committed tokens a round expected at draft length γ if each draft token is accepted with chance α independently:
/// (1 - α^(γ+1)) / (1 - α) (Leviathan, Kalman and Matias 2023, equation 1).
pub fn expected_tokens(alpha: f64, draft_length: usize) -> f64 {
    // The sum of the geometric series, which has no 0/0 at α = 1.
    (0..=draft_length).map(|power| alpha.powi(power as i32)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::replay::Draft;
    use super::*;

    #[test]
    fn counts_by_hand() {
        // γ_max=3 over 4 positions. Position 0: places 1 and 2 accepted, 3 refused. Position 1: 1 refused.
        // Position 2: all accepted. Position 3: 1 accepted, 2 refused.
        let drafts = [2, 0, 3, 1].map(|matched| Draft { drafted: 3, matched });
        let acceptance = Acceptance::of([&Trace::new(drafts.to_vec(), 3).unwrap()]);
        let counts: Vec<_> = acceptance.by_place.iter().map(|count| (count.reached, count.accepted)).collect();
        assert_eq!(counts, [(4, 3), (3, 2), (2, 1)]);
        assert_eq!(acceptance.alpha(), Some(3.0 / 4.0));
    }

    #[test]
    fn nothing_proposed_is_nothing_accepted() {
        let drafts = [(0, 0), (1, 1), (2, 0)].map(|(drafted, matched)| Draft { drafted, matched });
        let acceptance = Acceptance::of([&Trace::new(drafts.to_vec(), 2).unwrap()]);
        assert_eq!(acceptance.by_place[0], PositionCount { reached: 3, accepted: 1 });
        assert_eq!(acceptance.by_place[1], PositionCount { reached: 1, accepted: 0 });
        assert_eq!(PositionCount::default().alpha(), None);
    }

    #[test]
    fn the_expected_tokens_of_the_textbook() {
        assert_eq!(expected_tokens(0.0, 5), 1.0);
        assert_eq!(expected_tokens(1.0, 5), 6.0);
        // (1 - 0.8^5) / 0.2
        assert!((expected_tokens(0.8, 4) - 3.3616).abs() < 1e-12);
    }
}
