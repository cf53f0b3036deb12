//! Statistics against scipy, statsmodels, arch and scikit-posthocs: `scripts/oracle/stats.py` made the expected values.

use ridgepoint::stats::blocks::Blocks;
use ridgepoint::stats::bootstrap::{bca_interval, ratio_of_sums};
use ridgepoint::stats::iid::{Count, equal_over_levels};
use ridgepoint::stats::max_t::max_t_draws;
use ridgepoint::stats::mcs::model_confidence_set_from;
use ridgepoint::stats::paired::{SignedRankMethod, paired_t, signed_rank, signed_rank_by};
use ridgepoint::stats::power::paired_t_power;
use ridgepoint::stats::selection::{Method, compare_with_best};
use ridgepoint::stats::summary::{self, MedianInterval};
use ridgepoint::stats::{equivalence, friedman, multiple, validity};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden<Case> {
    made_with: BTreeMap<String, String>,
    cases: Vec<Case>,
}

pub fn cases<Case: DeserializeOwned>(name: &str) -> Vec<Case> {
    let path = format!("{}/tests/golden/stats/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let golden: Golden<Case> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(golden.made_with.contains_key("scipy") || golden.made_with.contains_key("limma"));
    assert!(!golden.cases.is_empty());
    golden.cases
}

/// Agreement to 1e-9, relative to the expected value where that is above 1.
#[track_caller]
pub fn close(what: &str, found: f64, expected: f64) {
    let tolerance = 1e-9 * expected.abs().max(1.0);
    assert!((found - expected).abs() <= tolerance, "{what}: {found} where {expected} is expected");
}

#[test]
fn summaries() {
    #[derive(Deserialize)]
    struct Interval {
        low: f64,
        high: f64,
        achieved: f64,
    }
    #[derive(Deserialize)]
    struct Case {
        x: Vec<f64>,
        mean: f64,
        sd: Option<f64>,
        quantiles: BTreeMap<String, f64>,
        mad: f64,
        median_intervals: BTreeMap<String, Option<Interval>>,
    }
    for case in cases::<Case>("summary") {
        let what = format!("n = {}", case.x.len());
        close(&what, summary::mean(&case.x).unwrap(), case.mean);
        match case.sd {
            Some(sd) => close(&what, summary::standard_deviation(&case.x).unwrap(), sd),
            None => assert!(summary::standard_deviation(&case.x).is_err()),
        }
        close(&what, summary::median_absolute_deviation(&case.x).unwrap(), case.mad);
        for (level, expected) in case.quantiles {
            close(&what, summary::quantile(&case.x, level.parse().unwrap()).unwrap(), expected);
        }
        for (confidence, expected) in case.median_intervals {
            let found = summary::median_interval(&case.x, confidence.parse().unwrap()).unwrap();
            match (found, expected) {
                (MedianInterval::Found { low, high, confidence }, Some(expected)) => {
                    assert_eq!((low, high), (expected.low, expected.high), "{what}");
                    close(&what, confidence, expected.achieved);
                }
                (MedianInterval::NeedsSamples { at_least }, None) => assert!(at_least > case.x.len()),
                (found, _) => panic!("{what}: {found:?}"),
            }
        }
    }
}

#[test]
fn paired_t_and_signed_rank() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        first: Vec<f64>,
        second: Vec<f64>,
        t: f64,
        p_t: f64,
        low_90: f64,
        high_90: f64,
        rank_sum: f64,
        p_normal: f64,
        p_exact: Option<f64>,
    }
    for case in cases::<Case>("paired") {
        let t = paired_t(&case.first, &case.second, 0.9).unwrap();
        close(&case.name, t.t, case.t);
        close(&case.name, t.p, case.p_t);
        close(&case.name, t.low, case.low_90);
        close(&case.name, t.high, case.high_90);
        let differences: Vec<f64> = case.first.iter().zip(&case.second).map(|(a, b)| a - b).collect();
        let normal = signed_rank_by(SignedRankMethod::Normal, &differences).unwrap();
        close(&case.name, normal.rank_sum, case.rank_sum);
        close(&case.name, normal.p, case.p_normal);
        if let Some(expected) = case.p_exact {
            let exact = signed_rank(&case.first, &case.second).unwrap();
            assert_eq!(exact.method, SignedRankMethod::Exact);
            close(&case.name, exact.p, expected);
        }
    }
}

