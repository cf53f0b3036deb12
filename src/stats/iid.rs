//! Is acceptance independent and identical over draft positions, categories and places in the output? The formula
//! (1 - α^(γ+1)) / (1 - α) for committed tokens a round rests on it.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, FisherSnedecor};

use super::bootstrap::{self, Estimate};
use super::error::{Result, StatsError, check_between, check_length};

/// Drafted tokens that were looked at, and those of them that were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Count {
    pub reached: u64,
    pub accepted: u64,
}

/// Acceptance at several levels (draft positions, or stretches of the output), and whether it is the same at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LevelTest {
    /// Σ accepted / Σ reached of each level that was compared.
    pub acceptance: Vec<f64>,
    /// Levels left out because fewer than two prompts reached them.
    pub left_out: Vec<usize>,
    pub f: f64,
    /// p-value of 'the same acceptance at all levels'.
    pub p: f64,
}

/// Tests equal acceptance over levels measured within the same prompts: `counts[prompt][level]`.
///
/// Tokens of one prompt depend on each other, so the prompt is the unit: acceptance rates are ratios of sums with linearised
/// prompt contributions (Cochran 1977, section 6.3), compared by a Wald statistic referred to F as for a sample of clusters
/// (Fellegi, "Approximate tests of independence and goodness of fit based on stratified multistage samples", 1980).
/// Needs more prompts than levels.
pub fn equal_over_levels(counts: &[Vec<Count>]) -> Result<LevelTest> {
    let levels = counts.first().map_or(0, Vec::len);
    for (prompt, row) in counts.iter().enumerate() {
        check_length(&format!("levels of prompt {prompt}"), levels, row.len())?;
        check_counts(prompt, row)?;
    }
    let reached_by = |level: usize| counts.iter().filter(|row| row[level].reached > 0).count();
    let (used, left_out): (Vec<usize>, Vec<usize>) = (0..levels).partition(|&level| reached_by(level) >= 2);
    if used.len() < 2 {
        return Err(StatsError::TooFew { what: "levels reached by two prompts".into(), needed: 2, found: used.len() });
    }
    if counts.len() <= used.len() {
        return Err(StatsError::TooFew { what: "prompts".into(), needed: used.len() + 1, found: counts.len() });
    }
    let acceptance: Vec<f64> = used.iter().map(|&level| rate(counts.iter().map(|row| row[level]))).collect();
    let contrasts = used.len() - 1;
    let contributions: Vec<Vec<f64>> =
        counts.iter().map(|row| contributions(row, &used, &acceptance, counts)).collect();
    let differences: Vec<f64> = acceptance.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let n = counts.len() as f64;
    let mut covariance = vec![vec![0.0; contrasts]; contrasts];
    for row in &contributions {
        let steps: Vec<f64> = row.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (a, line) in covariance.iter_mut().enumerate() {
            line.iter_mut().zip(&steps).for_each(|(sum, step)| *sum += steps[a] * step * n / (n - 1.0));
        }
    }
    let wald = match quadratic_form(covariance, &differences) {
        Some(wald) => wald,
        None if differences.iter().all(|d| d.abs() < 1e-12) => 0.0,
        None => return Err(StatsError::NoSpread { what: "acceptance over the prompts".into() }),
    };
    let q = contrasts as f64;
    let f = wald * (n - q) / (q * (n - 1.0));
    let p = FisherSnedecor::new(q, n - q).expect("more prompts than levels").sf(f);
    Ok(LevelTest { acceptance, left_out, f, p })
}

/// What a prompt adds to each rate's error: (accepted - rate · reached) / Σ reached.
fn contributions(row: &[Count], used: &[usize], acceptance: &[f64], counts: &[Vec<Count>]) -> Vec<f64> {
    let total = |level: usize| counts.iter().map(|row| row[level].reached).sum::<u64>() as f64;
    let of =
        |(&level, rate): (&usize, &f64)| (row[level].accepted as f64 - rate * row[level].reached as f64) / total(level);
    used.iter().zip(acceptance).map(of).collect()
}

/// x' M⁻¹ x by elimination of a symmetric matrix; none where it is singular.
fn quadratic_form(mut matrix: Vec<Vec<f64>>, vector: &[f64]) -> Option<f64> {
    let size = vector.len();
    let mut rest = vector.to_vec();
    let mut form = 0.0;
    let largest = (0..size).map(|at| matrix[at][at]).fold(0.0, f64::max);
    for column in 0..size {
        let pivot = matrix[column][column];
        if pivot <= 1e-12 * largest || pivot <= 0.0 {
            return None;
        }
        form += rest[column] * rest[column] / pivot;
        for row in column + 1..size {
            let factor = matrix[row][column] / pivot;
            let above = matrix[column].clone();
            matrix[row].iter_mut().zip(&above).for_each(|(value, above)| *value -= factor * above);
            rest[row] -= factor * rest[column];
        }
    }
    Some(form)
}

/// Acceptance in several groups of prompts, and whether it is the same in all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupTest {
    /// Σ accepted / Σ reached of each group.
    pub acceptance: Vec<f64>,
    /// p-value of 'the same acceptance in all groups'.
    pub p: f64,
}

