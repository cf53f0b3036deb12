//! The decision as a whole: what it must answer on data whose truth is known, and what must not change it.

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use ridgepoint::stats::StatsError;
use ridgepoint::stats::decision::{Decision, Input, Verdict, decide};
use ridgepoint::stats::selection::Method;

/// Prompts of very different length, arms with the given true costs, and relative noise in each cell.
fn measured(costs: &[f64], prompts: usize, noise: f64, seed: u64) -> Input {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (difficulty, noise) = (Normal::new(0.0, 0.4).unwrap(), Normal::new(0.0, noise).unwrap());
    let seconds = (0..prompts)
        .map(|_| {
            let scale = f64::exp(difficulty.sample(&mut rng));
            costs.iter().map(|cost| scale * cost * (1.0 + noise.sample(&mut rng))).collect()
        })
        .collect();
    Input {
        draft_lengths: (0..costs.len() as u32).collect(),
        seconds,
        tokens: vec![vec![128; costs.len()]; prompts],
        confidence: 0.95,
        margin: 0.02,
        seed: 1,
        method: None,
        draws: 2_000,
        resamples: 300,
    }
}

#[test]
fn the_smallest_length_within_the_margin_is_recommended() {
    for prompts in [12, 40] {
        let decision = decide(&measured(&[1.0, 0.9, 0.7, 0.698, 0.75], prompts, 0.01, 3)).unwrap();
        assert_eq!((decision.recommended, decision.verdict), (Some(2), Verdict::Recommended));
        assert_eq!(decision.practically_best, [2, 3]);
        assert_eq!(decision.more_prompts, None);
        let chosen = &decision.versus_plain[1];
        assert!(chosen.draft_length == 2 && chosen.p_holm < 0.05);
        assert!(chosen.low.unwrap() > 1.38 && chosen.low < chosen.high && chosen.high.unwrap() < 1.48);
    }
}

#[test]
fn speculation_that_does_not_pay_gives_zero() {
    let decision = decide(&measured(&[1.0, 1.1, 1.2, 1.4], 30, 0.01, 4)).unwrap();
    assert_eq!((decision.recommended, decision.confidence_set), (Some(0), vec![0]));
    assert_eq!(decision.loss_bound[&0], Some(0.0));
}

#[test]
fn noise_beyond_the_margin_is_undecided_and_says_how_many_prompts_would_do() {
    let truth = [1.0, 0.8, 0.8, 0.79];
    let undecided = decide(&measured(&truth, 10, 0.08, 5)).unwrap();
    assert_eq!((undecided.recommended, undecided.verdict), (None, Verdict::Undecided));
    let more = undecided.more_prompts.unwrap();
    assert!((50..2_000).contains(&more), "{more}");
    let decided = decide(&measured(&truth, 10 + more, 0.08, 6)).unwrap();
    assert_ne!(decided.verdict, Verdict::Undecided);
}

#[test]
fn too_few_prompts_exclude_nothing_and_say_so() {
    let decision = decide(&measured(&[1.0, 0.5, 0.7], 4, 0.01, 7)).unwrap();
    assert_eq!((decision.recommended, decision.confidence_set), (None, vec![0, 1, 2]));
    assert_eq!(decision.loss_bound[&1], None);
    assert!(decision.warnings[0].starts_with("4 prompts cannot exclude any length at 95 % confidence; at least 5"));
}

#[test]
fn costs_that_do_not_vary_are_decided_without_invented_intervals() {
    let decision = decide(&measured(&[1.0, 0.5, 0.7], 25, 0.0, 8)).unwrap();
    assert_eq!((decision.recommended, decision.confidence_set), (Some(1), vec![1]));
    assert!((decision.loss_bound[&2].unwrap() - 0.4).abs() < 1e-9);
    assert!((decision.versus_plain[0].speedup - 2.0).abs() < 1e-12 && decision.versus_plain[0].low.is_none());
}

