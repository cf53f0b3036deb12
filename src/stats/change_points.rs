//! Where a measured cost curve jumps or falls: cliffs with intervals, and widths that are worth padding to.

use serde::{Deserialize, Serialize};
use statrs::distribution::ContinuousCDF;

use super::error::{Result, StatsError, check_confidence, check_length, check_positive};
use super::moderated::moderated;
use super::multiple::holm;
use super::paired::students_t;
use super::summary::{mean_of, variance_of};

/// A change between two neighbouring measured widths: where between them it happens is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub from_width: usize,
    pub to_width: usize,
    /// Seconds at `to_width` over seconds at `from_width`, less one.
    pub relative: f64,
    /// Lower end of the interval of `relative`, simultaneous over all gaps.
    pub low: f64,
    /// Upper end of the interval of `relative`, simultaneous over all gaps.
    pub high: f64,
    /// p-value of 'this gap is no steeper than its neighbours' for a rise, of 'no fall' for a fall; Holm over all gaps.
    pub p_holm: f64,
}

/// A width at which it pays to run a wider forward.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Padding {
    pub width: usize,
    /// The cheapest wider width.
    pub pad_to: usize,
    /// Share of the seconds that it saves, by the geometric means of passes.
    pub saving: f64,
    /// p-value of 'saves nothing', Holm over all widths.
    pub p_holm: f64,
}

/// What was found on a curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangePoints {
    /// Rises that are steeper than on either side.
    pub cliffs: Vec<Change>,
    /// Falls: the curve is not monotone there.
    pub falls: Vec<Change>,
    pub paddings: Vec<Padding>,
}

/// Finds cliffs, falls and widths to pad from `samples[width]` (seconds of several passes, at least two a width), at
/// ascending `widths`.
///
/// Tests of cliffs and falls are Welch's on means of passes ("The generalization of Student's problem when several different
/// population variances are involved", 1947), Holm-adjusted; a cliff must be steeper than both neighbouring gaps (an
/// intersection of two hypotheses, Berger 1982) and its jump at least `smallest` relative to the curve. Intervals are
/// simultaneous (Bonferroni).
///
/// Padding compares each width with the cheapest of all wider ones, thousands of comparisons, which the few passes of a width
/// cannot carry with a variance of their own. They are t tests on logarithms with moderated variances (see
/// [`moderated`]), Bonferroni over the wider widths and Holm over the widths.
pub fn change_points(widths: &[usize], samples: &[Vec<f64>], confidence: f64, smallest: f64) -> Result<ChangePoints> {
    check_confidence(confidence)?;
    check_length("samples of the widths", widths.len(), samples.len())?;
    if widths.len() < 2 {
        return Err(StatsError::TooFew { what: "widths".into(), needed: 2, found: widths.len() });
    }
    if let Some(pair) = widths.windows(2).find(|pair| pair[0] >= pair[1]) {
        let what = format!("width {} (or widths are not in ascending order)", pair[1]);
        return Err(StatsError::Duplicate { what });
    }
    for (width, passes) in widths.iter().zip(samples) {
        check_positive(&format!("seconds at width {width}"), passes, 2)?;
    }
    let points: Vec<Point> = widths.iter().zip(samples).map(|(&width, passes)| Point::new(width, passes)).collect();
    let alpha = 1.0 - confidence;
    Ok(ChangePoints {
        cliffs: changes(&points, alpha, |gap| p_steeper(&points, gap), |change| change.relative >= smallest)?,
        falls: changes(
            &points,
            alpha,
            |gap| p_below(&points[gap + 1], &points[gap]),
            |change| change.relative <= -smallest,
        )?,
        paddings: paddings(&moderated_points(widths, samples)?, alpha)?,
    })
}

/// A width with the mean of its passes.
struct Point {
    width: usize,
    mean: f64,
    /// Squared standard error of the mean.
    error: f64,
    freedom: f64,
}

impl Point {
    fn new(width: usize, passes: &[f64]) -> Self {
        let n = passes.len() as f64;
        Point { width, mean: mean_of(passes), error: variance_of(passes) / n, freedom: n - 1.0 }
    }
}

