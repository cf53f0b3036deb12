//! The replay, the acceptance counts and the oracle's bound against a decoder simulated token by token
//! (`scripts/oracle/replay.py`).

use ridgepoint::roofline::{Acceptance, CostCurve, Costs, Draft, Trace, acceptance_chance, predict, replay};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    sampled: Vec<Sampled>,
}

/// Chances of the text's own tokens, and what the runs that commit it do on average.
#[derive(Deserialize)]
struct Sampled {
    draft_length_max: usize,
    budget: usize,
    p: Vec<f32>,
    q: Vec<f32>,
    runs: Vec<SampledRun>,
}

#[derive(Deserialize)]
struct SampledRun {
    draft_length: usize,
    rounds: f64,
    accepted: f64,
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
    rounds: f64,
    drafted: f64,
    accepted: f64,
    cut_off: f64,
    accepted_by_place: Vec<f64>,
    seconds_per_token: f64,
}

fn golden() -> Golden {
    let golden: Golden = serde_json::from_str(include_str!("golden/replay.json")).unwrap();
    assert!(golden.cases.len() >= 40 && golden.sampled.len() >= 40);
    golden
}

fn cases() -> Vec<Case> {
    golden().cases
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
            overlap_s: 0.0,
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

/// Every way that speculative sampling can go was gone through; p and q are rounded to 32 bits.
#[test]
fn a_sampled_text_is_replayed_as_its_runs_are_on_average() {
    let mut fractions = 0;
    for case in golden().sampled {
        let chances: Vec<f64> = case.p.iter().zip(&case.q).map(|(&p, &q)| acceptance_chance(p, q).into()).collect();
        let of = |position: usize| chances[position..position + case.draft_length_max].to_vec();
        let drafts = vec![Draft { drafted: case.draft_length_max, matched: 0 }; case.budget];
        let trace = Trace::sampled(drafts, case.draft_length_max, (0..case.budget).map(of).collect()).unwrap();
        for run in &case.runs {
            let found = replay(&trace, run.draft_length).unwrap();
            for (found, expected) in [(found.rounds, run.rounds), (found.accepted, run.accepted)] {
                assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
            }
            assert!((found.drafted - run.draft_length as f64 * found.rounds).abs() < 1e-9);
            fractions += usize::from(run.rounds.fract() > 0.0);
        }
    }
    assert!(fractions > 10, "only {fractions} runs leave something to chance");
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
