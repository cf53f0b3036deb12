//! When to stop drafting: rules that set the length of each draft, the same for the live drafter and for the replay.
//!
//! A rule is asked twice for a token: whether to compute the drafter's next distribution at all ([`Stopper::wants`]), and,
//! knowing that distribution, whether to propose a token from it ([`Stopper::keeps`]). It sees the largest probability and
//! the entropy, never which token was drawn: what is kept then does not depend on the draw, and rejection sampling stays
//! exact at temperature > 0.
//!
//! How to add a rule: one variant of [`StopRule`] with its case in the methods of [`Stopper`], one of `StopSpec` in
//! `src/scenario/stop_spec.rs`.

use super::cost_aware::CostAware;
use std::sync::Arc;

/// Where a draft comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Source {
    /// A model that computes one token after the other.
    #[default]
    Model,
    /// An earlier text, all tokens at once and at no cost to speak of.
    Lookup,
}

/// What is known of a drafted token before the target sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// The drafter's largest probability at this place, at temperature 1; a lookup's estimate.
    pub confidence: f64,
    /// Of the drafter's distribution, in nats; 0 for a lookup.
    pub entropy: f64,
}

/// What sets the length of a draft, up to the draft length γ.
#[derive(Debug, Clone, PartialEq)]
pub enum StopRule {
    /// Ends before the first token whose confidence is below `threshold`.
    PMin { threshold: f64 },
    /// Ends before the first token for which 1 - √(`weight` · entropy), a lower bound on its chance of acceptance, is below
    /// `threshold` (Agrawal et al. 2024, "AdaEDL", with a threshold that stays).
    Entropy { weight: f64, threshold: f64 },
    /// Drafts as many tokens as an exponential average of past acceptance expects: α/(1-α), rounded up, at least 1. Each
    /// draft token that was reached moves the average by 1 / `memory` towards what became of it.
    AcceptanceAverage { memory: f64 },
    /// Stops where a further token is expected to gain less than it costs.
    CostAware(Arc<CostAware>),
}

impl StopRule {
    /// Whether it must know each token's distribution before the next is drafted, which costs an evaluation a token.
    pub fn looks(&self) -> bool {
        !matches!(self, StopRule::AcceptanceAverage { .. })
    }
}

/// The average acceptance that a text is taken to have before anything is known of it.
const FIRST_AVERAGE: f64 = 0.5;

/// A rule at work on one text.
#[derive(Debug, Clone, Default)]
pub struct Stopper {
    rule: Option<StopRule>,
    average: f64,
    /// The most tokens that this round may draft.
    longest: usize,
    /// Tokens kept in this round.
    kept: usize,
    /// The calibrated chance that all of them are accepted.
    all: f64,
    /// Committed tokens when the round began; none between rounds.
    began: Option<usize>,
}

impl Stopper {
    /// Without a rule every draft has the length asked for.
    pub fn new(rule: Option<StopRule>) -> Self {
        Stopper { rule, average: FIRST_AVERAGE, ..Stopper::default() }
    }

    /// Whether each token must be evaluated before the next is drafted.
    pub fn looks(&self) -> bool {
        self.rule.as_ref().is_some_and(StopRule::looks)
    }

    /// Starts a new text.
    pub fn begin(&mut self) {
        *self = Stopper::new(self.rule.take());
    }

    /// Starts a round behind `committed` tokens that may draft up to `longest`.
    pub fn round(&mut self, committed: usize, longest: usize) {
        (self.longest, self.kept, self.all, self.began) = (longest, 0, 1.0, Some(committed));
    }

    /// Tokens kept in this round.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Whether the next distribution is to be computed.
    pub fn wants(&self) -> bool {
        self.kept < self.longest
            && match &self.rule {
                None | Some(StopRule::PMin { .. } | StopRule::Entropy { .. }) => true,
                Some(StopRule::AcceptanceAverage { .. }) => self.kept < self.expected_length(),
                Some(StopRule::CostAware(table)) => table.wants(self.kept, self.all),
            }
    }

    /// Whether a token from a distribution that looks like this is proposed; if not, the draft is over. A rule that does
    /// not look keeps everything.
    pub fn keeps(&mut self, seen: Seen) -> bool {
        let keeps = match &self.rule {
            None | Some(StopRule::AcceptanceAverage { .. }) => true,
            Some(StopRule::PMin { threshold }) => seen.confidence >= *threshold,
            Some(StopRule::Entropy { weight, threshold }) => 1.0 - (weight * seen.entropy).sqrt() >= *threshold,
            Some(StopRule::CostAware(table)) => {
                self.all *= table.chance(Source::Model, self.kept, seen.confidence);
                table.keeps(self.kept, self.all)
            }
        };
        self.kept += usize::from(keeps);
        keeps
    }

