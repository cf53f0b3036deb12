//! The replay, the acceptance counts and the oracle's bound against a decoder simulated token by token
//! (`scripts/oracle/replay.py`).

use ridgepoint::roofline::{Acceptance, CostCurve, Costs, Draft, Trace, predict, replay};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    draft_length_max: usize,
    drafted: Vec<usize>,
    matched: Vec<usize>,
    costs: CaseCosts,
    reached: Vec<u64>,
    accepted: Vec<u64>,
    runs: Vec<Run>,
    oracle_seconds_per_token: f64,
}

#[derive(Deserialize)]
struct CaseCosts {
    plain_s: f64,
    draft_s: Vec<f64>,
    target_s: Vec<f64>,
}

#[derive(Deserialize)]
struct Run {
    draft_length: usize,
    rounds: u64,
    drafted: u64,
    accepted: u64,
    cut_off: u64,
    accepted_by_place: Vec<u64>,
    seconds_per_token: f64,
}

fn cases() -> Vec<Case> {
    let golden: Golden = serde_json::from_str(include_str!("golden/replay.json")).unwrap();
    assert!(golden.cases.len() >= 40);
    golden.cases
}

impl Case {
    fn trace(&self) -> Trace {
        let drafts = self.drafted.iter().zip(&self.matched);
        let drafts = drafts.map(|(&drafted, &matched)| Draft { drafted, matched }).collect();
        Trace::new(drafts, self.draft_length_max).unwrap()
    }

    fn costs(&self) -> Costs {
        let curve = |times: &[f64]| {
            CostCurve::from_samples(times.iter().enumerate().map(|(place, &seconds)| (place + 1, seconds))).unwrap()
        };
        Costs {
            plain_s: self.costs.plain_s,
            draft: curve(&self.costs.draft_s),
            target: curve(&self.costs.target_s),
            pad: false,
        }
    }
}

fn assert_close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-12 * expected.abs(), "{found} for {expected}");
}

#[test]
fn every_draft_length_is_replayed_exactly() {
    for case in cases() {
        for run in &case.runs {
            let found = replay(&case.trace(), run.draft_length).unwrap();
            let counts = (found.rounds, found.drafted, found.accepted, found.cut_off);
            assert_eq!(counts, (run.rounds, run.drafted, run.accepted, run.cut_off));
            assert_eq!(found.accepted_by_place, run.accepted_by_place);
            assert_eq!(found.tokens as usize, case.matched.len());
        }
    }
}

#[test]
fn acceptance_counts_agree() {
    for case in cases() {
        let found = Acceptance::of([&case.trace()]);
        assert_eq!(found.by_place.iter().map(|count| count.reached).collect::<Vec<_>>(), case.reached);
        assert_eq!(found.by_place.iter().map(|count| count.accepted).collect::<Vec<_>>(), case.accepted);
    }
}

#[test]
fn replayed_time_and_the_oracles_bound_agree() {
    for case in cases() {
        let lengths: Vec<usize> = case.runs.iter().map(|run| run.draft_length).collect();
        let (predictions, oracle_s) = predict(&[case.trace()], &lengths, &case.costs()).unwrap();
        assert_close(oracle_s, case.oracle_seconds_per_token);
        for (prediction, run) in predictions.iter().zip(&case.runs).skip(1) {
            assert_close(prediction.replay_s.unwrap(), run.seconds_per_token);
            assert!(oracle_s <= run.seconds_per_token * (1.0 + 1e-12));
        }
    }
}
