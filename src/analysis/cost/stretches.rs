//! Stretches: neighbouring widths of one regime without a cliff or fall between them.

use crate::results::CostStretchRow;
use crate::roofline::{Ceilings, Regime, RegimePoint};
use crate::stats::summary::median;
use crate::stats::{self, paired::students_t};
use statrs::distribution::ContinuousCDF;
use std::collections::BTreeMap;
use std::ops::Range;

/// The slope around a width is fitted to it and twice as many neighbours.
const REACH: usize = 8;
/// A regime that lasts for fewer widths than this inside a stretch is noise.
const SHORTEST: usize = 4;

/// One width as the regimes see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub width: u64,
    /// Median seconds.
    pub time_s: f64,
    /// Seconds by pass.
    pub passes: BTreeMap<u64, f64>,
    pub bytes: u64,
    pub flops: f64,
}

/// Splits a curve before each width in `starts` and where the regime changes. Rows lack the number of the curve.
pub fn stretches(
    points: &[Point],
    starts: &[u64],
    ceilings: Option<&Ceilings>,
    confidence: f64,
) -> Vec<CostStretchRow> {
    let mut rows = Vec::new();
    for segment in segments(points, starts) {
        let regimes: Vec<Option<Regime>> =
            segment.clone().map(|at| regime(&points[at], around(points, &segment, at), ceilings)).collect();
        let points = &points[segment];
        for run in settled(runs(&regimes), &regimes) {
            rows.push(row(&points[run.0.clone()], run.1, ceilings, confidence));
        }
    }
    rows
}

fn segments(points: &[Point], starts: &[u64]) -> Vec<Range<usize>> {
    let mut bounds: Vec<usize> = vec![0];
    bounds.extend((1..points.len()).filter(|&at| starts.contains(&points[at].width)));
    bounds.push(points.len());
    bounds.windows(2).map(|pair| pair[0]..pair[1]).filter(|range| !range.is_empty()).collect()
}

/// The nearest `2 * REACH + 1` widths: of the segment where it has as many, else of the whole curve. Between two steps of a
/// staircase the curve is level, and only the steps show what a further token costs.
fn around<'a>(points: &'a [Point], segment: &Range<usize>, at: usize) -> &'a [Point] {
    let most = 2 * REACH + 1;
    let within = if segment.len() < most { 0..points.len() } else { segment.clone() };
    let start = at.saturating_sub(REACH).min(within.end.saturating_sub(most)).max(within.start);
    &points[start..within.end.min(start + most)]
}

/// What binds at a width, from the slope of the medians around it; none without ceilings or bytes, or where only a slope
/// would tell and there are too few widths for one.
fn regime(point: &Point, around: &[Point], ceilings: Option<&Ceilings>) -> Option<Regime> {
    let ceilings = ceilings.filter(|_| point.bytes > 0)?;
    let memory_s = ceilings.memory_s(point.bytes);
    let known = RegimePoint {
        time_s: point.time_s,
        slope_s: f64::NAN,
        memory_s,
        compute_s: point.flops / ceilings.matrix_flops_per_s,
        width: point.width,
    };
    match slope(around.iter().map(|point| (point.width as f64, point.time_s))) {
        Some(slope_s) => Some(RegimePoint { slope_s, ..known }.regime()),
        // No slope is known, so it explains nothing: only bytes can.
        None => Some(known.regime()).filter(|regime| *regime == Regime::MemoryBound && memory_s > known.compute_s),
    }
}