#[test]
fn one_arm_and_no_plain_arm_are_answered_with_a_warning() {
    let alone = decide(&measured(&[1.0], 10, 0.02, 9)).unwrap();
    assert_eq!((alone.recommended, alone.versus_plain.len()), (Some(0), 0));
    let mut without_plain = measured(&[1.0, 0.5], 25, 0.02, 9);
    without_plain.draft_lengths = vec![3, 7];
    let decision = decide(&without_plain).unwrap();
    assert_eq!(decision.recommended, Some(7));
    assert!(decision.warnings.iter().any(|warning| warning.contains("was not measured")));
}

#[test]
fn json_has_the_documented_fields() {
    let json = serde_json::to_value(decide(&measured(&[1.0, 0.9], 6, 0.2, 10)).unwrap()).unwrap();
    for field in ["recommended", "confidence_set", "practically_best", "loss_bound", "versus_plain", "more_prompts"] {
        assert!(json.get(field).is_some(), "{field}");
    }
    assert!(json["loss_bound"].get("1").is_some() && json["versus_plain"][0]["p_holm"].is_number());
}

#[test]
fn bad_input_is_refused_by_name() {
    let refuse = |change: fn(&mut Input)| {
        let mut input = measured(&[1.0, 0.9, 0.8], 6, 0.02, 11);
        change(&mut input);
        decide(&input).unwrap_err()
    };
    assert!(matches!(refuse(|i| i.seconds[3][1] = f64::NAN), StatsError::NotFinite { index: 1, .. }));
    assert!(matches!(refuse(|i| i.seconds[3][1] = f64::INFINITY), StatsError::NotFinite { .. }));
    assert!(matches!(refuse(|i| i.seconds[3][1] = 0.0), StatsError::NotPositive { .. }));
    assert!(matches!(refuse(|i| i.tokens[3][1] = 0), StatsError::NotPositive { .. }));
    assert!(matches!(refuse(|i| i.seconds[3].truncate(2)), StatsError::Length { .. }));
    assert!(matches!(refuse(|i| i.tokens[3].truncate(2)), StatsError::Length { .. }));
    assert!(matches!(refuse(|i| i.tokens.truncate(3)), StatsError::Length { .. }));
    assert!(matches!(refuse(|i| i.draft_lengths[1] = 2), StatsError::Duplicate { .. }));
    assert!(matches!(refuse(|i| i.draft_lengths.truncate(1)), StatsError::Length { .. }));
    assert!(matches!(refuse(|i| i.seconds.truncate(1)), StatsError::Length { .. }));
    assert!(matches!(refuse(|i| i.seconds.clear()), StatsError::Length { .. }));
    assert!(matches!(refuse(|i| i.confidence = 1.0), StatsError::Parameter { .. }));
    assert!(matches!(refuse(|i| i.margin = 0.0), StatsError::Parameter { .. }));
    assert!(matches!(refuse(|i| i.margin = f64::NAN), StatsError::Parameter { .. }));
    assert!(matches!(refuse(|i| i.draws = 0), StatsError::Parameter { .. }));
    assert!(matches!(refuse(|i| i.resamples = 0), StatsError::Parameter { .. }));
}