/// Tests equal acceptance over groups of prompts (categories): `counts[prompt]`, `groups[prompt]` from 0 on.
///
/// A permutation test: prompts are dealt to the groups at random `draws` times (Fisher 1935; p-values as in Phipson and
/// Smyth 2010), with Σ reached · (group's rate - rate)² as the statistic. Exact where prompts are exchangeable.
pub fn equal_over_groups(counts: &[Count], groups: &[usize], draws: usize, seed: u64) -> Result<GroupTest> {
    check_length("groups of the prompts", counts.len(), groups.len())?;
    check_between("draws", draws as f64, 0.0, f64::INFINITY, "at least 1")?;
    counts.iter().enumerate().try_for_each(|(prompt, count)| check_counts(prompt, &[*count]))?;
    let number = groups.iter().max().map_or(0, |last| last + 1);
    let totals = |groups: &[usize]| {
        let mut totals = vec![Count::default(); number];
        for (count, &group) in counts.iter().zip(groups) {
            totals[group].reached += count.reached;
            totals[group].accepted += count.accepted;
        }
        totals
    };
    let measured = totals(groups);
    let filled = measured.iter().filter(|total| total.reached > 0).count();
    if filled < 2 || filled < number {
        return Err(StatsError::TooFew {
            what: "groups with drafted tokens".into(),
            needed: number.max(2),
            found: filled,
        });
    }
    let overall = rate(counts.iter().copied());
    let statistic = |totals: &[Count]| {
        let spread = |total: &Count| {
            let surplus = total.accepted as f64 - overall * total.reached as f64;
            if total.reached == 0 { 0.0 } else { surplus * surplus / total.reached as f64 }
        };
        totals.iter().map(spread).sum::<f64>()
    };
    let observed = statistic(&measured) * (1.0 - 1e-12);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut dealt = groups.to_vec();
    let as_large = (0..draws).filter(|_| {
        dealt.shuffle(&mut rng);
        statistic(&totals(&dealt)) >= observed
    });
    let p = (as_large.count() + 1) as f64 / (draws + 1) as f64;
    Ok(GroupTest { acceptance: measured.iter().map(|total| rate([*total])).collect(), p })
}

/// What the formula says for one draft length against what the rounds committed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FormulaCheck {
    /// Mean acceptance over all drafted tokens that were looked at.
    pub acceptance: f64,
    /// (1 - α^(γ+1)) / (1 - α) at that acceptance.
    pub predicted: f64,
    /// Measured tokens a round over `predicted`, with an interval over prompts: 1 where the formula holds.
    pub ratio: Estimate,
}

/// Compares committed tokens a round with the i.i.d. formula (Leviathan, Kalman and Matias, "Fast inference from
/// transformers via speculative decoding", 2023, equation 1). `accepted[prompt]` lists the accepted tokens of each round, at
/// most `draft_length`; every round looks at one token more than it accepts, unless it accepts all.
pub fn check_formula(accepted: &[Vec<u32>], draft_length: u32, options: &bootstrap::Options) -> Result<FormulaCheck> {
    check_between("draft length", f64::from(draft_length), 0.0, f64::INFINITY, "at least 1")?;
    let mut prompts = Vec::with_capacity(accepted.len());
    for (prompt, rounds) in accepted.iter().enumerate() {
        if rounds.is_empty() {
            return Err(StatsError::TooFew { what: format!("rounds of prompt {prompt}"), needed: 1, found: 0 });
        }
        if let Some(&most) = rounds.iter().find(|&&count| count > draft_length) {
            let what = format!("accepted tokens of a round of prompt {prompt}");
            return Err(StatsError::Beyond { what, found: most.into(), most: draft_length.into() });
        }
        let looked_at = |&count: &u32| u64::from((count + 1).min(draft_length));
        let total = rounds.iter().map(|&count| u64::from(count)).sum();
        prompts.push((Count { reached: rounds.iter().map(looked_at).sum(), accepted: total }, rounds.len() as f64));
    }
    if prompts.is_empty() {
        return Err(StatsError::TooFew { what: "prompts".into(), needed: 1, found: 0 });
    }
    let ratio_over = |chosen: &[usize]| {
        let acceptance = rate(chosen.iter().map(|&prompt| prompts[prompt].0));
        let rounds: f64 = chosen.iter().map(|&prompt| prompts[prompt].1).sum();
        let committed = chosen.iter().map(|&prompt| prompts[prompt].0.accepted as f64).sum::<f64>() + rounds;
        committed / rounds / tokens_a_round(acceptance, draft_length)
    };
    let acceptance = rate(prompts.iter().map(|prompt| prompt.0));
    Ok(FormulaCheck {
        acceptance,
        predicted: tokens_a_round(acceptance, draft_length),
        ratio: bootstrap::bca(prompts.len(), ratio_over, options)?,
    })
}

/// 1 + α + … + α^γ.
fn tokens_a_round(acceptance: f64, draft_length: u32) -> f64 {
    (0..draft_length).fold(1.0, |sum, _| 1.0 + acceptance * sum)
}

