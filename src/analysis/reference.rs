//! A published cost curve of a few widths: what it implies for the draft length, and where it cannot say.
//!
//! Between two published widths t(b) is only taken to lie between their times, as verification cost is a staircase whose
//! steps a few points cannot show; nothing is interpolated.

use super::audit::Audit;
use crate::results::{CostRow, Mode, PublishedTable, Role, read_raw};
use crate::roofline::{CostCurve, expected_tokens};
use crate::scenario::ReferenceFile;
use crate::stats::paired::students_t;
use crate::stats::summary::variance_of;
use anyhow::{Context, Result};
use serde::Serialize;
use statrs::distribution::ContinuousCDF;
use std::path::Path;

/// Chances of acceptance that draft lengths are worked out for.
pub const ALPHAS: [f64; 6] = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95];
/// Costs of a drafted token, in plain steps, besides those of the published drafters: free as a lookup, then cheap models.
const DRAFT_COSTS: [f64; 4] = [0.0, 0.05, 0.1, 0.2];
/// Times of plain steps by experiment, whose scatter stands for the one that the curve's times have.
const STEPS_FILE: &str = "plain-steps.csv";

/// All that follows from a folder with a published curve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reference {
    pub file: ReferenceFile,
    pub target: String,
    pub precision: String,
    /// How far one quantity differs between the source's own experiments; none with fewer than three.
    pub scatter: Option<Scatter>,
    pub points: Vec<PublishedPoint>,
    pub ridge: Ridge,
    /// By drafter cost, then by α.
    pub outlooks: Vec<Outlook>,
    /// Derived figures of the source; none if its tables are not there.
    pub audit: Option<Audit>,
}

/// Repeats of the plain step, one an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scatter {
    pub steps: usize,
    pub shortest_s: f64,
    pub longest_s: f64,
    /// Standard deviation of the times' logarithm.
    pub relative_sd: f64,
    /// A ratio of two such times lies within this factor of the true one, at the file's confidence, with Student's t.
    pub ratio_factor: f64,
}

/// A number that is only known to lie between two others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bounds {
    pub low: f64,
    pub high: f64,
}

impl Bounds {
    fn within(value: f64, factor: f64) -> Bounds {
        Bounds { low: value / factor, high: value * factor }
    }
}

/// A drafted token's cost in plain steps.
struct Drafting {
    drafter: Option<String>,
    cost: f64,
    /// None if it was timed and there is no scatter.
    bounds: Option<Bounds>,
}

/// A published time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PublishedPoint {
    pub width: usize,
    pub time_s: f64,
    /// t(b) / t(1), and its interval; none without a scatter.
    pub ratio: f64,
    pub ratio_bounds: Option<Bounds>,
    /// The bytes over the time.
    pub bandwidth_bytes_per_s: f64,
    pub flops_per_s: f64,
    /// Seconds of each further token up to the next published width.
    pub slope_s: Option<f64>,
}

/// Where verification would stop being free, by several accounts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ridge {
    /// Smallest width whose FLOPs take as long as its bytes, at the data sheet's bandwidth and the assumed rate.
    pub data_sheet_width: usize,
    /// The rate that the slope between the two widest widths implies; none if time falls there.
    pub slope_flops_per_s: Option<f64>,
    /// The ridge at that rate and the copy's bandwidth.
    pub measured_width: Option<usize>,
    /// Width at which the line through the two widest points comes down to t(1); below 1 there is no flat part before it.
    pub line_meets_plain_width: Option<f64>,
    /// The slope between the two narrowest widths over that between the two widest: below 1 on a roofline.
    pub slopes_ratio: Option<f64>,
}

/// What the curve says about drafting at one drafter cost and acceptance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outlook {
    /// The published drafter, if it is one.
    pub drafter: Option<String>,
    /// Time of a drafted token over t(1), and its interval if both were timed.
    pub draft_cost: f64,
    pub draft_cost_bounds: Option<Bounds>,
    pub alpha: f64,
    /// The best length and its speed-up if verification were free (Leviathan, Kalman and Matias 2023, theorem 3.8).
    pub textbook_length: usize,
    pub textbook_speedup: f64,
    /// The published width above 1 with the largest speed-up: the length, the speed-up and its bounds.
    pub known_length: usize,
    pub known_speedup: f64,
    pub known_bounds: Option<Bounds>,
    /// The smallest and the largest length that may be the best one; 0 is plain decoding.
    pub may_be_best: Option<(usize, usize)>,
    pub verdict: Verdict,
}