#[test]
fn holm() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        p: Vec<f64>,
        adjusted: Vec<f64>,
    }
    for case in cases::<Case>("holm") {
        for (found, expected) in multiple::holm(&case.p).unwrap().into_iter().zip(case.adjusted) {
            close(&case.name, found, expected);
        }
    }
}

#[test]
fn two_one_sided_tests() {
    #[derive(Deserialize)]
    struct Ratio {
        margin: f64,
        p_lower: f64,
        p_upper: f64,
    }
    #[derive(Deserialize)]
    struct Case {
        name: String,
        first: Vec<f64>,
        second: Vec<f64>,
        low: f64,
        high: f64,
        p_lower: f64,
        p_upper: f64,
        p: f64,
        ratio: Option<Ratio>,
    }
    for case in cases::<Case>("equivalence") {
        let found = equivalence::tost(&case.first, &case.second, case.low, case.high).unwrap();
        close(&case.name, found.p_lower, case.p_lower);
        close(&case.name, found.p_upper, case.p_upper);
        close(&case.name, found.p, case.p);
        if let Some(expected) = case.ratio {
            let found = equivalence::tost_ratio(&case.first, &case.second, expected.margin).unwrap();
            close(&case.name, found.p_lower, expected.p_lower);
            close(&case.name, found.p_upper, expected.p_upper);
        }
    }
}

#[test]
fn friedman_and_iman_davenport() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        blocks: Vec<Vec<f64>>,
        chi_squared: f64,
        p_chi_squared: f64,
        p_iman_davenport: f64,
        mean_ranks: Vec<f64>,
    }
    for case in cases::<Case>("friedman") {
        let found = friedman::friedman(&case.blocks).unwrap();
        close(&case.name, found.chi_squared, case.chi_squared);
        close(&case.name, found.p_chi_squared, case.p_chi_squared);
        close(&case.name, found.p, case.p_iman_davenport);
        found.mean_ranks.iter().zip(&case.mean_ranks).for_each(|(a, b)| close(&case.name, *a, *b));
    }
}

#[test]
fn bca_interval_of_a_ratio_of_sums() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        plain: Vec<f64>,
        arm: Vec<f64>,
        confidence: f64,
        resamples: Vec<Vec<usize>>,
        estimate: f64,
        low: f64,
        high: f64,
    }
    for case in cases::<Case>("bca") {
        let prompts = case.plain.len();
        let ratio = |chosen: &[usize]| ratio_of_sums(&case.plain, &case.arm, chosen);
        let all: Vec<usize> = (0..prompts).collect();
        close(&case.name, ratio(&all), case.estimate);
        let mut replicates: Vec<f64> = case.resamples.iter().map(|chosen| ratio(chosen)).collect();
        let leave_one_out: Vec<f64> =
            all.iter().map(|out| ratio(&all.iter().copied().filter(|i| i != out).collect::<Vec<_>>())).collect();
        let (low, high) =
            bca_interval(case.estimate, &mut replicates, &leave_one_out, (1.0 - case.confidence) / 2.0).unwrap();
        close(&case.name, low, case.low);
        close(&case.name, high, case.high);
    }
}

#[test]
fn largest_of_correlated_t_statistics() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        covariance: Vec<f64>,
        arms: usize,
        degrees_of_freedom: f64,
        level: f64,
        control: usize,
        critical_value: f64,
    }
    const DRAWS: usize = 20_000;
    for case in cases::<Case>("max_t") {
        let draws = max_t_draws(&case.covariance, case.arms, case.degrees_of_freedom, DRAWS, 5);
        let covered = draws[case.control].iter().filter(|&&t| t <= case.critical_value).count() as f64 / DRAWS as f64;
        let monte_carlo = 4.0 * (case.level * (1.0 - case.level) / DRAWS as f64).sqrt();
        let message = format!("{}: {covered} of the draws where {} is expected", case.name, case.level);
        assert!((covered - case.level).abs() < monte_carlo + 5e-4, "{message}");
    }
}

