//! Stopping rules, their calibration and the cost-aware optimum against a second program (`scripts/oracle/stop_rules.py`).

use ridgepoint::roofline::{
    Calibration, CostAware, CostCurve, Costs, Outcome, Seen, Source, StopRule, TokenDraft, TokenTrace, rounds_ruled,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    traces: Vec<TraceCase>,
    calibrations: Vec<CalibrationCase>,
    costs: Vec<CostCase>,
}

#[derive(Deserialize)]
struct TraceCase {
    draft_length: usize,
    trace: Vec<Position>,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Position {
    lookup: bool,
    tokens: Vec<(f64, f64)>,
    matched: usize,
}

#[derive(Deserialize)]
struct Run {
    rule: Rule,
    rounds: Vec<(usize, usize, usize)>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Rule {
    None,
    PMin { threshold: f64 },
    Entropy { weight: f64, threshold: f64 },
    Average { memory: f64 },
}

#[derive(Deserialize)]
struct CalibrationCase {
    tokens: Vec<(f64, bool)>,
    /// (least confidence, reached, accepted)
    steps: Vec<(f64, u64, u64)>,
}

#[derive(Deserialize)]
struct CostCase {
    counts: Vec<(u64, u64)>,
    rate: f64,
    draft_s: Vec<f64>,
    target_s: Vec<f64>,
    decisions: Vec<Decision>,
}

/// Gains of computing another distribution, and of keeping the token after `kept` others, over stopping.
#[derive(Deserialize)]
struct Decision {
    kept: usize,
    chance: f64,
    gains: (f64, f64),
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/stop_rules.json")).unwrap()
}

#[test]
fn every_rule_is_replayed_round_by_round() {
    let mut different = std::collections::BTreeSet::new();
    for (number, case) in golden().traces.iter().enumerate() {
        let draft = |position: &Position| TokenDraft {
            source: if position.lookup { Source::Lookup } else { Source::Model },
            seen: position.tokens.iter().map(|&(confidence, entropy)| Seen { confidence, entropy }).collect(),
            matched: position.matched,
        };
        let trace = TokenTrace::new(case.trace.iter().map(draft).collect(), case.draft_length).unwrap();
        for run in &case.runs {
            let rule = match run.rule {
                Rule::None => None,
                Rule::PMin { threshold } => Some(StopRule::PMin { threshold }),
                Rule::Entropy { weight, threshold } => Some(StopRule::Entropy { weight, threshold }),
                Rule::Average { memory } => Some(StopRule::AcceptanceAverage { memory }),
            };
            let found = rounds_ruled(&trace, case.draft_length, rule.as_ref()).unwrap();
            let found: Vec<_> = found.iter().map(|round| (round.computed, round.drafted, round.accepted)).collect();
            assert_eq!(found, run.rounds, "case {number}, {rule:?}");
            different.insert((number, run.rounds.clone()));
        }
    }
    assert!(different.len() > 60, "the rules hardly differ: {}", different.len());
}

#[test]
fn calibrations_agree_with_isotonic_regression() {
    let mut pooled = 0;
    for case in golden().calibrations {
        let outcomes = case.tokens.iter().map(|&(confidence, accepted)| Outcome {
            source: Source::Model,
            place: 0,
            confidence,
            accepted,
        });
        let calibration = Calibration::fit(outcomes);
        let bins = calibration.bins(Source::Model, 0);
        let found: Vec<_> = bins.iter().map(|bin| (bin.from, bin.reached, bin.accepted)).collect();
        assert_eq!(found, case.steps);
        pooled +=
            usize::from(bins.iter().any(|bin| bin.reached as usize >= 2 * case.tokens.len().div_ceil(12).max(20)));
    }
    assert!(pooled > 0, "nothing was pooled");
}

#[test]
fn the_cost_aware_rule_decides_as_following_every_outcome_does() {
    let (mut decided, mut kinds) = (0, std::collections::BTreeSet::new());
    for case in golden().costs {
        let longest = case.draft_s.len();
        let outcomes = (0..3).flat_map(|place| {
            case.counts.iter().enumerate().flat_map(move |(bin, &(reached, accepted))| {
                let confidence = (bin + 1) as f64 / 10.0;
                (0..reached).map(move |n| Outcome { source: Source::Model, place, confidence, accepted: n < accepted })
            })
        });
        let calibration = Calibration::fit(outcomes);
        assert_eq!(calibration.bins(Source::Model, 0).len(), case.counts.len(), "the bins are those of the case");
        let curve = |times: &[f64]| {
            CostCurve::from_samples(times.iter().enumerate().map(|(place, &time)| (place + 1, time))).unwrap()
        };
        let costs = Costs {
            plain_s: 1.0,
            draft: curve(&case.draft_s),
            target: curve(&case.target_s),
            overlap_s: 0.0,
            pad: false,
        };
        let rule = CostAware::solve(calibration, case.rate, longest, &costs);
        for Decision { kept, chance, gains } in case.decisions {
            // Where either way is as good the grid may err.
            for (what, gain, found) in
                [("computes", gains.0, rule.wants(kept, chance)), ("keeps", gains.1, rule.keeps(kept, chance))]
            {
                if gain.abs() > 0.01 {
                    assert_eq!(found, gain > 0.0, "{what} after {kept} with chance {chance}: gains {gain}");
                    decided += 1;
                    kinds.insert((what, found));
                }
            }
        }
    }
    assert!(decided > 1000 && kinds.len() == 4, "{decided} decisions of {kinds:?} were compared");
}
