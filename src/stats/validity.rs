//! Was the run fit to be analysed? Checks on the control timings (plain decoding, first and last in every prompt).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::error::{Result, StatsError, check_confidence, check_finite, check_length, check_positive};
use super::paired::students_t;
use super::summary::{mean_of, median, median_absolute_deviation, variance_of};

/// A straight line through values over time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Change of the value per unit of time.
    pub slope: f64,
    pub standard_error: f64,
    /// Two-sided p-value of 'no slope'.
    pub p: f64,
}

/// Least-squares slope of `values` over `times` with its t test (Draper and Smith, "Applied Regression Analysis", 3rd
/// edition, section 1.4). Needs three points at two different times.
pub fn trend(times: &[f64], values: &[f64]) -> Result<Trend> {
    check_finite("times", times, 3)?;
    check_finite("values", values, 3)?;
    check_length("values", times.len(), values.len())?;
    let (centre, level) = (mean_of(times), mean_of(values));
    let spread: f64 = times.iter().map(|time| (time - centre).powi(2)).sum();
    if spread == 0.0 {
        return Err(StatsError::NoSpread { what: "times".into() });
    }
    let slope = times.iter().zip(values).map(|(time, value)| (time - centre) * (value - level)).sum::<f64>() / spread;
    let rest =
        times.iter().zip(values).map(|(time, value)| (value - level - slope * (time - centre)).powi(2)).sum::<f64>();
    let freedom = (times.len() - 2) as f64;
    let standard_error = (rest / freedom / spread).sqrt();
    let p = match (slope, standard_error) {
        (0.0, _) => 1.0,
        (_, 0.0) => 0.0,
        (slope, standard_error) => 2.0 * students_t(freedom).cdf(-(slope / standard_error).abs()),
    };
    Ok(Trend { slope, standard_error, p })
}

/// Correlation of neighbours in a series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Autocorrelation {
    pub lag_1: f64,
    /// p-value of 'independent'.
    pub p: f64,
}

/// Lag-1 autocorrelation of values in the order taken, with the test of Ljung and Box, "On a measure of lack of fit in time
/// series models", 1978. Needs four values that are not all equal.
pub fn autocorrelation(values: &[f64]) -> Result<Autocorrelation> {
    check_finite("values", values, 4)?;
    let (n, centre) = (values.len() as f64, mean_of(values));
    let total: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    if total == 0.0 {
        return Err(StatsError::NoSpread { what: "values".into() });
    }
    let lag_1 = values.windows(2).map(|pair| (pair[0] - centre) * (pair[1] - centre)).sum::<f64>() / total;
    let statistic = n * (n + 2.0) * lag_1 * lag_1 / (n - 1.0);
    Ok(Autocorrelation { lag_1, p: ChiSquared::new(1.0).expect("one is positive").sf(statistic) })
}

/// Scores above this mark an outlier (Iglewicz and Hoaglin).
pub const OUTLIER_SCORE: f64 = 3.5;

/// Modified z-scores, 0.6745 (x - median) / MAD (Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993). Where
/// more than half of the values are equal the mean absolute deviation takes the place of the MAD, as there; all zero where
/// all values are equal.
pub fn modified_z_scores(values: &[f64]) -> Result<Vec<f64>> {
    let centre = median(values)?;
    let scale = match median_absolute_deviation(values)? {
        0.0 => mean_of(&values.iter().map(|value| (value - centre).abs()).collect::<Vec<_>>()) * 1.253314,
        deviation => deviation / 0.6745,
    };
    Ok(values.iter().map(|value| if scale == 0.0 { 0.0 } else { (value - centre) / scale }).collect())
}

/// Indices of the values with a modified z-score beyond [`OUTLIER_SCORE`]. They are reported, never removed silently.
pub fn outliers(values: &[f64]) -> Result<Vec<usize>> {
    let scores = modified_z_scores(values)?;
    Ok((0..values.len()).filter(|&i| scores[i].abs() > OUTLIER_SCORE).collect())
}

