//! What shape is a cost curve? Constant, straight, bent once, or in steps: judged by how well widths that were left out
//! are predicted.

use serde::{Deserialize, Serialize};

use super::error::{Result, StatsError, check_finite, check_length, check_positive};
use super::summary::{mean_of, variance_of};

/// The shapes, from the simplest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    Constant,
    Linear,
    /// Two straight pieces that meet at a measured width.
    OneKink,
    /// Level pieces.
    Steps,
}

/// Every shape, from the simplest on.
pub const SHAPES: [Shape; 4] = [Shape::Constant, Shape::Linear, Shape::OneKink, Shape::Steps];

/// Most steps that are looked for.
const MOST_STEPS: usize = 16;

/// A fitted curve: pieces in ascending order of width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    pub shape: Shape,
    pub pieces: Vec<Piece>,
}

/// A straight piece of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// Width from which the piece holds; the first one also holds below.
    pub from_width: f64,
    /// Value at `from_width`.
    pub level: f64,
    /// Change per unit of width.
    pub slope: f64,
}

impl Curve {
    /// Value at a width.
    pub fn at(&self, width: f64) -> f64 {
        let piece = self.pieces.iter().rev().find(|piece| piece.from_width <= width).unwrap_or(&self.pieces[0]);
        piece.level + piece.slope * (width - piece.from_width)
    }
}

/// One shape with its errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    pub curve: Curve,
    /// Mean absolute relative error at widths that were left out of the fit, one at a time.
    pub error_left_out: f64,
}

/// The fits and the shape that is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelChoice {
    pub chosen: Shape,
    /// The shapes that so many widths can support, from the simplest on.
    pub fits: Vec<Fit>,
}

impl ModelChoice {
    /// The fit of the chosen shape.
    pub fn fit(&self) -> &Fit {
        self.fits.iter().find(|fit| fit.curve.shape == self.chosen).expect("the chosen shape was fitted")
    }
}

/// Fits every shape to `seconds` at ascending `widths` (one value a width, relative errors weighted alike) and chooses by
/// leave-one-width-out error with the one-standard-error rule: the simplest shape whose mean absolute error is within one
/// standard error of the smallest (Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees", 1984,
/// section 3.4.3). Needs three widths; a shape needs two more widths than it has parameters.
pub fn choose_model(widths: &[f64], seconds: &[f64]) -> Result<ModelChoice> {
    check_finite("widths", widths, 3)?;
    check_positive("seconds", seconds, 3)?;
    check_length("seconds", widths.len(), seconds.len())?;
    if let Some(at) = widths.windows(2).position(|pair| pair[0] >= pair[1]) {
        return Err(StatsError::Duplicate {
            what: format!("width {} (or widths are not in ascending order)", widths[at + 1]),
        });
    }
    let mut fits = Vec::new();
    let mut errors = Vec::new();
    for shape in SHAPES.into_iter().filter(|&shape| widths.len() >= fewest_widths(shape)) {
        let left_out = errors_left_out(shape, widths, seconds);
        fits.push(Fit { curve: fit(shape, widths, seconds), error_left_out: mean_of(&left_out) });
        errors.push(left_out);
    }
    let best = errors.iter().min_by(|a, b| mean_of(a).total_cmp(&mean_of(b))).expect("three widths support a constant");
    let allowed = mean_of(best) + (variance_of(best) / best.len() as f64).sqrt();
    let simplest =
        errors.iter().position(|left_out| mean_of(left_out) <= allowed).expect("the best is within its own error");
    Ok(ModelChoice { chosen: fits[simplest].curve.shape, fits })
}

fn fewest_widths(shape: Shape) -> usize {
    match shape {
        Shape::Constant => 3,
        Shape::Linear => 4,
        Shape::OneKink | Shape::Steps => 6,
    }
}

/// Absolute errors, since next to a step a left-out width is off by the whole step under any shape.
fn errors_left_out(shape: Shape, widths: &[f64], seconds: &[f64]) -> Vec<f64> {
    let without = |values: &[f64], out: usize| [&values[..out], &values[out + 1..]].concat();
    (0..widths.len())
        .map(|out| {
            let curve = fit(shape, &without(widths, out), &without(seconds, out));
            (curve.at(widths[out]) / seconds[out] - 1.0).abs()
        })
        .collect()
}

