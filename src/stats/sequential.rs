//! Deciding while measuring: a race with looks that were declared beforehand.

use serde::{Deserialize, Serialize};

use super::decision::{Decision, Input, decide};
use super::error::{Result, StatsError, check_between, check_confidence, check_length};

/// A race: all arms start, arms that can no longer be the fastest are dropped at looks, and it ends as soon as one is
/// good enough. The looks share the error rate equally (Bonferroni), so that the answer keeps its confidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Race {
    looks: Vec<usize>,
    confidence: f64,
    next: usize,
    running: Vec<u32>,
}

/// What a look says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Prompts that the look was declared for.
    pub prompts: usize,
    /// Arms that are dropped now.
    pub dropped: Vec<u32>,
    /// Arms to go on with.
    pub running: Vec<u32>,
    /// The decision among the arms that took part in this look, at its share of the error rate.
    pub decision: Decision,
    /// The race is over: a recommendation was found, or this was the last look.
    pub finished: bool,
}

/// Prompts below which a look could exclude nothing at its share of a 5 % error rate: the least p-value that sign flips can
/// give is 2^-n, and four looks have 1/80 each.
const FEWEST_AT_A_LOOK: usize = 7;

/// Looks for a race of up to `prompts` prompts: after about 12, 20, 32 and 50 % of them and at the end, those left out that
/// could exclude nothing and would only take their share of the error rate. In simulation (`ridgepoint simulate`) these time
/// least.
pub fn usual_looks(prompts: usize) -> Vec<usize> {
    let mut looks: Vec<usize> =
        [0.12, 0.2, 0.32, 0.5, 1.0].map(|share| (share * prompts as f64).round() as usize).into();
    looks.retain(|&look| look >= FEWEST_AT_A_LOOK);
    looks.dedup();
    looks
}

impl Race {
    /// `looks`: prompts after which to look, ascending; declared before the run. Plain decoding (length 0) is never dropped:
    /// every speed-up is against it.
    pub fn new(draft_lengths: &[u32], looks: &[usize], confidence: f64) -> Result<Self> {
        check_confidence(confidence)?;
        if looks.is_empty() || draft_lengths.is_empty() {
            return Err(StatsError::TooFew { what: "looks and draft lengths".into(), needed: 1, found: 0 });
        }
        for pair in [&[1], looks].concat().windows(2) {
            let after = pair[0] as f64;
            check_between(
                "look",
                pair[1] as f64,
                after,
                f64::INFINITY,
                "at least 2 prompts and after the look before",
            )?;
        }
        Ok(Race { looks: looks.to_vec(), confidence, next: 0, running: draft_lengths.to_vec() })
    }

    /// Arms that are still to be measured.
    pub fn running(&self) -> &[u32] {
        &self.running
    }

    /// Prompts to have measured before the next look; none once the race is over.
    pub fn next_look(&self) -> Option<usize> {
        self.looks.get(self.next).copied()
    }

    /// Takes the next look. `input` holds all complete prompts among those that the look was declared for, arms being those
    /// of [`Race::running`] in that order; its confidence is replaced by the look's.
    pub fn look(&mut self, input: &Input) -> Result<Look> {
        let Some(prompts) = self.next_look() else {
            return Err(StatsError::TooFew { what: "declared looks".into(), needed: self.next + 1, found: self.next });
        };
        // Fewer are a failed run or two, which says nothing about which arm is fast; more would be another look.
        if input.seconds.len() > prompts {
            check_length("prompts at this look", prompts, input.seconds.len())?;
        }
        check_length("arms still running", self.running.len(), input.draft_lengths.len())?;
        let confidence = 1.0 - (1.0 - self.confidence) / self.looks.len() as f64;
        let decision = decide(&Input { confidence, ..input.clone() })?;
        let keep = |length: &u32| *length == 0 || decision.confidence_set.contains(length);
        let (running, dropped): (Vec<u32>, Vec<u32>) = self.running.iter().partition(|length| keep(length));
        let finished = decision.recommended.is_some() || self.next + 1 == self.looks.len();
        self.next = if finished { self.looks.len() } else { self.next + 1 };
        self.running.clone_from(&running);
        Ok(Look { prompts, dropped, running, decision, finished })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(draft_lengths: &[u32], prompts: usize) -> Input {
        // Costs fall to length 2 and rise again; each prompt has its own small pattern.
        let cost = |length: u32| [1.0, 0.7, 0.5, 0.8, 1.2][length as usize];
        let pattern = |prompt: usize, length: u32| 1.0 + 0.01 * ((prompt * 31 + length as usize * 17) % 7) as f64;
        Input {
            draft_lengths: draft_lengths.to_vec(),
            seconds: (0..prompts)
                .map(|prompt| draft_lengths.iter().map(|&length| cost(length) * pattern(prompt, length)).collect())
                .collect(),
            tokens: vec![vec![1; draft_lengths.len()]; prompts],
            confidence: 0.95,
            margin: 0.02,
            seed: 1,
            method: None,
            draws: 1_000,
            resamples: 50,
        }
    }

    #[test]
    fn hopeless_arms_are_dropped_plain_decoding_stays_and_the_race_ends_with_a_winner() {
        let mut race = Race::new(&[0, 1, 2, 3, 4], &[4, 8, 40], 0.95).unwrap();
        let first = race.look(&input(race.running(), 4)).unwrap();
        assert_eq!((first.dropped.as_slice(), first.finished), (&[][..], false));
        let second = race.look(&input(race.running(), 8)).unwrap();
        assert_eq!((second.dropped.as_slice(), race.running()), (&[1, 3, 4][..], &[0, 2][..]));
        assert_eq!((second.finished, second.decision.recommended), (true, Some(2)));
        assert!((second.decision.confidence - (1.0 - 0.05 / 3.0)).abs() < 1e-12);
        assert_eq!(race.next_look(), None);
        assert!(race.look(&input(&[0, 2], 40)).is_err());
    }

    #[test]
    fn usual_looks_leave_out_those_that_could_exclude_nothing() {
        assert_eq!(usual_looks(100), [12, 20, 32, 50, 100]);
        assert_eq!(usual_looks(24), [8, 12, 24]);
        assert_eq!(usual_looks(48), [10, 15, 24, 48]);
        assert_eq!(usual_looks(4), Vec::<usize>::new());
    }

    #[test]
    fn looks_must_be_declared_in_order_and_kept() {
        assert!(Race::new(&[0, 1], &[8, 8], 0.95).is_err() && Race::new(&[0, 1], &[1, 8], 0.95).is_err());
        assert!(Race::new(&[0, 1], &[], 0.95).is_err() && Race::new(&[], &[5], 0.95).is_err());
        let mut race = Race::new(&[0, 1], &[6, 12], 0.95).unwrap();
        assert!(race.look(&input(&[0, 1], 7)).is_err() && race.look(&input(&[0], 6)).is_err());
    }
}
