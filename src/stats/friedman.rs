//! Do several arms on the same prompts differ at all? By ranks within each prompt.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF, FisherSnedecor};

use super::error::{Result, StatsError, check_finite, check_length};
use super::paired::mid_ranks;

/// Friedman's test and its correction by Iman and Davenport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Friedman {
    /// Mean rank of each arm; 1 is the fastest.
    pub mean_ranks: Vec<f64>,
    /// Friedman's statistic, corrected for ties.
    pub chi_squared: f64,
    /// p-value of `chi_squared` with (arms - 1) degrees of freedom.
    pub p_chi_squared: f64,
    /// Iman and Davenport's statistic; none where every prompt ranks the arms alike (it is infinite there).
    pub f: Option<f64>,
    /// p-value of `f` with (arms - 1) and (arms - 1)(prompts - 1) degrees of freedom: the one to report.
    pub p: f64,
}

/// Friedman's test of `blocks[prompt][arm]` (Friedman, "The use of ranks to avoid the assumption of normality", 1937)
/// with the less conservative F form of Iman and Davenport, "Approximations of the critical region of the Friedman
/// statistic", 1980. Needs two prompts and two arms; arms that tie in every prompt give p = 1.
pub fn friedman(blocks: &[Vec<f64>]) -> Result<Friedman> {
    let prompts = blocks.len();
    if prompts < 2 {
        return Err(StatsError::TooFew { what: "prompts".into(), needed: 2, found: prompts });
    }
    let arms = blocks[0].len();
    let mut rank_sums = vec![0.0; arms];
    let mut tie_loss = 0.0;
    for (prompt, block) in blocks.iter().enumerate() {
        check_finite(&format!("prompt {prompt}"), block, 2)?;
        check_length(&format!("prompt {prompt}"), arms, block.len())?;
        let ranks = mid_ranks(block);
        rank_sums.iter_mut().zip(&ranks).for_each(|(sum, rank)| *sum += rank);
        tie_loss += ties_cubed(block);
    }
    let (n, k) = (prompts as f64, arms as f64);
    let mean_ranks: Vec<f64> = rank_sums.iter().map(|sum| sum / n).collect();
    let tie_correction = 1.0 - tie_loss / (n * k * (k * k - 1.0));
    if tie_correction <= 0.0 {
        return Ok(Friedman { mean_ranks, chi_squared: 0.0, p_chi_squared: 1.0, f: Some(0.0), p: 1.0 });
    }
    let spread: f64 = mean_ranks.iter().map(|rank| (rank - (k + 1.0) / 2.0).powi(2)).sum();
    let chi_squared = 12.0 * n / (k * (k + 1.0)) * spread / tie_correction;
    let p_chi_squared = ChiSquared::new(k - 1.0).expect("arms - 1 is positive").sf(chi_squared);
    let rest = n * (k - 1.0) - chi_squared;
    let f = (rest > 1e-12 * n).then(|| (n - 1.0) * chi_squared / rest);
    let distribution = FisherSnedecor::new(k - 1.0, (k - 1.0) * (n - 1.0)).expect("degrees of freedom are positive");
    let p = f.map_or(0.0, |f| distribution.sf(f));
    Ok(Friedman { mean_ranks, chi_squared, p_chi_squared, f, p })
}

/// Σ (t³ - t) over groups of t equal values.
fn ties_cubed(values: &[f64]) -> f64 {
    super::summary::sorted(values)
        .chunk_by(|a, b| a == b)
        .map(|group| {
            let t = group.len() as f64;
            t * t * t - t
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn perfect_agreement_and_perfect_ties() {
        let same = friedman(&[vec![1.0, 2.0, 3.0], vec![2.0, 5.0, 9.0], vec![0.1, 0.2, 0.3]]).unwrap();
        assert_eq!((same.f, same.p), (None, 0.0));
        assert_eq!(friedman(&[vec![1.0, 1.0], vec![2.0, 2.0]]).unwrap().p, 1.0);
    }

    #[test]
    fn incomplete_blocks_are_refused_by_prompt() {
        let error = friedman(&[vec![1.0, 2.0], vec![1.0, 2.0, 3.0]]).unwrap_err();
        assert!(error.to_string().starts_with("prompt 1: length 3 where 2"), "{error}");
        assert!(friedman(&[vec![1.0, 2.0]]).is_err());
        assert!(friedman(&[vec![1.0], vec![1.0]]).is_err());
        assert!(friedman(&[vec![1.0, f64::NAN], vec![1.0, 2.0]]).is_err());
    }

    proptest! {
        #[test]
        fn only_the_order_within_a_prompt_matters(
            blocks in prop::collection::vec(prop::collection::vec(0.1..9.0f64, 4), 2..12), rotate in 0usize..4,
        ) {
            let expected = friedman(&blocks).unwrap();
            let other_unit: Vec<Vec<f64>> = blocks.iter().map(|b| b.iter().map(|v| v.ln() + 3.0).collect()).collect();
            prop_assert_eq!(&friedman(&other_unit).unwrap(), &expected);
            let mut moved: Vec<Vec<f64>> = blocks.iter().rev().cloned().collect();
            moved.iter_mut().for_each(|block| block.rotate_left(rotate));
            prop_assert!((friedman(&moved).unwrap().p - expected.p).abs() < 1e-9);
        }
    }
}