/// Σ accepted / Σ reached.
fn rate(counts: impl IntoIterator<Item = Count>) -> f64 {
    let add = |(reached, accepted), count: Count| (reached + count.reached, accepted + count.accepted);
    let (reached, accepted) = counts.into_iter().fold((0, 0), add);
    accepted as f64 / reached as f64
}

fn check_counts(prompt: usize, counts: &[Count]) -> Result<()> {
    match counts.iter().find(|count| count.accepted > count.reached) {
        Some(count) => {
            let what = format!("accepted tokens of prompt {prompt}");
            Err(StatsError::Beyond { what, found: count.accepted, most: count.reached })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    /// Counts of 40 prompts with the given acceptance at each level, plus a prompt effect.
    fn counts(acceptance: &[f64], seed: u64) -> Vec<Vec<Count>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut row = || {
            let effect = 0.2 * (rng.random::<f64>() - 0.5);
            let mut count = |rate: &f64| {
                let accepted = (0..50).filter(|_| rng.random_bool(rate + effect)).count() as u64;
                Count { reached: 50, accepted }
            };
            acceptance.iter().map(&mut count).collect()
        };
        (0..40).map(|_| row()).collect()
    }

    #[test]
    fn equal_levels_pass_at_the_declared_rate_and_unequal_ones_do_not() {
        let rejected = (0..200).filter(|&seed| equal_over_levels(&counts(&[0.6; 4], seed)).unwrap().p <= 0.1).count();
        assert!((8..=34).contains(&rejected), "{rejected} of 200");
        let rising = equal_over_levels(&counts(&[0.5, 0.6, 0.7, 0.8], 1)).unwrap();
        assert!(rising.p < 1e-6 && rising.acceptance[0] < rising.acceptance[3]);
    }

    #[test]
    fn groups_are_compared_by_prompts_and_not_by_tokens() {
        let flat = |seed| counts(&[0.6], seed).into_iter().flatten().collect::<Vec<_>>();
        let groups: Vec<usize> = (0..40).map(|prompt| prompt % 2).collect();
        let rejected = (0..100).filter(|&seed| equal_over_groups(&flat(seed), &groups, 99, 1).unwrap().p <= 0.1);
        assert!(rejected.count() <= 20);
        let mut unequal = flat(1);
        unequal.iter_mut().step_by(2).for_each(|count| count.accepted = (count.accepted + 15).min(50));
        assert!(equal_over_groups(&unequal, &groups, 999, 1).unwrap().p < 0.01);
    }

    #[test]
    fn runs_of_acceptance_break_the_formula_and_independent_tokens_keep_it() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let options = bootstrap::Options { confidence: 0.99, resamples: 400, seed: 1 };
        let mut round = || (0..4u32).take_while(|_| rng.random_bool(0.7)).count() as u32;
        let independent: Vec<Vec<u32>> = (0..30).map(|_| (0..60).map(|_| round()).collect()).collect();
        let holds = check_formula(&independent, 4, &options).unwrap();
        assert!(holds.ratio.low.unwrap() < 1.0 && 1.0 < holds.ratio.high.unwrap());
        // All or nothing: half of the rounds accept everything.
        let runs: Vec<Vec<u32>> = (0..30).map(|_| (0..60).map(|i| if i % 2 == 0 { 4 } else { 0 }).collect()).collect();
        let broken = check_formula(&runs, 4, &options).unwrap();
        assert_eq!((broken.acceptance, broken.ratio.low), (0.8, None));
        assert!((broken.predicted - 3.3616).abs() < 1e-12 && broken.ratio.value < 0.9);
    }

    #[test]
    fn bad_counts_are_refused() {
        let impossible = vec![vec![Count { reached: 1, accepted: 2 }; 2]; 4];
        assert!(equal_over_levels(&impossible).is_err() && equal_over_levels(&[]).is_err());
        assert!(equal_over_levels(&counts(&[0.5; 3], 1)[..3]).is_err());
        let one = [Count { reached: 5, accepted: 2 }; 3];
        assert!(equal_over_groups(&one, &[0, 0, 0], 9, 1).is_err() && equal_over_groups(&one, &[0, 1], 9, 1).is_err());
        assert!(equal_over_groups(&one, &[0, 2, 0], 9, 1).is_err());
        let options = bootstrap::Options { confidence: 0.95, resamples: 10, seed: 1 };
        assert!(check_formula(&[vec![5]], 4, &options).is_err() && check_formula(&[vec![]], 4, &options).is_err());
        assert!(check_formula(&[], 4, &options).is_err());
    }

    #[test]
    fn levels_that_hardly_any_prompt_reaches_are_left_out_and_said() {
        let mut counts = counts(&[0.6, 0.6, 0.6], 3);
        counts.iter_mut().skip(1).for_each(|row| row[2] = Count::default());
        let test = equal_over_levels(&counts).unwrap();
        assert_eq!((test.left_out, test.acceptance.len()), (vec![2], 2));
    }
}