/// Whether to draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Some length is faster than plain decoding wherever the curve lies in its bounds.
    Draft,
    /// No length can be.
    DoNotDraft,
    CannotSay,
}

/// Reads and works out a folder with `reference.toml` and `cost.csv`.
///
/// # Errors
/// If the curve has fewer than two widths or lacks t(1), or a file is damaged.
pub fn reference(folder: &Path) -> Result<Reference> {
    let file = ReferenceFile::read(folder)?;
    let shown = folder.join("cost.csv").display().to_string();
    let rows: Vec<CostRow> = read_raw(folder)?;
    let rows: Vec<CostRow> =
        rows.into_iter().filter(|row| row.role == Role::Target && row.mode == Mode::Sync && !row.invalid).collect();
    let samples = rows.iter().filter_map(|row| Some((row.width as usize, row.time_ms? / 1e3)));
    let curve = CostCurve::from_samples(samples).with_context(|| shown.clone())?;
    let plain = rows.iter().find(|row| row.width == 1).filter(|_| curve.points().len() > 1);
    let plain = plain.with_context(|| format!("{shown}: needs t(1) and at least one other width"))?;
    let steps = folder.join(STEPS_FILE);
    let scatter = if steps.exists() { scatter(&steps_s(&steps)?, file.confidence) } else { None };
    let points = points(&curve, &rows, scatter);
    let ridge = ridge(&file, plain, &points);
    let plain_s = points[0].time_s;
    let supposed = DRAFT_COSTS.map(|cost| Drafting { drafter: None, cost, bounds: Some(Bounds::within(cost, 1.0)) });
    let published = file.drafters.iter().map(|drafter| {
        let cost = drafter.step_ms / 1e3 / plain_s;
        let bounds = scatter.map(|scatter| Bounds::within(cost, scatter.ratio_factor));
        Drafting { drafter: Some(drafter.name.clone()), cost, bounds }
    });
    let drafting = supposed.into_iter().chain(published);
    let outlooks = drafting.flat_map(|drafting| ALPHAS.map(|alpha| outlook(&points, &drafting, alpha))).collect();
    let (target, precision) = (plain.target.clone(), plain.precision.clone());
    Ok(Reference { target, precision, scatter, ridge, outlooks, audit: Audit::of(folder)?, points, file })
}

/// Seconds of every published plain step: from its time, else from its rate.
fn steps_s(path: &Path) -> Result<Vec<f64>> {
    let table = PublishedTable::read(path)?;
    let (times, rates) = (table.numbers("time_ms")?, table.numbers("throughput_tok_per_s")?);
    Ok(times.iter().zip(&rates).filter_map(|(time, rate)| time.map(|ms| ms / 1e3).or(rate.map(f64::recip))).collect())
}

/// The factor within which a single published time of the folder lies of the true one; none where steps are too few to tell.
pub(super) fn step_scatter(folder: &Path, confidence: f64) -> Result<Option<f64>> {
    let file = folder.join(STEPS_FILE);
    let scatter = if file.exists() { scatter(&steps_s(&file)?, confidence) } else { None };
    Ok(scatter.map(|scatter| scatter.ratio_factor.powf(0.5f64.sqrt())))
}

fn scatter(steps_s: &[f64], confidence: f64) -> Option<Scatter> {
    if steps_s.len() < 3 {
        return None;
    }
    let logs: Vec<f64> = steps_s.iter().map(|step| step.ln()).collect();
    let relative_sd = variance_of(&logs).sqrt();
    let quantile = students_t(logs.len() as f64 - 1.0).inverse_cdf((1.0 + confidence) / 2.0);
    Some(Scatter {
        steps: steps_s.len(),
        shortest_s: steps_s.iter().copied().fold(f64::INFINITY, f64::min),
        longest_s: steps_s.iter().copied().fold(0.0, f64::max),
        relative_sd,
        // The logarithm of a ratio has twice the variance of one time's.
        ratio_factor: (quantile * relative_sd * 2f64.sqrt()).exp(),
    })
}