/// Variance that each level of a nested design adds, outermost first (Kalibera and Jones, "Rigorous benchmarking in
/// reasonable time", 2013, section 6): `shape` counts the members of each level (launches, prompts in a launch, repeats of a
/// prompt) and `values` lists them with the innermost level fastest. A negative estimate is given as 0.
pub fn variance_by_level(values: &[f64], shape: &[usize]) -> Result<Vec<f64>> {
    check_finite("values", values, 2)?;
    check_length("values of the nested design", shape.iter().product(), values.len())?;
    if let Some(&found) = shape.iter().find(|&&members| members < 2) {
        return Err(StatsError::TooFew { what: "members of a level".into(), needed: 2, found });
    }
    let mut components = Vec::new();
    let (mut means, mut inherited) = (values.to_vec(), 0.0);
    for &members in shape.iter().rev() {
        let groups: Vec<&[f64]> = means.chunks_exact(members).collect();
        let between = mean_of(&groups.iter().map(|group| variance_of(group)).collect::<Vec<_>>());
        components.push((between - inherited).max(0.0));
        inherited = between / members as f64;
        means = groups.into_iter().map(mean_of).collect();
    }
    components.reverse();
    Ok(components)
}

/// A timing of plain decoding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Seconds since the run began.
    pub time_s: f64,
    pub prompt: usize,
    pub seconds_per_token: f64,
}

/// What the controls say about the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// Relative change from the first prompt to the last; none with too few prompts.
    pub drift: Option<Trend>,
    /// Of the prompts' controls about that line, in the order taken; none with too few prompts.
    pub autocorrelation: Option<Autocorrelation>,
    /// Relative standard deviations between prompts and between the controls of one prompt (Kalibera and Jones); none unless
    /// every prompt has as many controls.
    pub spread: Option<[f64; 2]>,
    /// Prompts with an outlying control: the decision is to be repeated without them.
    pub outlying_prompts: Vec<usize>,
    /// About drift and correlation; the outlying prompts are for the caller to name.
    pub warnings: Vec<String>,
}

/// Checks the controls. Those of one prompt are not independent, so a prompt counts as one point (their mean); with prompts
/// in random order their own differences are noise about the line and not drift.
pub fn check_controls(controls: &[Control], confidence: f64, margin: f64) -> Result<Validity> {
    check_confidence(confidence)?;
    let seconds: Vec<f64> = controls.iter().map(|control| control.seconds_per_token).collect();
    check_positive("controls", &seconds, 1)?;
    check_finite("times of controls", &controls.iter().map(|control| control.time_s).collect::<Vec<_>>(), 1)?;
    let (places, values) = prompt_means(controls);
    let drift = trend(&places, &values).ok();
    let residual = |(place, value): (&f64, &f64)| value - drift.map_or(0.0, |drift| drift.slope * place);
    let mut outlying_prompts: Vec<usize> = outliers(&seconds)?.into_iter().map(|at| controls[at].prompt).collect();
    outlying_prompts.sort_unstable();
    outlying_prompts.dedup();
    let mut validity = Validity {
        drift,
        autocorrelation: autocorrelation(&places.iter().zip(&values).map(residual).collect::<Vec<_>>()).ok(),
        spread: spread(controls),
        outlying_prompts,
        warnings: Vec::new(),
    };
    validity.warnings = warnings(&validity, places.len(), confidence, margin);
    Ok(validity)
}

fn spread(controls: &[Control]) -> Option<[f64; 2]> {
    let mut prompts: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    controls.iter().for_each(|control| prompts.entry(control.prompt).or_default().push(control.seconds_per_token));
    let each = prompts.values().next()?.len();
    if prompts.values().any(|own| own.len() != each) {
        return None;
    }
    let values: Vec<f64> = prompts.values().flatten().copied().collect();
    let variances = variance_by_level(&values, &[prompts.len(), each]).ok()?;
    let level = mean_of(&values);
    Some([variances[0].sqrt() / level, variances[1].sqrt() / level])
}