    /// Takes a token unseen, for rules that do not look.
    pub fn take(&mut self) {
        self.kept += 1;
    }

    /// How many of a lookup's tokens, given their confidences, are proposed.
    pub fn cut(&mut self, confidences: &[f64]) -> usize {
        let confidences = &confidences[..confidences.len().min(self.longest)];
        self.kept = match &self.rule {
            None | Some(StopRule::Entropy { .. }) => confidences.len(),
            Some(StopRule::PMin { threshold }) => confidences.iter().take_while(|one| *one >= threshold).count(),
            Some(StopRule::AcceptanceAverage { .. }) => confidences.len().min(self.expected_length()),
            Some(StopRule::CostAware(table)) => table.cut(confidences),
        };
        self.kept
    }

    /// Ends the round; there are `committed` tokens now, one of which is the target's own.
    pub fn settle(&mut self, committed: usize) {
        let Some(began) = self.began.take() else { return };
        let accepted = committed.saturating_sub(began + 1).min(self.kept);
        if let Some(StopRule::AcceptanceAverage { memory }) = &self.rule {
            let outcomes = std::iter::repeat_n(1.0, accepted).chain((accepted < self.kept).then_some(0.0));
            outcomes.for_each(|outcome| self.average += (outcome - self.average) / memory);
        }
    }

    /// Tokens in a row that are accepted if each is with the average chance.
    fn expected_length(&self) -> usize {
        // Beyond any draft length where the average is 1.
        (self.average / (1.0 - self.average)).ceil().clamp(1.0, 1e6) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(confidence: f64, entropy: f64) -> Seen {
        Seen { confidence, entropy }
    }

    /// The tokens kept of a draft, and the distributions computed for it.
    fn draft(stopper: &mut Stopper, longest: usize, tokens: &[Seen]) -> (usize, usize) {
        stopper.round(10, longest);
        let mut computed = 0;
        while stopper.wants() && computed < tokens.len() {
            computed += 1;
            if !stopper.keeps(tokens[computed - 1]) {
                break;
            }
        }
        (stopper.kept(), computed)
    }

    #[test]
    fn thresholds_end_the_draft_before_the_token_that_misses_them() {
        let tokens = [seen(0.9, 0.1), seen(0.5, 0.5), seen(0.4, 1.2), seen(0.9, 0.0)];
        let kept = |rule| draft(&mut Stopper::new(rule), 4, &tokens);
        assert_eq!(kept(None), (4, 4));
        assert_eq!(kept(Some(StopRule::PMin { threshold: 0.5 })), (2, 3));
        assert_eq!(kept(Some(StopRule::PMin { threshold: 0.95 })), (0, 1));
        // 1 - √(0.2 H) is 0.859, 0.684 and 0.510.
        assert_eq!(kept(Some(StopRule::Entropy { weight: 0.2, threshold: 0.6 })), (2, 3));
        assert_eq!(draft(&mut Stopper::new(None), 3, &tokens), (3, 3));
    }

    #[test]
    fn the_average_follows_what_became_of_the_drafts() {
        let mut stopper = Stopper::new(Some(StopRule::AcceptanceAverage { memory: 2.0 }));
        stopper.begin();
        let tokens = [seen(0.0, 9.0); 8];
        // α = 1/2: one token. It is accepted: 3/4, three tokens, of which two are: 7/8, 15/16, 15/32.
        assert_eq!(draft(&mut stopper, 8, &tokens), (1, 1));
        stopper.settle(12);
        assert_eq!(draft(&mut stopper, 8, &tokens), (3, 3));
        stopper.settle(13);
        assert_eq!(stopper.average, 15.0 / 32.0);
        stopper.settle(99);
        assert_eq!(stopper.average, 15.0 / 32.0, "a round ends once");
        stopper.begin();
        assert_eq!(stopper.average, 0.5);
    }

    #[test]
    fn lookups_are_cut_by_the_same_rules() {
        let cut = |rule, longest| {
            let mut stopper = Stopper::new(rule);
            stopper.round(0, longest);
            (stopper.cut(&[0.9, 0.8, 0.3, 0.9]), stopper.kept())
        };
        assert_eq!(cut(None, 9), (4, 4));
        assert_eq!(cut(None, 3), (3, 3));
        assert_eq!(cut(Some(StopRule::PMin { threshold: 0.5 }), 9), (2, 2));
        assert_eq!(cut(Some(StopRule::AcceptanceAverage { memory: 8.0 }), 9), (1, 1));
    }
}
