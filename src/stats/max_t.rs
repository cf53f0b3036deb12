//! Simultaneous comparisons with each arm as the control, by the maximum of correlated t statistics.

use multiversion::multiversion;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{ChiSquared, Distribution, StandardNormal};

use super::parallel::{in_parallel, parts};

/// Variances of relative differences up to this are rounding: nothing that is timed repeats to one part in 10^12.
pub(crate) const NO_SPREAD: f64 = 1e-24;

/// Draws of max over j of T_gj for every control g, where T_gj is the studentised difference 'g less j' of arms whose
/// estimates have `covariance` (`[arm][arm]`, row-major, of values of the order of 1) estimated with
/// `degrees_of_freedom`. Result: `[arm][draw]`.
///
/// The reference is the multivariate t with the estimated correlation and a common denominator (Dunnett, "A multiple
/// comparison procedure for comparing several treatments with a control", 1955; Edwards and Hsu, "Multiple comparisons
/// with the best treatment", 1983, for a critical value per control). Arms that never differ add nothing.
pub fn max_t_draws(covariance: &[f64], arms: usize, degrees_of_freedom: f64, draws: usize, seed: u64) -> Vec<Vec<f64>> {
    let factor = cholesky(covariance, arms);
    let weights = inverse_deviations(covariance, arms);
    let denominator = ChiSquared::new(degrees_of_freedom).expect("degrees of freedom are positive");
    let mut maxima = vec![vec![0.0; draws]; arms];
    let mut columns: Vec<_> = maxima.iter_mut().map(|column| column.chunks_mut(PART)).collect();
    let part = |(stream, count)| (stream, count, columns.iter_mut().filter_map(Iterator::next).collect());
    let parts: Vec<(u64, usize, Vec<&mut [f64]>)> = parts(draws, PART).into_iter().map(part).collect();
    in_parallel(parts, |(stream, count, mut columns)| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        let mut block = Block::of(arms);
        for first in (0..count).step_by(LANES) {
            let used = LANES.min(count - first);
            let mut scales = [0.0; LANES];
            for (lane, scale) in scales[..used].iter_mut().enumerate() {
                block.normals.iter_mut().for_each(|column| column[lane] = StandardNormal.sample(&mut rng));
                *scale = (degrees_of_freedom / denominator.sample(&mut rng)).sqrt();
            }
            block.correlate(&factor);
            block.compare(&weights);
            for (column, largest) in columns.iter_mut().zip(&block.largest) {
                let drawn = column[first..first + used].iter_mut().zip(largest.iter().zip(&scales));
                drawn.for_each(|(drawn, (t, scale))| *drawn = t * scale);
            }
        }
    });
    maxima
}

/// Draws that one thread makes from one stream.
const PART: usize = 25_000;
/// Draws that are worked on side by side.
const LANES: usize = 8;

/// Some draws side by side, one lane each: `[arm][lane]`.
struct Block {
    normals: Vec<[f64; LANES]>,
    estimates: Vec<[f64; LANES]>,
    largest: Vec<[f64; LANES]>,
}

impl Block {
    fn of(arms: usize) -> Self {
        let zeros = vec![[0.0; LANES]; arms];
        Block { normals: zeros.clone(), estimates: zeros.clone(), largest: zeros }
    }

    /// Estimates with the covariance of the triangular `factor`.
    fn correlate(&mut self, factor: &[f64]) {
        correlate(&self.normals, factor, &mut self.estimates);
    }

    /// [`largest_per_control`] of every lane.
    fn compare(&mut self, weights: &[f64]) {
        compare(&self.estimates, weights, &mut self.largest);
    }
}

type Lanes = [f64; LANES];

// Wider registers hold more lanes; each lane's additions stay what they are, and so do the results.
#[multiversion(targets("x86_64+avx2"))]
fn correlate(normals: &[Lanes], factor: &[f64], estimates: &mut [Lanes]) {
    let arms = normals.len();
    for arm in 0..arms {
        let mut sum = [0.0; LANES];
        for (normals, loading) in normals.iter().zip(&factor[arm * arms..=arm * arms + arm]) {
            for lane in 0..LANES {
                sum[lane] += loading * normals[lane];
            }
        }
        estimates[arm] = sum;
    }
}

// Each pair from both sides, so that nothing is stored but the largest: a store that hangs on a comparison is slow.
#[multiversion(targets("x86_64+avx2"))]
fn compare(estimates: &[Lanes], weights: &[f64], largest: &mut [Lanes]) {
    for ((largest, estimate), weights) in largest.iter_mut().zip(estimates).zip(weights.chunks_exact(estimates.len())) {
        let mut own = [0.0; LANES];
        for (rival, weight) in estimates.iter().zip(weights) {
            for lane in 0..LANES {
                let t = (estimate[lane] - rival[lane]) * weight;
                own[lane] = if t > own[lane] { t } else { own[lane] };
            }
        }
        *largest = own;
    }
}