/// Equal up to rounding and, where draws were random, up to Monte-Carlo error.
fn assert_same(a: &Decision, b: &Decision, tolerance: f64) {
    assert_eq!((&a.recommended, &a.verdict, &a.observed_best), (&b.recommended, &b.verdict, &b.observed_best));
    assert_eq!((&a.confidence_set, &a.practically_best), (&b.confidence_set, &b.practically_best));
    for (length, bound) in &a.loss_bound {
        match (bound, b.loss_bound[length]) {
            (Some(bound), Some(other)) => assert!((bound - other).abs() <= tolerance, "{length}: {bound} {other}"),
            (bound, other) => assert_eq!(*bound, other),
        }
    }
    for (arm, other) in a.versus_plain.iter().zip(&b.versus_plain) {
        assert!((arm.p_holm - other.p_holm).abs() < 1e-9 && (arm.speedup - other.speedup).abs() < 1e-9);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_unit_of_time_and_the_token_budget_do_not_matter(seed in 0u64..1_000, prompts in 5usize..30, exponent in -10i32..10) {
        let input = measured(&[1.0, 0.9, 0.88, 0.95], prompts, 0.03, seed);
        let mut other = input.clone();
        other.seconds.iter_mut().flatten().for_each(|second| *second *= 2f64.powi(exponent));
        other.tokens.iter_mut().flatten().for_each(|tokens| *tokens *= 2);
        assert_same(&decide(&input).unwrap(), &decide(&other).unwrap(), 1e-9);
    }

    #[test]
    fn the_order_of_the_arms_does_not_matter(seed in 0u64..1_000, prompts in 5usize..30, turn in 1usize..4) {
        let input = measured(&[1.0, 0.9, 0.88, 0.95], prompts, 0.03, seed);
        let mut other = input.clone();
        other.draft_lengths.rotate_left(turn);
        other.seconds.iter_mut().for_each(|row| row.rotate_left(turn));
        other.tokens.iter_mut().for_each(|row| row.rotate_left(turn));
        prop_assert_eq!(decide(&input).unwrap(), decide(&other).unwrap());
    }

    // Up to 11 prompts all sign vectors fit the draws, so that nothing random is left.
    #[test]
    fn the_order_of_the_prompts_does_not_matter(seed in 0u64..1_000, prompts in 5usize..11, turn in 1usize..5) {
        let input = measured(&[1.0, 0.9, 0.88, 0.95], prompts, 0.03, seed);
        let mut other = input.clone();
        other.seconds.rotate_left(turn);
        other.tokens.rotate_left(turn);
        assert_same(&decide(&input).unwrap(), &decide(&other).unwrap(), 1e-9);
    }

    // A faster machine on some prompts is no evidence about the arms.
    #[test]
    fn a_length_that_is_never_the_fastest_is_not_recommended_for_being_noisy(seed in 0u64..1_000) {
        let decision = decide(&measured(&[1.0, 0.8, 1.3], 20, 0.01, seed)).unwrap();
        prop_assert_eq!(decision.recommended, Some(1));
    }

    #[test]
    fn any_positive_times_are_answered_without_a_panic(
        seconds in prop::collection::vec(prop::collection::vec(1e-9..1e9f64, 3), 1..9), confidence in 0.01..0.999f64, margin in 0.001..0.9f64,
    ) {
        let prompts = seconds.len();
        let input = Input { seconds, confidence, margin, draws: 300, resamples: 50, ..measured(&[1.0; 3], prompts, 0.0, 0) };
        let answer = decide(&input);
        prop_assert_eq!(answer.is_ok(), prompts >= 2);
        if let Ok(decision) = answer {
            prop_assert!(decision.confidence_set.contains(&decision.observed_best));
        }
    }
}

#[test]
fn an_anytime_answer_is_wider_and_silent_below_ten_prompts() {
    let with = |method, prompts| {
        decide(&Input { method, ..measured(&[1.0, 0.9, 0.7, 0.698, 0.75], prompts, 0.01, 3) }).unwrap()
    };
    let (once, anytime) = (with(None, 40), with(Some(Method::AnyTime), 40));
    assert_eq!(anytime.recommended, once.recommended);
    assert!(once.loss_bound.iter().all(|(length, bound)| bound <= &anytime.loss_bound[length]));
    let width = |decision: &Decision| decision.versus_plain[1].high.unwrap() - decision.versus_plain[1].low.unwrap();
    assert!(width(&once) < width(&anytime) && width(&anytime) < 3.0 * width(&once));
    let silent = with(Some(Method::AnyTime), 9);
    assert_eq!((silent.confidence_set.len(), silent.recommended), (5, None));
    assert!(silent.versus_plain[0].low.is_none() && silent.versus_plain[0].p_holm == 1.0);
}