/// Least squares of relative errors.
fn fit(shape: Shape, widths: &[f64], seconds: &[f64]) -> Curve {
    let pieces = match shape {
        Shape::Constant => vec![Piece { from_width: widths[0], level: level(seconds).0, slope: 0.0 }],
        Shape::Linear => straight(widths, seconds),
        Shape::OneKink => bent(widths, seconds),
        Shape::Steps => steps(widths, seconds),
    };
    Curve { shape, pieces }
}

/// The level with the least squared relative error, and that error.
fn level(seconds: &[f64]) -> (f64, f64) {
    let inverse: f64 = seconds.iter().map(|s| s.recip()).sum();
    let inverse_squares: f64 = seconds.iter().map(|s| s.powi(-2)).sum();
    let level = inverse / inverse_squares;
    (level, (seconds.len() as f64 - level * inverse).max(0.0))
}

fn straight(widths: &[f64], seconds: &[f64]) -> Vec<Piece> {
    let (coefficients, _) = regression(widths, seconds, &|width| [1.0, width - widths[0], 0.0], 2);
    vec![Piece { from_width: widths[0], level: coefficients[0], slope: coefficients[1] }]
}

/// The best of all bends at an inner width.
fn bent(widths: &[f64], seconds: &[f64]) -> Vec<Piece> {
    let start = widths[0];
    let inner = &widths[1..widths.len() - 1];
    let (_, bend, [level, slope, change]) = inner
        .iter()
        .map(|&bend| {
            let terms = |width: f64| [1.0, width - start, (width - bend).max(0.0)];
            let (coefficients, error) = regression(widths, seconds, &terms, 3);
            (error, bend, coefficients)
        })
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .expect("an inner width");
    vec![
        Piece { from_width: start, level, slope },
        Piece { from_width: bend, level: level + slope * (bend - start), slope: slope + change },
    ]
}

/// Level pieces by dynamic programming over where they begin (Jackson et al., "An algorithm for optimal partitioning of
/// data on an interval", 2005), their number by the Bayesian information criterion of Yao, "Estimating the number of
/// change-points via Schwarz' criterion", 1988. A piece begins midway between two measured widths.
fn steps(widths: &[f64], seconds: &[f64]) -> Vec<Piece> {
    let n = widths.len();
    let error = |from: usize, to: usize| level(&seconds[from..to]).1;
    let table: Vec<Vec<f64>> = (0..n).map(|from| (from + 1..=n).map(|to| error(from, to)).collect()).collect();
    let error = |from: usize, to: usize| table[from][to - from - 1];
    // best[pieces - 1][to]: least error of the first `to` widths in so many pieces, and where the last piece begins.
    let mut best =
        vec![(0..=n).map(|to| if to == 0 { (f64::INFINITY, 0) } else { (error(0, to), 0) }).collect::<Vec<_>>()];
    for pieces in 2..=MOST_STEPS.min(n / 2) {
        let shorter: &Vec<(f64, usize)> = &best[pieces - 2];
        let extended = (0..=n).map(|to| {
            let candidates = (pieces - 1..to).map(|from| (shorter[from].0 + error(from, to), from));
            candidates.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::INFINITY, 0))
        });
        let extended = extended.collect();
        best.push(extended);
    }
    // A timing does not repeat better than this, so a perfect fit is not infinitely good.
    let floor = 1e-8 * n as f64;
    let criterion = |pieces: usize| {
        let variance = (best[pieces - 1][n].0 + floor) / n as f64;
        n as f64 * variance.ln() + 2.0 * pieces as f64 * (n as f64).ln()
    };
    let count = (1..=best.len()).min_by(|&a, &b| criterion(a).total_cmp(&criterion(b))).expect("one piece");
    let (mut to, mut pieces) = (n, Vec::new());
    for count in (1..=count).rev() {
        let from = best[count - 1][to].1;
        let from_width = if from == 0 { widths[0] } else { (widths[from - 1] + widths[from]) / 2.0 };
        pieces.push(Piece { from_width, level: level(&seconds[from..to]).0, slope: 0.0 });
        to = from;
    }
    pieces.reverse();
    pieces
}