/// The gaps with a Holm-adjusted p-value of at most `alpha` that are large enough.
fn changes(
    points: &[Point],
    alpha: f64,
    p_value: impl Fn(usize) -> f64,
    large_enough: impl Fn(&Change) -> bool,
) -> Result<Vec<Change>> {
    let gaps = points.len() - 1;
    let adjusted = holm(&(0..gaps).map(p_value).collect::<Vec<_>>())?;
    let change = |gap: usize| {
        let (from, to) = (&points[gap], &points[gap + 1]);
        let relative = to.mean / from.mean - 1.0;
        let (low, high) = ratio_interval(to, from, alpha / gaps as f64);
        Change { from_width: from.width, to_width: to.width, relative, low, high, p_holm: adjusted[gap] }
    };
    Ok((0..gaps).map(change).filter(|change| change.p_holm <= alpha && large_enough(change)).collect())
}

/// Interval of the ratio of two means, less one, on the logarithmic scale (delta method).
fn ratio_interval(above: &Point, below: &Point, alpha: f64) -> (f64, f64) {
    let parts = [(above.error / above.mean.powi(2), above.freedom), (below.error / below.mean.powi(2), below.freedom)];
    let (variance, freedom) = satterthwaite(&parts);
    let reach = if variance > 0.0 { students_t(freedom).inverse_cdf(1.0 - alpha / 2.0) * variance.sqrt() } else { 0.0 };
    let ratio = above.mean / below.mean;
    (ratio * (-reach).exp() - 1.0, ratio * reach.exp() - 1.0)
}

/// p-value of 'the rise per unit of width after `gap` is no more than in the gap before, or no more than in the one after'.
fn p_steeper(points: &[Point], gap: usize) -> f64 {
    let beside = [gap.checked_sub(1), Some(gap + 1).filter(|&next| next + 1 < points.len())];
    let compared: Vec<f64> = beside.into_iter().flatten().map(|other| p_contrast(points, gap, other)).collect();
    if compared.is_empty() { 1.0 } else { compared.into_iter().fold(0.0, f64::max) }
}

/// p-value of 'the slope of `gap` is at most that of `other` or flat'.
fn p_contrast(points: &[Point], gap: usize, other: usize) -> f64 {
    let slope = |gap: usize| -> [(usize, f64); 2] {
        let width = (points[gap + 1].width - points[gap].width) as f64;
        [(gap + 1, width.recip()), (gap, -width.recip())]
    };
    let mut weights = vec![0.0; points.len()];
    slope(gap).into_iter().for_each(|(at, weight)| weights[at] += weight);
    let rise = p_positive(points, &weights);
    slope(other).into_iter().for_each(|(at, weight)| weights[at] -= weight);
    rise.max(p_positive(points, &weights))
}

/// p-value of 'Σ weight · mean is at most zero'.
fn p_positive(points: &[Point], weights: &[f64]) -> f64 {
    let used = points.iter().zip(weights).filter(|(_, weight)| **weight != 0.0);
    let estimate: f64 = used.clone().map(|(point, weight)| weight * point.mean).sum();
    let parts: Vec<(f64, f64)> = used.map(|(point, weight)| (weight * weight * point.error, point.freedom)).collect();
    let (variance, freedom) = satterthwaite(&parts);
    if variance == 0.0 {
        f64::from(u8::from(estimate <= 0.0))
    } else {
        students_t(freedom).sf(estimate / variance.sqrt())
    }
}

/// p-value of 'the first is not below the second'.
fn p_below(first: &Point, second: &Point) -> f64 {
    p_positive(&[Point { ..*second }, Point { ..*first }], &[1.0, -1.0])
}

/// The sum of independent variances and its degrees of freedom (Satterthwaite 1946).
fn satterthwaite(parts: &[(f64, f64)]) -> (f64, f64) {
    let variance: f64 = parts.iter().map(|part| part.0).sum();
    let spread: f64 = parts.iter().map(|(variance, freedom)| variance * variance / freedom).sum();
    (variance, if spread > 0.0 { variance * variance / spread } else { 1.0 })
}

