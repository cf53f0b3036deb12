//! Simultaneous comparisons with each arm as the control, by the maximum of correlated t statistics.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{ChiSquared, Distribution, StandardNormal};

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
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let denominator = ChiSquared::new(degrees_of_freedom).expect("degrees of freedom are positive");
    let mut maxima = vec![Vec::with_capacity(draws); arms];
    let (mut estimates, mut largest) = (vec![0.0; arms], vec![0.0; arms]);
    for _ in 0..draws {
        correlated_normals(&factor, &mut estimates, &mut rng);
        largest_per_control(&estimates, &weights, &mut largest);
        let scale = (degrees_of_freedom / denominator.sample(&mut rng)).sqrt();
        maxima.iter_mut().zip(&largest).for_each(|(column, t)| column.push(t * scale));
    }
    maxima
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

fn correlated_normals(factor: &[f64], values: &mut [f64], rng: &mut impl Rng) {
    let size = values.len();
    values.fill(0.0);
    for column in 0..size {
        let normal: f64 = StandardNormal.sample(rng);
        for row in column..size {
            values[row] += factor[row * size + column] * normal;
        }
    }
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
}