#[test]
fn sign_flips_over_all_vectors() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        differences: Vec<f64>,
        p: f64,
    }
    for case in cases::<Case>("sign_flip") {
        // With two arms, 'can the first be the fastest' is the one-sided test of its excess over the second.
        let rows: Vec<Vec<f64>> = case.differences.iter().map(|excess| vec![10.0 + excess, 10.0]).collect();
        let blocks = Blocks::from_seconds(&rows).unwrap();
        let found = compare_with_best(&blocks, 0.95, Method::SignFlip, 1 << 12, 0).unwrap();
        close(&case.name, found.p_best[0], case.p);
    }
}

#[test]
fn model_confidence_set() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        blocks: Vec<Vec<f64>>,
        resamples: Vec<Vec<usize>>,
        p: Vec<f64>,
    }
    for case in cases::<Case>("mcs") {
        let found = model_confidence_set_from(&Blocks::from_seconds(&case.blocks).unwrap(), &case.resamples);
        found.iter().zip(&case.p).for_each(|(found, expected)| close(&case.name, *found, *expected));
    }
}

#[test]
fn trend_autocorrelation_and_outlier_scores() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        times: Vec<f64>,
        values: Vec<f64>,
        slope: f64,
        slope_se: f64,
        slope_p: f64,
        lag_1: f64,
        lag_1_p: f64,
        z_scores: Vec<f64>,
    }
    for case in cases::<Case>("series") {
        let trend = validity::trend(&case.times, &case.values).unwrap();
        close(&case.name, trend.slope, case.slope);
        close(&case.name, trend.standard_error, case.slope_se);
        close(&case.name, trend.p, case.slope_p);
        let series = validity::autocorrelation(&case.values).unwrap();
        close(&case.name, series.lag_1, case.lag_1);
        close(&case.name, series.p, case.lag_1_p);
        let scores = validity::modified_z_scores(&case.values).unwrap();
        scores.iter().zip(&case.z_scores).for_each(|(found, expected)| close(&case.name, *found, *expected));
    }
}

#[test]
fn variance_by_level() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        shape: Vec<usize>,
        values: Vec<f64>,
        components: Vec<f64>,
    }
    for case in cases::<Case>("nested") {
        let found = validity::variance_by_level(&case.values, &case.shape).unwrap();
        assert_eq!(found.len(), case.components.len());
        found.iter().zip(&case.components).for_each(|(found, expected)| close(&case.name, *found, *expected));
    }
}

#[test]
fn power_of_the_paired_t_test() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        prompts: usize,
        effect: f64,
        alpha: f64,
        power: f64,
    }
    for case in cases::<Case>("power") {
        close(&case.name, paired_t_power(case.prompts, case.effect, case.alpha).unwrap(), case.power);
    }
}

#[test]
fn signed_ranks_of_all_pairs_with_holm() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        blocks: Vec<Vec<f64>>,
        p: Vec<Vec<f64>>,
    }
    for case in cases::<Case>("wilcoxon_holm") {
        let blocks = Blocks::from_seconds(&case.blocks).unwrap();
        let pairs: Vec<(usize, usize)> = (0..blocks.arms()).flat_map(|a| (0..a).map(move |b| (a, b))).collect();
        let p_of = |&(a, b): &(usize, usize)| signed_rank(&blocks.arm(a), &blocks.arm(b)).unwrap().p;
        let adjusted = multiple::holm(&pairs.iter().map(p_of).collect::<Vec<_>>()).unwrap();
        pairs.iter().zip(adjusted).for_each(|(&(a, b), found)| close(&case.name, found, case.p[a][b]));
    }
}

#[test]
fn acceptance_over_levels() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        reached: Vec<Vec<u64>>,
        accepted: Vec<Vec<u64>>,
        acceptance: Vec<f64>,
        f: f64,
        p: f64,
    }
    for case in cases::<Case>("acceptance_by_level") {
        let count = |(&reached, &accepted): (&u64, &u64)| Count { reached, accepted };
        let rows = case.reached.iter().zip(&case.accepted);
        let counts: Vec<Vec<Count>> =
            rows.map(|(reached, accepted)| reached.iter().zip(accepted).map(count).collect()).collect();
        let found = equal_over_levels(&counts).unwrap();
        found
            .acceptance
            .iter()
            .zip(&case.acceptance)
            .for_each(|(found, expected)| close(&case.name, *found, *expected));
        close(&case.name, found.f, case.f);
        close(&case.name, found.p, case.p);
    }
}