/// Runs of equal regimes.
fn runs(regimes: &[Option<Regime>]) -> Vec<Range<usize>> {
    let mut bounds: Vec<usize> = vec![0];
    bounds.extend((1..regimes.len()).filter(|&at| regimes[at] != regimes[at - 1]));
    bounds.push(regimes.len());
    bounds.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// Joins runs that are too short to the one before, or to the one after at the start.
fn settled(runs: Vec<Range<usize>>, regimes: &[Option<Regime>]) -> Vec<(Range<usize>, Option<Regime>)> {
    let mut joined: Vec<(Range<usize>, Option<Regime>)> = Vec::new();
    for run in runs {
        let regime = regimes[run.start];
        match joined.last_mut() {
            Some(last) if run.len() < SHORTEST || last.1 == regime => last.0.end = run.end,
            Some(last) if last.0.len() < SHORTEST => *last = (last.0.start..run.end, regime),
            _ => joined.push((run, regime)),
        }
    }
    joined
}

fn row(points: &[Point], regime: Option<Regime>, ceilings: Option<&Ceilings>, confidence: f64) -> CostStretchRow {
    let (first, last) = (&points[0], &points[points.len() - 1]);
    let slope = slope_interval(points, confidence);
    let share = |seconds: &dyn Fn(&Point) -> f64| {
        let known = points.iter().filter(|point| point.bytes > 0);
        median(&known.map(|point| seconds(point) / point.time_s).collect::<Vec<_>>()).ok()
    };
    CostStretchRow {
        curve: 0,
        from_width: first.width,
        to_width: last.width,
        from_ms: 1e3 * first.time_s,
        to_ms: 1e3 * last.time_s,
        slope_ms: slope.map(|slope| 1e3 * slope.0),
        slope_low_ms: slope.and_then(|slope| slope.1).map(|(low, _)| 1e3 * low),
        slope_high_ms: slope.and_then(|slope| slope.1).map(|(_, high)| 1e3 * high),
        memory_share: ceilings.and_then(|ceilings| share(&|point| ceilings.memory_s(point.bytes))),
        compute_share: ceilings.and_then(|ceilings| share(&|point| point.flops / ceilings.matrix_flops_per_s)),
        regime: regime.map(|regime| regime.to_string()).unwrap_or_default(),
    }
}

/// Seconds that a further token costs on a stretch, and a t interval: every pass that has all its widths gives one slope, so
/// that what slows a whole pass does not count as noise. The slope of the medians where no pass has them all.
fn slope_interval(points: &[Point], confidence: f64) -> Option<(f64, Option<(f64, f64)>)> {
    let of_pass = |pass: &u64| {
        let times: Option<Vec<(f64, f64)>> =
            points.iter().map(|point| Some((point.width as f64, *point.passes.get(pass)?))).collect();
        slope(times?.into_iter())
    };
    let slopes: Vec<f64> = points[0].passes.keys().filter_map(of_pass).collect();
    if slopes.len() < 2 {
        let medians = points.iter().map(|point| (point.width as f64, point.time_s));
        return Some((slope(medians)?, None));
    }
    let mean = stats::summary::mean(&slopes).ok()?;
    let error = stats::summary::standard_deviation(&slopes).ok()? / (slopes.len() as f64).sqrt();
    let reach = students_t(slopes.len() as f64 - 1.0).inverse_cdf(0.5 + confidence / 2.0) * error;
    Some((mean, Some((mean - reach, mean + reach))))
}

/// Least-squares slope of at least three points.
fn slope(points: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let points: Vec<(f64, f64)> = points.collect();
    if points.len() < 3 {
        return None;
    }
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (products, squares) = points.iter().fold((0.0, 0.0), |(products, squares), point| {
        (products + (point.0 - x) * (point.1 - y), squares + (point.0 - x).powi(2))
    });
    Some(products / squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 bytes whatever the width and 10 FLOPs a token, so 100 s and 1 s at these ceilings: the ridge is at 100.
    const CEILINGS: Ceilings =
        Ceilings { bandwidth_bytes_per_s: 1.0, read_bytes_per_s: None, matrix_flops_per_s: 10.0 };

    fn curve(widths: impl Iterator<Item = u64>, seconds: impl Fn(u64) -> f64) -> Vec<Point> {
        let point = |width: u64| {
            // One pass is 10 % faster than the median, one 10 % slower.
            let passes =
                [0.9, 1.0, 1.1].iter().enumerate().map(|(pass, f)| (pass as u64, f * seconds(width))).collect();
            Point { width, time_s: seconds(width), passes, bytes: 100, flops: 10.0 * width as f64 }
        };
        widths.map(point).collect()
    }

    fn found(points: &[Point], starts: &[u64]) -> Vec<(u64, u64, String)> {
        let rows = stretches(points, starts, Some(&CEILINGS), 0.95);
        rows.into_iter().map(|row| (row.from_width, row.to_width, row.regime)).collect()
    }

    #[test]
    fn a_roofline_is_memory_bound_and_then_compute_bound() {
        let points = curve(1..=128, |width| 100f64.max(width as f64) * 1.1);
        let found = found(&points, &[]);
        let names: Vec<&str> = found.iter().map(|stretch| stretch.2.as_str()).collect();
        assert_eq!(names, ["memory-bound", "compute-bound"], "{found:?}");
        // The slope is that of the matrix rate as soon as half of the fit lies beyond the ridge.
        assert!((100..=106).contains(&found[1].0), "{found:?}");
    }

    #[test]
    fn what_grows_with_nothing_is_overhead() {
        assert_eq!(found(&curve(1..=16, |_| 900.0), &[]), [(1, 16, "overhead-bound".to_string())]);
    }

    #[test]
    fn stretches_end_at_cliffs_and_a_lone_slow_width_is_overhead() {
        let points = curve(1..=20, |width| if width == 9 { 500.0 } else { 110.0 });
        let memory = "memory-bound".to_string();
        let expected = [(1, 8, memory.clone()), (9, 9, "overhead-bound".to_string()), (10, 20, memory)];
        assert_eq!(found(&points, &[9, 10]), expected);
        assert_eq!(stretches(&points, &[], None, 0.95).len(), 1);
        assert_eq!(stretches(&points, &[], None, 0.95)[0].memory_share, None);
    }

    /// Level steps of eight widths that together rise as the FLOPs do, far beyond the bytes.
    #[test]
    fn a_staircase_is_judged_by_its_steps_and_not_by_what_lies_between() {
        let points = curve(101..=164, |width| ((width - 1) / 8 + 1) as f64 * 8.0 * 1.2);
        let starts: Vec<u64> = (105..=164).step_by(8).collect();
        let found = found(&points, &starts);
        assert_eq!(found.len(), starts.len() + 1);
        assert!(found.iter().all(|stretch| stretch.2 == "compute-bound"), "{found:?}");
    }

    /// Passes of 0.9, 1 and 1.1 times 5 + 2 b: slopes 1.8, 2 and 2.2, mean 2, standard error 0.2/√3, t(2) at 97.5 % is
    /// 4.302653 (scipy.stats.t.ppf).
    #[test]
    fn a_slope_has_the_t_interval_of_its_passes() {
        let row = &stretches(&curve(1..=6, |width| 5.0 + 2.0 * width as f64), &[], None, 0.95)[0];
        let reach = 4.302652729911275 * 0.2 / 3f64.sqrt();
        for (found, expected) in
            [(row.slope_ms, 2.0), (row.slope_low_ms, 2.0 - reach), (row.slope_high_ms, 2.0 + reach)]
        {
            assert!((found.unwrap() / 1e3 - expected).abs() < 1e-9, "{found:?} is not {expected}");
        }
        let few = &stretches(&curve(1..=2, |_| 1.0), &[], None, 0.95)[0];
        assert_eq!((few.slope_ms, few.slope_low_ms), (None, None));
    }
}