/// The widths with means of logarithms and moderated variances. The prior's freedom is shared by the two widths of a
/// comparison, so each has half of it, and none has more than all samples together.
fn moderated_points(widths: &[usize], samples: &[Vec<f64>]) -> Result<Vec<Point>> {
    let logs: Vec<Vec<f64>> = samples.iter().map(|passes| passes.iter().map(|s| s.ln()).collect()).collect();
    let variances: Vec<f64> = logs.iter().map(|logs| variance_of(logs)).collect();
    let freedom: Vec<f64> = logs.iter().map(|logs| logs.len() as f64 - 1.0).collect();
    let moderated = moderated(&variances, &freedom)?;
    let most: f64 = freedom.iter().sum();
    let point = |at: usize| Point {
        width: widths[at],
        mean: mean_of(&logs[at]),
        error: moderated.variances[at] / logs[at].len() as f64,
        freedom: (freedom[at] + moderated.prior_freedom / 2.0).min(most),
    };
    Ok((0..widths.len()).map(point).collect())
}

/// Of points whose means are of logarithms.
fn paddings(points: &[Point], alpha: f64) -> Result<Vec<Padding>> {
    let candidates: Vec<(usize, usize)> = (0..points.len() - 1)
        .map(|at| {
            let cheapest = (at + 1..points.len()).min_by(|&a, &b| points[a].mean.total_cmp(&points[b].mean));
            (at, cheapest.expect("a wider width"))
        })
        .collect();
    // The cheapest of the wider widths was picked among all of them.
    let p_of = |&(at, wider): &(usize, usize)| {
        let picked_from = (points.len() - 1 - at) as f64;
        (picked_from * p_below(&points[wider], &points[at])).min(1.0)
    };
    let adjusted = holm(&candidates.iter().map(p_of).collect::<Vec<_>>())?;
    let padding = |(&(at, wider), p_holm): (&(usize, usize), f64)| Padding {
        width: points[at].width,
        pad_to: points[wider].width,
        saving: 1.0 - (points[wider].mean - points[at].mean).exp(),
        p_holm,
    };
    Ok(candidates.iter().zip(adjusted).map(padding).filter(|padding| padding.p_holm <= alpha).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal, StudentT};

    fn measured(curve: impl Fn(usize) -> f64, widths: &[usize]) -> Vec<Vec<f64>> {
        let noise = |width: usize, pass: usize| 1.0 + 0.002 * (((width * 31 + pass * 17) % 13) as f64 - 6.0);
        widths.iter().map(|&width| (0..6).map(|pass| curve(width) * noise(width, pass)).collect()).collect()
    }

    fn found(curve: impl Fn(usize) -> f64) -> ChangePoints {
        let widths: Vec<usize> = (1..=24).collect();
        change_points(&widths, &measured(curve, &widths), 0.95, 0.05).unwrap()
    }

    #[test]
    fn a_cliff_is_found_with_its_size_and_a_straight_line_has_none() {
        let points = found(|width| if width <= 8 { 1.0 } else { 1.6 });
        let cliff = points.cliffs[0];
        assert_eq!((points.cliffs.len(), cliff.from_width, cliff.to_width), (1, 8, 9));
        assert!(cliff.low < 0.6 && 0.6 < cliff.high && cliff.high - cliff.low < 0.1);
        assert!(points.falls.is_empty() && points.paddings.is_empty());
        let straight = found(|width| width as f64);
        assert!(straight.cliffs.is_empty() && straight.falls.is_empty() && straight.paddings.is_empty());
    }

    #[test]
    fn where_the_curve_falls_it_pays_to_pad() {
        let points = found(|width| if (9..=12).contains(&width) { 2.0 } else { 1.0 });
        assert_eq!((points.falls[0].from_width, points.falls[0].to_width), (12, 13));
        let padded: Vec<usize> = points.paddings.iter().map(|padding| padding.width).collect();
        assert_eq!(padded, [9, 10, 11, 12]);
        assert!(points.paddings.iter().all(|padding| padding.pad_to >= 13 && (padding.saving - 0.5).abs() < 0.02));
    }

    /// Passes of a curve with log-normal noise, t-distributed noise of 3 degrees of freedom, noise that differs by width, and
    /// hiccups: families of 128 widths in which a level curve is called worth padding anywhere.
    #[test]
    fn a_level_curve_is_hardly_ever_called_worth_padding_and_a_dear_width_is() {
        const CURVES: usize = 200;
        let widths: Vec<usize> = (1..=128).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let students = StudentT::new(3.0).unwrap();
        let mut count = |noise: &dyn Fn(&mut ChaCha8Rng, f64) -> f64, dear: f64| {
            let mut found = 0;
            for _ in 0..CURVES {
                let mut passes = |width: usize| -> Vec<f64> {
                    let own: f64 = StandardNormal.sample(&mut rng);
                    let level = if width == 5 { dear } else { 1.0 };
                    (0..7).map(|_| level * noise(&mut rng, own).exp()).collect()
                };
                let samples: Vec<Vec<f64>> = widths.iter().map(|&width| passes(width)).collect();
                let paddings = change_points(&widths, &samples, 0.95, 0.05).unwrap().paddings;
                found += usize::from(paddings.iter().any(|padding| dear == 1.0 || padding.width == 5));
            }
            found
        };
        let normal = |rng: &mut ChaCha8Rng| -> f64 { StandardNormal.sample(rng) };
        type Noise<'a> = &'a dyn Fn(&mut ChaCha8Rng, f64) -> f64;
        // The last number: how often the dear width is to be found, by what was found once less three standard errors.
        let noises: [(&str, Noise, usize); 4] = [
            ("normal", &|rng, _| 0.03 * normal(rng), 197),
            ("heavy tails", &|rng, _| 0.03 * students.sample(rng), 130),
            ("noisier widths", &|rng, own| 0.03 * (0.7 * own).exp() * normal(rng), 99),
            ("hiccups", &|rng, _| 0.03 * normal(rng) + if rng.random_bool(0.01) { 0.4 } else { 0.0 }, 185),
        ];
        for (name, noise, least) in noises {
            // 5 % of 200 curves and three standard errors.
            let wrong = count(noise, 1.0);
            assert!(wrong <= 19, "{name}: {wrong} of {CURVES} level curves");
            let right = count(noise, 1.4);
            assert!(right >= least, "{name}: {right} of {CURVES} curves with a width 40 % too dear");
        }
    }

    #[test]
    fn bad_curves_are_refused() {
        let refused = |widths: &[usize], samples: &[Vec<f64>]| change_points(widths, samples, 0.95, 0.05).unwrap_err();
        let two = vec![1.0, 1.1];
        assert!(matches!(refused(&[1, 2], std::slice::from_ref(&two)), StatsError::Length { .. }));
        assert!(matches!(refused(&[1], std::slice::from_ref(&two)), StatsError::TooFew { .. }));
        assert!(matches!(refused(&[2, 2], &[two.clone(), two.clone()]), StatsError::Duplicate { .. }));
        let error = refused(&[1, 2], &[two.clone(), vec![1.0]]);
        assert!(error.to_string().starts_with("seconds at width 2"), "{error}");
        assert!(matches!(refused(&[1, 2], &[two, vec![1.0, -1.0]]), StatsError::NotPositive { .. }));
    }

    #[test]
    fn curves_without_noise_are_read_literally() {
        let samples: Vec<Vec<f64>> = [1.0, 1.0, 2.0, 2.0, 1.5].iter().map(|&s| vec![s; 3]).collect();
        let points = change_points(&[1, 2, 4, 8, 16], &samples, 0.95, 0.05).unwrap();
        assert_eq!((points.cliffs.len(), points.cliffs[0].to_width, points.cliffs[0].low), (1, 4, 1.0));
        assert_eq!((points.falls.len(), points.falls[0].from_width), (1, 8));
        assert_eq!(points.paddings.iter().map(|p| (p.width, p.pad_to)).collect::<Vec<_>>(), [(4, 16), (8, 16)]);
    }
}
