//! Measured arms beside what the replay predicts for the same prompts, and which term is off where they differ.

use super::choice::Choice;
use super::gather::{Arm, Complete, Counts};
use super::policies::Policy;
use super::predictions::{Timing, Traced};
use crate::results::ArmRow;
use crate::roofline::{Costs, Replay, StopRule, Trace, replay};
use anyhow::Result;
use std::collections::BTreeMap;

/// A prediction that is off by more than this is explained in a warning.
const TOLERANCE: f64 = 0.05;

/// One arm, predicted for exactly the prompts on which it was timed.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    pub draft_length: u64,
    pub predicted_tok_per_s: f64,
    /// A proposal on average over the rounds, in seconds; 0 for plain decoding.
    pub proposal_s: f64,
    /// Measured over predicted throughput, less one.
    pub error: f64,
    /// What is off: the replayed counts, or the time of a round. None if both are as predicted.
    pub warning: Option<String>,
}

/// Compares every arm whose prediction is known. None are if a timed prompt was not traced. `policy` replays the drafts of a
/// drafter whose tokens were traced, with the rules of its arms.
pub fn compare(
    timing: &Timing,
    traced: &Traced,
    policy: Option<(&Policy, &BTreeMap<Arm, StopRule>)>,
    complete: &Complete,
) -> Result<Vec<Comparison>> {
    let traces: Option<Vec<&Trace>> = complete.prompts.iter().map(|prompt| traced.traces.get(prompt)).collect();
    let (Some(traces), Ok(costs)) = (traces, timing.costs(&traced.drafter)) else { return Ok(Vec::new()) };
    let mut comparisons = Vec::new();
    for (place, arm) in complete.arms.iter().enumerate() {
        let length = arm.draft_length as usize;
        if traces.iter().any(|trace| trace.draft_length_max() < length) {
            continue;
        }
        let mut sum = Replay::default();
        let mut seconds = None;
        let mut proposal_s = costs.proposal_s(length).unwrap_or(0.0);
        if let (Some((policy, rules)), true) = (policy, length > 0) {
            if let Some((ruled, ruled_s)) = policy.replayed(&complete.prompts, arm, rules, &costs)? {
                proposal_s = ruled.proposals_s(&costs).map_or(0.0, |total| total / ruled.rounds as f64);
                sum = ruled.counts();
                seconds = Some(ruled_s);
            }
        } else {
            for trace in &traces {
                sum.add(&replay(trace, length)?);
            }
            seconds = costs.replayed_s(&sum, length);
        }
        let Some(seconds) = seconds else { continue };
        let predicted_tok_per_s = sum.tokens as f64 / seconds;
        let Some(measured) = complete.tok_per_s(place) else { continue };
        let error = measured / predicted_tok_per_s - 1.0;
        let counts = &complete.counts[place];
        let off = || {
            (error.abs() > TOLERANCE).then(|| time_differs(length, &costs, proposal_s, &sum, counts, measured, error))
        };
        let sampled = traces.iter().any(|trace| trace.is_sampled());
        // The runs commit other sampled texts than the one that was traced.
        let warning = if sampled { off() } else { counts_differ(length, &sum, counts).or_else(off) };
        comparisons.push(Comparison {
            draft_length: arm.draft_length,
            predicted_tok_per_s,
            proposal_s,
            error,
            warning,
        });
    }
    Ok(comparisons)
}

/// Under greedy decoding the runs must do exactly what the replay says, each as often as it was repeated.
fn counts_differ(length: usize, replay: &Replay, runs: &Counts) -> Option<String> {
    let repeats = runs.tokens / replay.tokens;
    let replayed = [replay.tokens as f64, replay.rounds, replay.drafted, replay.accepted];
    // Whole numbers, as nothing is left to chance.
    let replayed = replayed.map(|count| count as u64 * repeats);
    let counted = [runs.tokens, runs.rounds, runs.drafted, runs.accepted];
    (replayed != counted).then(|| {
        format!(
            "γ={length}: tokens, rounds, drafted, accepted are {counted:?} in the runs, {replayed:?} in the replay: text or drafts \
             differ from the trace"
        )
    })
}

fn time_differs(
    length: usize,
    costs: &Costs,
    proposal_s: f64,
    replay: &Replay,
    runs: &Counts,
    measured_tok_per_s: f64,
    error: f64,
) -> String {
    let direction = if error < 0.0 { "below" } else { "above" };
    let off = format!("γ={length}: {:.1} % {direction} the prediction", 100.0 * error.abs());
    let tau = runs.tokens as f64 / runs.rounds as f64;
    let measured = 1e3 * tau / measured_tok_per_s;
    if length == 0 {
        return format!(
            "{off}: a plain step took {measured:.2} ms, {:.2} ms when t(b) was measured",
            1e3 * costs.plain_s
        );
    }
    let predicted = 1e3 * replay.tau() * (1.0 + error) / measured_tok_per_s;
    let proposal = 1e3 * proposal_s;
    let round = format!(
        "{off}: a round took {measured:.2} ms where proposal ({proposal:.2}) and verification ({:.2}) sum to {predicted:.2}",
        predicted - proposal
    );
    match tau - replay.tau() {
        0.0 => round,
        _ => format!("{round}, and committed {tau:.2} tokens where {:.2} follow from the traced texts", replay.tau()),
    }
}

