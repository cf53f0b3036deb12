//! The measured verification cost t(b): exact at measured widths, linear between them, unknown across a cliff.

use anyhow::{Result, bail};
use std::collections::BTreeMap;

/// t(b) at measured widths.
#[derive(Debug, Clone, PartialEq)]
pub struct CostCurve {
    /// (width, seconds), ascending widths.
    points: Vec<(usize, f64)>,
}

/// Two neighbouring measured widths between which t(b) jumps or falls: widths between them are not interpolated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gap {
    pub from_width: usize,
    pub to_width: usize,
    pub from_s: f64,
    pub to_s: f64,
}

/// A rise across a gap below this share of t is never a cliff: interpolating errs by less.
const SMALL_RISE: f64 = 0.25;
/// A rise is a cliff if it is this many times as steep as the steeper neighbouring gap.
const STEEPER: f64 = 4.0;
/// A fall by more than this share of t is a cliff: a wider forward cannot be cheaper on a smooth curve.
const FALL: f64 = 0.05;

impl CostCurve {
    /// The curve through the median of each width's samples (width, seconds). The median, as a sample now and then
    /// meets an interruption of the machine that has nothing to do with the width.
    ///
    /// # Errors
    /// If there is no sample, or a time that is not positive and finite.
    pub fn from_samples(samples: impl IntoIterator<Item = (usize, f64)>) -> Result<CostCurve> {
        let mut by_width: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for (width, seconds) in samples {
            if !(seconds > 0.0 && seconds.is_finite()) {
                bail!("a forward of width {width} is said to take {seconds} s; a time must be positive");
            }
            by_width.entry(width).or_default().push(seconds);
        }
        if by_width.is_empty() {
            bail!("there is no valid time of a target forward; measure t(b) first");
        }
        Ok(CostCurve { points: by_width.into_iter().map(|(width, times)| (width, median(times))).collect() })
    }

    /// (width, seconds) as measured, ascending widths.
    pub fn points(&self) -> &[(usize, f64)] {
        &self.points
    }

    /// Seconds of a forward of this width; none outside the measured widths or inside a cliff.
    pub fn at(&self, width: usize) -> Option<f64> {
        match self.points.binary_search_by_key(&width, |point| point.0) {
            Ok(place) => Some(self.points[place].1),
            Err(0) => None,
            Err(place) if place == self.points.len() || self.is_cliff(place - 1) => None,
            Err(place) => {
                let ((a, from), (b, to)) = (self.points[place - 1], self.points[place]);
                Some(from + (to - from) * (width - a) as f64 / (b - a) as f64)
            }
        }
    }

    /// The width to run a forward of this width at: the cheapest measured wider one if it takes less by more than a fall on a
    /// smooth curve could be, else its own.
    pub fn padded(&self, width: usize) -> usize {
        let wider = self.points.iter().filter(|point| point.0 > width);
        let cheapest = wider.min_by(|a, b| a.1.total_cmp(&b.1));
        match (cheapest, self.at(width)) {
            (Some(&(wider, wider_s)), Some(own_s)) if wider_s < own_s * (1.0 - FALL) => wider,
            _ => width,
        }
    }

    /// Seconds that a further token costs around this measured width: the slope between its neighbours.
    pub fn slope(&self, width: usize) -> Option<f64> {
        let place = self.points.binary_search_by_key(&width, |point| point.0).ok()?;
        let first = self.points[place.saturating_sub(1)];
        let last = self.points[(place + 1).min(self.points.len() - 1)];
        (last.0 > first.0).then(|| (last.1 - first.1) / (last.0 - first.0) as f64)
    }

    /// All cliffs, by ascending width.
    pub fn cliffs(&self) -> Vec<Gap> {
        let gap = |place: usize| {
            let ((from_width, from_s), (to_width, to_s)) = (self.points[place], self.points[place + 1]);
            Gap { from_width, to_width, from_s, to_s }
        };
        (0..self.points.len() - 1).filter(|&place| self.is_cliff(place)).map(gap).collect()
    }

