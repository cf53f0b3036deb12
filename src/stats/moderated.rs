//! Variances of many small samples, each drawn towards what all of them say: with few values a sample's own variance is too
//! uncertain to be divided by, and a common one would overlook that some are noisier than others.

use statrs::function::gamma::digamma;

use super::error::{Result, check_length};
use super::summary::{mean_of, median, variance_of};

/// An empirical prior for variances, and the variances with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Moderated {
    /// Degrees of freedom that the prior is worth; infinite where the variances differ by chance only.
    pub prior_freedom: f64,
    pub prior_variance: f64,
    /// (d₀ s₀² + d s²) / (d₀ + d) for each sample.
    pub variances: Vec<f64>,
}

/// Fits a scaled F distribution to sample variances with their degrees of freedom by the moments of their logarithms, and
/// shrinks them (Smyth 2004, "Linear models and empirical Bayes methods for assessing differential expression in microarray
/// experiments", section 6.2; limma's `squeezeVar`). Variances below 1e-5 of the median count as that much in the fit. Where
/// half of them or more are 0, or there is only one, they are given back as they are, with a prior of no freedom.
pub fn moderated(variances: &[f64], freedom: &[f64]) -> Result<Moderated> {
    check_length("degrees of freedom", variances.len(), freedom.len())?;
    let floor = 1e-5 * median(variances)?;
    if variances.len() < 2 || floor <= 0.0 {
        return Ok(Moderated { prior_freedom: 0.0, prior_variance: 0.0, variances: variances.to_vec() });
    }
    let logs = variances.iter().zip(freedom);
    let logs: Vec<f64> =
        logs.map(|(variance, d)| variance.max(floor).ln() - digamma(d / 2.0) + (d / 2.0).ln()).collect();
    let own = mean_of(&freedom.iter().map(|d| trigamma(d / 2.0)).collect::<Vec<_>>());
    let excess = variance_of(&logs) - own;
    let centre = mean_of(&logs);
    if excess <= 0.0 {
        // As limma does: the mean, of which none is noisier by more than chance.
        let prior_variance = mean_of(&variances.iter().map(|variance| variance.max(floor)).collect::<Vec<_>>());
        let variances = vec![prior_variance; variances.len()];
        return Ok(Moderated { prior_freedom: f64::INFINITY, prior_variance, variances });
    }
    let half = inverse_trigamma(excess);
    let (prior_freedom, prior_variance) = (2.0 * half, (centre + digamma(half) - half.ln()).exp());
    let shrunk = |(variance, d): (&f64, &f64)| (prior_freedom * prior_variance + d * variance) / (prior_freedom + d);
    Ok(Moderated { prior_freedom, prior_variance, variances: variances.iter().zip(freedom).map(shrunk).collect() })
}

/// ψ'(x) for x > 0: the asymptotic series (Abramowitz and Stegun 6.4.12) beyond 20, reached by ψ'(x) = ψ'(x + 1) + 1/x².
fn trigamma(x: f64) -> f64 {
    let (mut x, mut sum) = (x, 0.0);
    while x < 20.0 {
        sum += (x * x).recip();
        x += 1.0;
    }
    let (r, r2) = (x.recip(), (x * x).recip());
    sum + r + r2 / 2.0 + r * r2 * (1.0 / 6.0 - r2 * (1.0 / 30.0 - r2 * (1.0 / 42.0 - r2 / 30.0)))
}

/// Where ψ' has a value above 0, by bisection: it falls from infinity to 0 and lies between 1/x and 1/x + 1/x².
fn inverse_trigamma(value: f64) -> f64 {
    let (mut low, mut high) = (value.recip(), 2.0 * value.recip() + value.recip().sqrt());
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if trigamma(middle) > value { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trigamma_at_known_points() {
        let squared = std::f64::consts::PI.powi(2);
        for (x, value) in [(1.0, squared / 6.0), (0.5, squared / 2.0), (2.0, squared / 6.0 - 1.0)] {
            assert!((trigamma(x) - value).abs() < 1e-13, "{x}");
            assert!((inverse_trigamma(value) - x).abs() < 1e-12, "{x}");
        }
        for x in [1e-4, 0.3, 7.0, 500.0, 1e6] {
            assert!((inverse_trigamma(trigamma(x)) / x - 1.0).abs() < 1e-8, "{x}");
        }
    }

    #[test]
    fn variances_without_spread_are_left_alone() {
        let found = moderated(&[0.0, 0.0, 1.0], &[5.0; 3]).unwrap();
        assert_eq!((found.prior_freedom, found.variances), (0.0, vec![0.0, 0.0, 1.0]));
        assert_eq!(moderated(&[2.0], &[5.0]).unwrap().variances, [2.0]);
        assert!(moderated(&[2.0, 1.0], &[5.0]).is_err());
    }
}
