//! Throughput of every draft length before any is timed, in three ways and with the oracle's bound.

use super::acceptance::{Acceptance, expected_tokens};
use super::curve::CostCurve;
use super::oracle::oracle;
use super::replay::{Replay, Trace, replay};
use anyhow::{Result, bail};

/// What rounds are made of, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Costs {
    /// A token of pipelined plain decoding: T_AR.
    pub plain_s: f64,
    /// A proposal, by the draft length asked for.
    pub draft: CostCurve,
    /// t(b) of the target.
    pub target: CostCurve,
    /// What a round saves against its proposal and its verification one after the other; below 0 where it takes more. It
    /// comes off the proposal: a round without one saves nothing.
    pub overlap_s: f64,
    /// Whether a verification runs at a wider width where that is cheaper.
    pub pad: bool,
}

impl Costs {
    /// Seconds of a round that asks for γ draft tokens and gets `drafted`: what the proposal adds and a forward one wider than it;
    /// none where a time is unknown. A round for which a lookup finds nothing verifies a width of 1.
    pub fn round_s(&self, draft_length: usize, drafted: usize) -> Option<f64> {
        Some(self.proposal_s(draft_length)? + self.verify_s(drafted + 1)?)
    }

    /// Seconds of a verification of this width, at the width that it is padded to.
    pub fn verify_s(&self, width: usize) -> Option<f64> {
        self.target.at(if self.pad { self.target.padded(width) } else { width })
    }

    /// Seconds that a proposal adds to a round in which so many of a draft's distributions are computed; none where unknown.
    pub fn proposal_s(&self, computed: usize) -> Option<f64> {
        if computed == 0 { Some(0.0) } else { Some(self.draft.at(computed)? - self.overlap_s) }
    }

    /// Seconds of all rounds of a replay at draft length γ; plain decoding is pipelined.
    pub fn replayed_s(&self, replay: &Replay, draft_length: usize) -> Option<f64> {
        if draft_length == 0 {
            return Some(replay.tokens as f64 * self.plain_s);
        }
        let rounds = replay.rounds_by_drafted.iter().enumerate().filter(|(_, count)| **count > 0.0);
        rounds.map(|(drafted, &count)| Some(count * self.round_s(draft_length, drafted)?)).sum()
    }
}

/// Predicted seconds a committed token; none where a width that is needed has no known time.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    pub draft_length: usize,
    /// Verification as cheap as a plain token, i.i.d. acceptance: T_AR (γc + 1) / E\[tokens\] where γc T_AR is
    /// the proposal's measured time (Leviathan, Kalman and Matias 2023, theorem 3.8).
    pub textbook_s: Option<f64>,
    /// Measured t(γ+1), i.i.d. acceptance.
    pub iid_s: Option<f64>,
    /// Measured t(b) of each replayed round.
    pub replay_s: Option<f64>,
    /// The replay's counts over all traces.
    pub replay: Replay,
}

/// Predictions for all draft lengths over the traces of one drafter. γ=0 is plain decoding, which is pipelined.
/// The second value is the oracle's seconds a token.
pub fn predict(traces: &[Trace], draft_lengths: &[usize], costs: &Costs) -> Result<(Vec<Prediction>, f64)> {
    if traces.is_empty() {
        bail!("there is no trace to predict from; trace at least one prompt");
    }
    let alpha = Acceptance::of(traces).alpha();
    let predictions = draft_lengths.iter().map(|&draft_length| predict_one(traces, draft_length, alpha, costs));
    let tokens: usize = traces.iter().map(Trace::tokens).sum();
    let oracle_s: f64 = traces.iter().map(|trace| oracle(trace, costs)).sum();
    Ok((predictions.collect::<Result<_>>()?, oracle_s / tokens as f64))
}

fn predict_one(traces: &[Trace], draft_length: usize, alpha: Option<f64>, costs: &Costs) -> Result<Prediction> {
    let mut sum = Replay::default();
    for trace in traces {
        sum.add(&replay(trace, draft_length)?);
    }
    if draft_length == 0 {
        let plain = Some(costs.plain_s);
        return Ok(Prediction { draft_length, textbook_s: plain, iid_s: plain, replay_s: plain, replay: sum });
    }
    let expected = alpha.map(|alpha| expected_tokens(alpha, draft_length));
    let flat_s = costs.draft.at(draft_length).map(|draft_s| draft_s + costs.plain_s);
    Ok(Prediction {
        draft_length,
        textbook_s: expected.and_then(|tokens| Some(flat_s? / tokens)),
        iid_s: expected.and_then(|tokens| Some(costs.round_s(draft_length, draft_length)? / tokens)),
        replay_s: costs.replayed_s(&sum, draft_length).map(|seconds| seconds / sum.tokens as f64),
        replay: sum,
    })
}

#[cfg(test)]
mod tests {
    use super::super::replay::Draft;
    use super::*;

    fn costs() -> Costs {
        let target = CostCurve::from_samples([(1, 10.0), (2, 11.0), (3, 12.0), (4, 16.0)]).unwrap();
        let draft = CostCurve::from_samples([(1, 1.0), (2, 2.0), (3, 3.0)]).unwrap();
        Costs { plain_s: 9.0, draft, target, overlap_s: 0.0, pad: false }
    }

    fn trace(matched: &[usize]) -> Trace {
        Trace::new(matched.iter().map(|&matched| Draft { drafted: 3, matched }).collect(), 3).unwrap()
    }

    #[test]
    fn three_predictions_by_hand() {
        // The first drafted token is accepted at two of three positions, so α = 2/3.
        let (predictions, _) = predict(&[trace(&[0, 2, 1])], &[0, 2], &costs()).unwrap();
        let plain = &predictions[0];
        assert_eq!((plain.textbook_s, plain.iid_s, plain.replay_s), (Some(9.0), Some(9.0), Some(9.0)));
        let two = &predictions[1];
        let tokens = 1.0 + 2.0 / 3.0 + 4.0 / 9.0;
        assert!((two.textbook_s.unwrap() - (2.0 + 9.0) / tokens).abs() < 1e-12);
        assert!((two.iid_s.unwrap() - (2.0 + 12.0) / tokens).abs() < 1e-12);
        // Two rounds of 14 s for three tokens.
        assert_eq!(two.replay_s, Some(28.0 / 3.0));
        assert_eq!(two.replay.cut_off, 1.0);
    }

    #[test]
    fn the_oracle_takes_the_shortest_way() {
        // Position 0 matches nothing: a plain step of 9 s. Then two tokens are left: a draft of 1 gives both for 12 s.
        let (_, oracle) = predict(&[trace(&[0, 2, 1])], &[0], &costs()).unwrap();
        assert_eq!(oracle, 21.0 / 3.0);
        let (_, oracle) = predict(&[trace(&[0, 0, 0])], &[0], &costs()).unwrap();
        assert_eq!(oracle, 9.0);
    }

    #[test]
    fn an_unknown_width_gives_no_prediction() {
        let narrow = Costs { target: CostCurve::from_samples([(1, 10.0), (2, 11.0)]).unwrap(), ..costs() };
        let (predictions, _) = predict(&[trace(&[0, 2, 1])], &[3], &narrow).unwrap();
        assert!(predictions[0].textbook_s.is_some());
        assert_eq!((predictions[0].iid_s, predictions[0].replay_s), (None, None));
    }
}