    /// Is the gap after this point a cliff: a fall, a rise more than in proportion to the width, or a rise far steeper
    /// than on either side of it?
    fn is_cliff(&self, place: usize) -> bool {
        let ((a, from), (b, to)) = (self.points[place], self.points[place + 1]);
        if to < from * (1.0 - FALL) {
            return true;
        }
        if to <= from * (1.0 + SMALL_RISE) {
            return false;
        }
        let before = place.checked_sub(1).and_then(|before| self.gap_slope(before));
        let beside: Vec<f64> = [before, self.gap_slope(place + 1)].into_iter().flatten().collect();
        let steepest = beside.iter().copied().fold(0.0, f64::max);
        let steep = !beside.is_empty() && (to - from) / (b - a) as f64 > STEEPER * steepest;
        to / from > b as f64 / a.max(1) as f64 || steep
    }

    fn gap_slope(&self, place: usize) -> Option<f64> {
        let ((a, from), (b, to)) = (self.points.get(place)?, self.points.get(place + 1)?);
        Some((to - from) / (b - a) as f64)
    }
}

/// The middle value, or the mean of the two middle ones. `times` has at least one, all finite.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(usize, f64)]) -> CostCurve {
        CostCurve::from_samples(points.iter().copied()).unwrap()
    }

    #[test]
    fn the_median_stands_for_a_width() {
        let curve = curve(&[(1, 1.0), (1, 9.0), (1, 2.0), (2, 3.0), (2, 4.0)]);
        assert_eq!(curve.points(), [(1, 2.0), (2, 3.5)]);
    }

    #[test]
    fn between_measured_widths_the_curve_is_linear_and_beyond_them_unknown() {
        let curve = curve(&[(2, 10.0), (6, 12.0), (10, 13.0)]);
        assert_eq!(curve.at(2), Some(10.0));
        assert_eq!(curve.at(3), Some(10.5));
        assert_eq!(curve.at(9), Some(12.75));
        assert_eq!((curve.at(1), curve.at(11)), (None, None));
        assert_eq!(curve.slope(6), Some(3.0 / 8.0));
        assert_eq!(curve.slope(2), Some(0.5));
        assert_eq!(curve.cliffs(), []);
    }

    #[test]
    fn nothing_is_interpolated_across_a_step_or_a_fall() {
        let step = curve(&[(4, 10.0), (8, 10.1), (12, 15.0), (16, 15.1)]);
        assert_eq!(step.at(10), None);
        assert_eq!(step.at(12), Some(15.0));
        assert_eq!(step.at(14), Some(15.05));
        assert_eq!(step.cliffs(), [Gap { from_width: 8, to_width: 12, from_s: 10.1, to_s: 15.0 }]);
        let fall = curve(&[(4, 10.0), (8, 8.0)]);
        assert_eq!(fall.at(6), None);
        let overproportional = curve(&[(4, 10.0), (8, 21.0)]);
        assert_eq!(overproportional.at(6), None);
    }

    #[test]
    fn padding_goes_to_the_cheapest_wider_width_if_it_is_clearly_cheaper() {
        // As on a card that changes kernels at 8.
        let curve =
            curve(&[(1, 8.8), (2, 13.1), (4, 20.9), (5, 25.0), (6, 30.0), (7, 33.8), (8, 18.1), (9, 18.6), (16, 17.9)]);
        // 17.9 is less than 18.1 by too little to matter, but once there is reason to pad it is the cheapest.
        let padded: Vec<usize> = [1, 2, 3, 4, 6, 7, 8, 9, 16, 20].map(|width| curve.padded(width)).to_vec();
        assert_eq!(padded, [1, 2, 3, 16, 16, 16, 8, 9, 16, 20]);
    }

    #[test]
    fn a_kink_is_no_cliff() {
        let kink = curve(&[(8, 10.0), (16, 10.2), (32, 20.0), (64, 40.0)]);
        assert_eq!(kink.cliffs(), []);
        assert_eq!(kink.at(24), Some(10.2 + 9.8 / 2.0));
    }

    #[test]
    fn impossible_times_are_refused() {
        for time in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(CostCurve::from_samples([(3, time)]).unwrap_err().to_string().contains("width 3"));
        }
        assert!(CostCurve::from_samples([]).is_err());
    }
}