/// Coefficients of the first `count` of three terms by least squares of relative errors, and the squared error.
fn regression(widths: &[f64], seconds: &[f64], terms: &dyn Fn(f64) -> [f64; 3], count: usize) -> ([f64; 3], f64) {
    let mut normal = [[0.0; 4]; 3];
    for (&width, &value) in widths.iter().zip(seconds) {
        let scaled = terms(width).map(|term| term / value);
        for row in 0..count {
            for column in 0..count {
                normal[row][column] += scaled[row] * scaled[column];
            }
            normal[row][3] += scaled[row];
        }
    }
    let coefficients = solve(normal, count);
    let predicted = |width: f64| terms(width).iter().zip(coefficients).map(|(term, c)| term * c).sum::<f64>();
    let error = widths.iter().zip(seconds).map(|(&width, value)| (predicted(width) / value - 1.0).powi(2)).sum();
    (coefficients, error)
}

/// Gaussian elimination with pivoting of a small system whose right-hand side is the last column.
fn solve(mut rows: [[f64; 4]; 3], count: usize) -> [f64; 3] {
    for column in 0..count {
        let pivot = (column..count).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()));
        rows.swap(column, pivot.expect("a row is left"));
        for row in 0..count {
            if row != column && rows[column][column] != 0.0 {
                let factor = rows[row][column] / rows[column][column];
                let pivot_row = rows[column];
                rows[row].iter_mut().zip(pivot_row).for_each(|(value, above)| *value -= factor * above);
            }
        }
    }
    let mut solution = [0.0; 3];
    for row in 0..count {
        solution[row] = if rows[row][row] != 0.0 { rows[row][3] / rows[row][row] } else { 0.0 };
    }
    solution
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn widths(n: usize) -> Vec<f64> {
        (1..=n).map(|width| width as f64).collect()
    }

    /// A curve with about 1 % of pattern noise.
    fn noisy(n: usize, curve: impl Fn(f64) -> f64) -> Vec<f64> {
        widths(n).iter().map(|&width| curve(width) * (1.0 + 0.01 * ((width * 7.0) % 11.0 - 5.0) / 5.0)).collect()
    }

    fn chosen(seconds: &[f64]) -> ModelChoice {
        choose_model(&widths(seconds.len()), seconds).unwrap()
    }

    #[test]
    fn each_shape_is_recognised() {
        assert_eq!(chosen(&noisy(40, |_| 3.0)).chosen, Shape::Constant);
        assert_eq!(chosen(&noisy(40, |width| 3.0 + 0.5 * width)).chosen, Shape::Linear);
        let bent = chosen(&noisy(40, |width| 3.0 + (width - 12.0).max(0.0)));
        assert_eq!((bent.chosen, bent.fit().curve.pieces[1].from_width), (Shape::OneKink, 12.0));
        let steps = chosen(&noisy(48, |width| 2.0 + ((width - 1.0) / 16.0).floor()));
        let starts: Vec<f64> = steps.fit().curve.pieces.iter().map(|piece| piece.from_width).collect();
        assert_eq!((steps.chosen, starts), (Shape::Steps, vec![1.0, 16.5, 32.5]));
        assert!(steps.fit().error_left_out < 0.15);
    }

    #[test]
    fn exact_lines_are_reproduced() {
        let choice = chosen(&widths(8).iter().map(|width| 2.0 + 3.0 * width).collect::<Vec<_>>());
        assert!(choice.chosen == Shape::Linear && (choice.fit().curve.at(20.0) - 62.0).abs() < 1e-9);
    }

    #[test]
    fn few_widths_support_few_shapes() {
        let five = choose_model(&[1.0, 4.0, 16.0, 32.0, 128.0], &[8.84, 13.02, 20.0, 36.72, 87.46]).unwrap();
        assert_eq!(five.fits.len(), 2);
        assert!(choose_model(&[1.0, 2.0], &[1.0, 2.0]).is_err());
        assert!(choose_model(&[1.0, 1.0, 2.0], &[1.0, 2.0, 3.0]).is_err());
        assert!(choose_model(&[1.0, 2.0, 3.0], &[1.0, 0.0, 3.0]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_unit_of_time_does_not_matter(seconds in prop::collection::vec(0.5..9.0f64, 6..16), exponent in -20i32..20) {
            let scaled: Vec<f64> = seconds.iter().map(|s| s * 2f64.powi(exponent)).collect();
            let (a, b) = (chosen(&seconds), chosen(&scaled));
            prop_assert_eq!(a.chosen, b.chosen);
            for (a, b) in a.fits.iter().zip(&b.fits) {
                prop_assert!((a.error_left_out - b.error_left_out).abs() < 1e-9);
            }
        }
    }
}