fn points(curve: &CostCurve, rows: &[CostRow], scatter: Option<Scatter>) -> Vec<PublishedPoint> {
    let measured = curve.points();
    let point = |(place, &(width, time_s)): (usize, &(usize, f64))| {
        let row = rows.iter().find(|row| row.width == width as u64).expect("the curve is made of the rows");
        let ratio = time_s / measured[0].1;
        let factor = scatter.map(|scatter| if width == 1 { 1.0 } else { scatter.ratio_factor });
        let slope = |&(next, next_s): &(usize, f64)| (next_s - time_s) / (next - width) as f64;
        PublishedPoint {
            width,
            time_s,
            ratio,
            ratio_bounds: factor.map(|factor| Bounds::within(ratio, factor)),
            bandwidth_bytes_per_s: row.bytes as f64 / time_s,
            flops_per_s: row.flops / time_s,
            slope_s: measured.get(place + 1).map(slope),
        }
    };
    measured.iter().enumerate().map(point).collect()
}

fn ridge(file: &ReferenceFile, plain: &CostRow, points: &[PublishedPoint]) -> Ridge {
    let width = |rate: f64, bandwidth: f64| (plain.bytes as f64 / bandwidth / (plain.flops / rate)).ceil() as usize;
    let slopes: Vec<f64> = points.iter().filter_map(|point| point.slope_s).collect();
    let widest = slopes.last().copied().filter(|slope| *slope > 0.0);
    let rate = widest.map(|slope| plain.flops / slope);
    let last = points.last().expect("two points");
    Ridge {
        data_sheet_width: width(1e12 * file.matrix_tflop_s, 1e9 * file.bandwidth_gb_s),
        slope_flops_per_s: rate,
        measured_width: rate.map(|rate| width(rate, 1e9 * file.copy_bandwidth_gb_s)),
        line_meets_plain_width: widest.map(|slope| last.width as f64 - (last.time_s - points[0].time_s) / slope),
        slopes_ratio: widest.filter(|_| slopes.len() > 1).map(|slope| slopes[0] / slope),
    }
}

/// Where t(b) / t(1) lies: within a published width's interval, and between those of its neighbours elsewhere.
fn ratio_bounds(points: &[PublishedPoint], width: usize) -> Option<Bounds> {
    let below = points.iter().rfind(|point| point.width <= width)?.ratio_bounds?;
    let above = points.iter().find(|point| point.width >= width)?.ratio_bounds?;
    Some(Bounds { low: below.low, high: above.high })
}

fn outlook(points: &[PublishedPoint], drafting: &Drafting, alpha: f64) -> Outlook {
    let longest = points.last().expect("two points").width - 1;
    // Of a round of γ tokens drafted at `cost` whose verification takes `ratio`, both in plain steps.
    let speedup =
        |length: usize, cost: f64, ratio: f64| expected_tokens(alpha, length) / (length as f64 * cost + ratio);
    let best = |a: &(usize, f64), b: &(usize, f64)| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0));
    let cost = drafting.cost;
    let textbook = (0..=longest).map(|length| (length, speedup(length, cost, 1.0))).max_by(best).expect("γ=0");
    let known = points[1..].iter().map(|point| (point.width - 1, speedup(point.width - 1, cost, point.ratio)));
    let (known_length, known_speedup) = known.max_by(best).expect("two points");
    let bounds = |length: usize| {
        let (cost, ratio) = (drafting.bounds?, ratio_bounds(points, length + 1)?);
        Some(Bounds { low: speedup(length, cost.high, ratio.high), high: speedup(length, cost.low, ratio.low) })
    };
    let all: Option<Vec<Bounds>> = (0..=longest).map(bounds).collect();
    let (mut verdict, mut may_be_best) = (Verdict::CannotSay, None);
    if let Some(all) = &all {
        let certain = all.iter().map(|bounds| bounds.low).fold(0.0, f64::max);
        let candidates: Vec<usize> = (0..all.len()).filter(|&length| all[length].high >= certain).collect();
        may_be_best = candidates.first().copied().zip(candidates.last().copied());
        verdict = match candidates.as_slice() {
            [0] => Verdict::DoNotDraft,
            [first, ..] if *first > 0 => Verdict::Draft,
            _ => Verdict::CannotSay,
        };
    }
    Outlook {
        drafter: drafting.drafter.clone(),
        draft_cost: cost,
        draft_cost_bounds: drafting.bounds,
        alpha,
        textbook_length: textbook.0,
        textbook_speedup: textbook.1,
        known_length,
        known_speedup,
        known_bounds: bounds(known_length),
        may_be_best,
        verdict,
    }
}
