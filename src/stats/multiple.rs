//! Adjusting p-values for the number of tests made.

use super::error::{Result, StatsError};

/// Holm's adjusted p-values in the order given (Holm, "A simple sequentially rejective multiple test procedure", 1979):
/// rejecting those at most α keeps the chance of any false rejection at most α, whatever their dependence.
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>> {
    if let Some(index) = p_values.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(StatsError::Parameter { name: "p-value", value: p_values[index], allowed: "between 0 and 1" });
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest = 0.0f64;
    for (rank, index) in order.into_iter().enumerate() {
        largest = largest.max((p_values.len() - rank) as f64 * p_values[index]).min(1.0);
        adjusted[index] = largest;
    }
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn impossible_p_values_are_refused() {
        assert!(holm(&[0.5, f64::NAN]).is_err() && holm(&[1.5]).is_err() && holm(&[-0.1]).is_err());
        assert_eq!(holm(&[]).unwrap(), Vec::<f64>::new());
    }

    proptest! {
        #[test]
        fn lies_between_none_and_bonferroni_and_keeps_the_order(p in prop::collection::vec(0.0..1.0f64, 1..20)) {
            let adjusted = holm(&p).unwrap();
            for (i, a) in adjusted.iter().enumerate() {
                prop_assert!(*a >= p[i] && *a <= (p.len() as f64 * p[i]).min(1.0) + 1e-15);
                for (j, b) in adjusted.iter().enumerate() {
                    prop_assert!(p[i] > p[j] || a <= b);
                }
            }
        }
    }
}