/// What a round at one draft length takes, in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundTime {
    pub draft_length: u64,
    /// Committed tokens a round.
    pub tau: f64,
    /// The proposal, timed on its own, less what joining it with the verification saves; 0 for plain decoding.
    pub proposal_ms: f64,
    /// The verifications, timed on their own, of the widths that the runs had; for plain decoding a pipelined step.
    pub verification_ms: f64,
    /// The round in use.
    pub measured_ms: f64,
}

/// One for each arm whose prediction is known.
pub fn round_times(comparisons: &[Comparison], arms: &[ArmRow]) -> Vec<RoundTime> {
    let round = |arm: &ArmRow| {
        let tau = arm.tokens as f64 / arm.rounds as f64;
        let comparison = comparisons.iter().find(|comparison| comparison.draft_length == arm.draft_length)?;
        let proposal_ms = 1e3 * comparison.proposal_s;
        Some(RoundTime {
            draft_length: arm.draft_length,
            tau,
            proposal_ms,
            verification_ms: 1e3 * tau / arm.predicted_tok_per_s? - proposal_ms,
            measured_ms: 1e3 * tau / arm.tok_per_s,
        })
    };
    arms.iter().filter(|arm| arm.rounds > 0).filter_map(round).collect()
}

/// The rows of `arms.csv` of one choice.
pub fn arm_rows(choice: &Choice, comparisons: &[Comparison]) -> Vec<ArmRow> {
    let decision = &choice.decision;
    let holds = |lengths: &[u32], length: u64| lengths.iter().any(|other| u64::from(*other) == length);
    let row = |arm: &super::choice::ArmResult| {
        let length = arm.draft_length;
        let versus_plain = choice.versus_plain(length);
        let comparison = comparisons.iter().find(|comparison| comparison.draft_length == length);
        ArmRow {
            drafter: choice.drafter.clone(),
            draft_length: length,
            prompts: arm.prompts as u64,
            tok_per_s: arm.tok_per_s,
            speedup: versus_plain.map(|arm| arm.speedup),
            speedup_low: versus_plain.and_then(|arm| arm.low),
            speedup_high: versus_plain.and_then(|arm| arm.high),
            p_holm: versus_plain.map(|arm| arm.p_holm),
            loss_bound: decision.loss_bound.get(&(length as u32)).copied().flatten(),
            may_be_best: holds(&decision.confidence_set, length),
            practically_best: holds(&decision.practically_best, length),
            recommended: decision.recommended.map(u64::from) == Some(length),
            rounds: arm.counts.rounds,
            drafted: arm.counts.drafted,
            accepted: arm.counts.accepted,
            tokens: arm.counts.tokens,
            predicted_tok_per_s: comparison.map(|comparison| comparison.predicted_tok_per_s),
            prediction_error: comparison.map(|comparison| comparison.error),
        }
    };
    choice.arms.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roofline::{CostCurve, Draft};

    /// Three tokens; at γ=2 two rounds of 2 + 12 ms, four drafted, of which three are accepted and one is cut off.
    fn case(seconds: [f64; 2]) -> (Timing, Traced, Complete) {
        let curve = |points: &[(usize, f64)]| CostCurve::from_samples(points.iter().copied()).unwrap();
        let timing = Timing {
            precision: String::new(),
            context: 64,
            batch: 1,
            plain_s: 0.009,
            target: curve(&[(1, 0.010), (2, 0.011), (3, 0.012)]),
            drafts: [("self".to_string(), curve(&[(1, 0.001), (2, 0.002)]))].into(),
            overlaps: BTreeMap::new(),
            pad: false,
        };
        let drafts = [1, 2, 2].map(|matched| Draft { drafted: 2, matched });
        let traces = BTreeMap::from([("a".to_string(), Trace::new(drafts.to_vec(), 2).unwrap())]);
        let arm = |drafter: &str, draft_length| Arm { drafter: drafter.to_string(), draft_length };
        let complete = Complete {
            prompts: vec!["a".to_string()],
            arms: vec![arm("", 0), arm("self", 2)],
            seconds: vec![seconds.to_vec()],
            tokens: vec![vec![3, 3]],
            // Two controls, and one run of the arm.
            counts: vec![
                Counts { tokens: 6, rounds: 6, drafted: 0, accepted: 0 },
                Counts { tokens: 3, rounds: 2, drafted: 4, accepted: 3 },
            ],
            controls: Vec::new(),
            left_out: Vec::new(),
        };
        (timing, Traced { drafter: "self".to_string(), traces, categories: BTreeMap::new() }, complete)
    }

    fn warnings(seconds: [f64; 2]) -> Vec<Option<String>> {
        let (timing, traced, complete) = case(seconds);
        compare(&timing, &traced, None, &complete).unwrap().into_iter().map(|comparison| comparison.warning).collect()
    }

    #[test]
    fn what_is_as_predicted_needs_no_words() {
        let (timing, traced, complete) = case([0.027, 0.028]);
        let comparisons = compare(&timing, &traced, None, &complete).unwrap();
        assert_eq!(comparisons.iter().map(|comparison| comparison.draft_length).collect::<Vec<_>>(), [0, 2]);
        assert!(comparisons.iter().all(|comparison| comparison.error.abs() < 1e-12 && comparison.warning.is_none()));
        assert!((comparisons[1].predicted_tok_per_s - 3.0 / 0.028).abs() < 1e-9);
    }

    #[test]
    fn the_term_that_is_off_is_named() {
        let found = warnings([0.030, 0.032]);
        assert_eq!(
            found[0].as_deref(),
            Some("γ=0: 10.0 % below the prediction: a plain step took 10.00 ms, 9.00 ms when t(b) was measured")
        );
        assert_eq!(
            found[1].as_deref(),
            Some(
                "γ=2: 12.5 % below the prediction: a round took 16.00 ms where proposal (2.00) and verification (12.00) sum to 14.00"
            )
        );
        assert!(warnings([0.027, 0.020])[1].as_deref().unwrap().starts_with("γ=2: 40.0 % above the prediction"));
    }

    #[test]
    fn runs_that_did_something_else_than_the_replay_are_reported_first() {
        let (timing, traced, mut complete) = case([0.027, 0.028]);
        complete.counts[1].accepted = 2;
        let warning = compare(&timing, &traced, None, &complete).unwrap()[1].warning.clone().unwrap();
        assert!(warning.contains("[3, 2, 4, 2] in the runs, [3, 2, 4, 3] in the replay"), "{warning}");
    }

    #[test]
    fn runs_of_sampled_texts_may_differ_from_the_trace() {
        let (timing, mut traced, mut complete) = case([0.027, 0.028]);
        let drafts = [1, 2, 2].map(|matched| Draft { drafted: 2, matched }).to_vec();
        let chances = vec![vec![1.0], vec![1.0; 2], vec![1.0; 2]];
        traced.traces.insert("a".to_string(), Trace::sampled(drafts, 2, chances).unwrap());
        complete.counts[1] = Counts { tokens: 3, rounds: 3, drafted: 6, accepted: 0 };
        assert_eq!(compare(&timing, &traced, None, &complete).unwrap()[1].warning, None);
        complete.seconds[0][1] = 0.036;
        let warning = compare(&timing, &traced, None, &complete).unwrap()[1].warning.clone().unwrap();
        let end = "a round took 12.00 ms where proposal (2.00) and verification (12.00) sum to 14.00, and committed 1.00 tokens \
                   where 1.50 follow from the traced texts";
        assert!(warning.ends_with(end), "{warning}");
    }

    #[test]
    fn a_round_is_split_into_what_was_timed_alone() {
        let arm = |draft_length, rounds, tok_per_s, predicted| ArmRow {
            draft_length,
            rounds,
            tokens: 6,
            tok_per_s,
            predicted_tok_per_s: predicted,
            ..ArmRow::default()
        };
        // 2 tokens a round; predicted 14 ms a round, of which 2 are the proposal, and measured 16.
        let arms = [arm(0, 6, 100.0, Some(1.0 / 0.009)), arm(2, 3, 125.0, Some(2.0 / 0.014)), arm(4, 3, 1.0, None)];
        let comparison = |draft_length, proposal_s| Comparison {
            draft_length,
            predicted_tok_per_s: 1.0,
            proposal_s,
            error: 0.0,
            warning: None,
        };
        let rounds = round_times(&[comparison(0, 0.0), comparison(2, 0.002)], &arms);
        let near = |found: &RoundTime, expected: [f64; 4]| {
            let found = [found.tau, found.proposal_ms, found.verification_ms, found.measured_ms];
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}, not {expected:?}");
        };
        assert_eq!(rounds.len(), 2);
        near(&rounds[0], [1.0, 0.0, 9.0, 10.0]);
        near(&rounds[1], [2.0, 2.0, 12.0, 16.0]);
    }

    #[test]
    fn untraced_prompts_are_not_compared() {
        let (timing, mut traced, complete) = case([0.027, 0.028]);
        traced.traces.clear();
        assert_eq!(compare(&timing, &traced, None, &complete).unwrap(), []);
    }
}