/// For every control g: max over j of (estimate_g - estimate_j) · weight_gj, at least zero.
pub(crate) fn largest_per_control(estimates: &[f64], weights: &[f64], largest: &mut [f64]) {
    largest.fill(0.0);
    // The weights are symmetric, so row j holds the weights of all controls against j.
    for (other, row) in estimates.iter().zip(weights.chunks_exact(estimates.len())) {
        for ((most, estimate), weight) in largest.iter_mut().zip(estimates).zip(row) {
            let t = (estimate - other) * weight;
            *most = if t > *most { t } else { *most };
        }
    }
}

/// 1 / standard deviation of every difference of two arms; 0 where they never differ.
pub(crate) fn inverse_deviations(covariance: &[f64], arms: usize) -> Vec<f64> {
    let mut weights = vec![0.0; arms * arms];
    for a in 0..arms {
        for b in 0..arms {
            let variance = difference_variance(covariance, arms, a, b);
            if variance > 0.0 {
                weights[a * arms + b] = variance.sqrt().recip();
            }
        }
    }
    weights
}

/// Variance of the difference of two arms; 0 where it is no more than rounding.
pub(crate) fn difference_variance(covariance: &[f64], arms: usize, a: usize, b: usize) -> f64 {
    let own = covariance[a * arms + a] + covariance[b * arms + b];
    let variance = own - 2.0 * covariance[a * arms + b];
    if variance > NO_SPREAD + 1e-14 * own { variance } else { 0.0 }
}

/// The value that a share `confidence` of the draws does not exceed. Reorders the draws.
pub(crate) fn upper_quantile(draws: &mut [f64], confidence: f64) -> f64 {
    let rank = (confidence * (draws.len() + 1) as f64).ceil() as usize;
    match rank {
        rank if rank > draws.len() => f64::INFINITY,
        rank => *draws.select_nth_unstable_by(rank - 1, f64::total_cmp).1,
    }
}

/// Lower triangular factor of a positive semi-definite matrix; a column without rest is zero.
fn cholesky(matrix: &[f64], size: usize) -> Vec<f64> {
    let mut factor = vec![0.0; size * size];
    for row in 0..size {
        for column in 0..=row {
            let known: f64 = (0..column).map(|k| factor[row * size + k] * factor[column * size + k]).sum();
            let rest = matrix[row * size + column] - known;
            factor[row * size + column] = if row == column {
                if rest > 1e-14 * matrix[row * size + row] { rest.sqrt() } else { 0.0 }
            } else {
                let pivot = factor[column * size + column];
                if pivot > 0.0 { rest / pivot } else { 0.0 }
            };
        }
    }
    factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_reproduces_a_singular_matrix() {
        // The third arm is the sum of the first two.
        let matrix = [2.0, 0.5, 2.5, 0.5, 1.0, 1.5, 2.5, 1.5, 4.0];
        let factor = cholesky(&matrix, 3);
        for row in 0..3 {
            for column in 0..3 {
                let product: f64 = (0..3).map(|k| factor[row * 3 + k] * factor[column * 3 + k]).sum();
                assert!((product - matrix[row * 3 + column]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn identical_arms_add_no_comparison() {
        let draws = max_t_draws(&[1.0, 1.0, 1.0, 1.0], 2, 10.0, 50, 1);
        assert!(draws.iter().flatten().all(|&t| t == 0.0));
    }

    #[test]
    fn too_few_draws_give_no_quantile() {
        assert_eq!(upper_quantile(&mut [1.0, 2.0, 3.0], 0.95), f64::INFINITY);
        assert_eq!(upper_quantile(&mut [3.0, 1.0, 2.0], 0.75), 3.0);
    }

    #[test]
    fn side_by_side_is_the_same_as_one_by_one() {
        let covariance = [2.0, 0.5, 0.3, 0.5, 1.0, -0.2, 0.3, -0.2, 1.5];
        let (factor, weights) = (cholesky(&covariance, 3), inverse_deviations(&covariance, 3));
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let denominator: ChiSquared<f64> = ChiSquared::new(7.0).unwrap();
        let found = max_t_draws(&covariance, 3, 7.0, 21, 4);
        for draw in 0..21 {
            let normals: Vec<f64> = (0..3).map(|_| StandardNormal.sample(&mut rng)).collect();
            let estimates: Vec<f64> =
                (0..3).map(|row| (0..3).map(|k| factor[row * 3 + k] * normals[k]).sum()).collect();
            let mut largest = [0.0; 3];
            largest_per_control(&estimates, &weights, &mut largest);
            let scale = (7.0 / denominator.sample(&mut rng)).sqrt();
            for (column, t) in found.iter().zip(largest) {
                assert!((column[draw] - t * scale).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn parts_have_streams_of_their_own() {
        let draws = max_t_draws(&[1.0, 0.0, 0.0, 1.0], 2, 10.0, PART + 3, 1);
        assert_eq!(draws[0].len(), PART + 3);
        assert_ne!(draws[0][..3], draws[0][PART..]);
        assert_eq!(max_t_draws(&[1.0, 0.0, 0.0, 1.0], 2, 10.0, 9, 1)[0], draws[0][..9]);
    }
}