/// When, from 0 at the first prompt to 1 at the last, and seconds over their grand mean; one entry a prompt, in the order
/// taken.
fn prompt_means(controls: &[Control]) -> (Vec<f64>, Vec<f64>) {
    let mut prompts: BTreeMap<usize, Vec<&Control>> = BTreeMap::new();
    controls.iter().for_each(|control| prompts.entry(control.prompt).or_default().push(control));
    let mean_by = |own: &[&Control], value: fn(&Control) -> f64| {
        own.iter().map(|control| value(control)).sum::<f64>() / own.len() as f64
    };
    let mut points: Vec<(f64, f64)> =
        prompts.values().map(|own| (mean_by(own, |c| c.time_s), mean_by(own, |c| c.seconds_per_token))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let level = points.iter().map(|point| point.1).sum::<f64>() / points.len() as f64;
    let first = points.first().map_or(0.0, |point| point.0);
    let whole = points.last().map_or(0.0, |point| point.0) - first;
    points.into_iter().map(|(time, seconds)| ((time - first) / whole, seconds / level)).unzip()
}

fn warnings(validity: &Validity, prompts: usize, confidence: f64, margin: f64) -> Vec<String> {
    let alpha = 1.0 - confidence;
    let mut warnings = Vec::new();
    match &validity.drift {
        Some(drift) if drift.p <= alpha => {
            let total = drift.slope;
            let advice =
                if total.abs() > margin { ": more than the margin, repeat on a quiet, cool machine" } else { "" };
            warnings.push(format!("plain decoding drifted by {:+.1} % over the run{advice}", 100.0 * total));
        }
        Some(_) => {}
        None => warnings.push(format!("{prompts} prompts with controls: drift cannot be checked")),
    }
    if let Some(series) = validity.autocorrelation.filter(|series| series.p <= alpha && series.lag_1 > 0.0) {
        let correlation = series.lag_1;
        warnings.push(format!("successive prompts are correlated ({correlation:.2}): intervals are too narrow"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn controls(drift: f64) -> Vec<Control> {
        let wobble = |i: usize| 0.004 * ((i * 5 % 13) as f64 - 6.0) / 6.0;
        let control = |i: usize| Control {
            time_s: 60.0 * i as f64,
            prompt: i / 2,
            seconds_per_token: 0.01 * (1.0 + drift * i as f64 / 24.0 + wobble(i)),
        };
        (0..24).map(control).collect()
    }

    #[test]
    fn drift_is_seen_and_a_steady_machine_passes() {
        assert_eq!(check_controls(&controls(0.0), 0.95, 0.02).unwrap().warnings, Vec::<String>::new());
        let drifting = check_controls(&controls(0.06), 0.95, 0.02).unwrap();
        assert!(drifting.warnings[0].contains("more than the margin"), "{:?}", drifting.warnings);
        // 6 % from the first of 24 controls to one after the last; the prompts' means are 22 controls apart.
        assert!((drifting.drift.unwrap().slope - 0.06 * 22.0 / 24.0).abs() < 0.01, "{:?}", drifting.drift);
        let mut hit = controls(0.0);
        hit[5].seconds_per_token *= 1.5;
        let validity = check_controls(&hit, 0.95, 0.02).unwrap();
        assert_eq!(validity.outlying_prompts, [2]);
    }

    #[test]
    fn two_prompts_cannot_show_drift() {
        let validity = check_controls(&controls(0.8)[..4], 0.95, 0.02).unwrap();
        assert!(validity.warnings[0].contains("drift cannot be checked"));
        assert!(check_controls(&[], 0.95, 0.02).is_err());
    }

    #[test]
    fn an_outlier_is_named_and_equal_values_have_none() {
        assert_eq!(outliers(&[1.0, 1.1, 0.9, 1.05, 0.95, 5.0]).unwrap(), [5]);
        assert_eq!(outliers(&[1.0, 1.0, 1.0, 1.0, 9.0]).unwrap(), [4]);
        assert_eq!(outliers(&[1.0; 5]).unwrap(), Vec::<usize>::new());
    }

    #[test]
    fn bad_series_are_refused() {
        assert!(trend(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]).is_err() && trend(&[1.0, 2.0], &[1.0, 2.0]).is_err());
        assert!(autocorrelation(&[1.0; 8]).is_err() && autocorrelation(&[1.0, f64::NAN, 1.0, 2.0]).is_err());
        assert!(variance_by_level(&[1.0; 6], &[2, 2]).is_err() && variance_by_level(&[1.0; 6], &[6, 1]).is_err());
        assert_eq!(trend(&[0.0, 1.0, 2.0], &[1.0, 2.0, 3.0]).unwrap().slope, 1.0);
    }

    proptest! {
        #[test]
        fn shift_and_scale_do_not_matter(values in prop::collection::vec(-5.0..5.0f64, 4..30), shift in -9.0..9.0f64, scale in 0.1..9.0f64) {
            let times: Vec<f64> = (0..values.len()).map(|i| i as f64).collect();
            let moved: Vec<f64> = values.iter().map(|value| scale * value + shift).collect();
            let (a, b) = (trend(&times, &values).unwrap(), trend(&times, &moved).unwrap());
            prop_assert!((a.p - b.p).abs() < 1e-6 && (scale * a.slope - b.slope).abs() < 1e-9);
            let (a, b) = (autocorrelation(&values).unwrap(), autocorrelation(&moved).unwrap());
            prop_assert!((a.lag_1 - b.lag_1).abs() < 1e-9);
            let (a, b) = (modified_z_scores(&values).unwrap(), modified_z_scores(&moved).unwrap());
            prop_assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6 * (1.0 + a.abs())));
        }
    }
}
