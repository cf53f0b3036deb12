//! The decision: from the measured blocks to one draft length, with everything a reader needs to defend it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::anytime;
use super::blocks::{Blocks, covariance};
use super::bootstrap::{self, Estimate};
use super::error::{Result, StatsError, check_between, check_confidence, check_length};
use super::multiple::holm;
use super::paired::{paired_t, students_t};
use super::rows::Rows;
use super::selection::{MAX_T_PROMPTS, Method, Selection, compare_with_best, ratio_bound};

/// Measurements and what was declared before they were taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Draft length of each arm, all different; 0 is plain decoding.
    pub draft_lengths: Vec<u32>,
    /// `seconds[prompt][arm]`, complete blocks.
    pub seconds: Vec<Vec<f64>>,
    /// `tokens[prompt][arm]` committed in those seconds.
    pub tokens: Vec<Vec<u64>>,
    /// Simultaneous confidence, for example 0.95.
    pub confidence: f64,
    /// Largest loss that does not matter, for example 0.02 for 2 %.
    pub margin: f64,
    pub seed: u64,
    /// Method of the simultaneous comparison; none chooses by the number of prompts.
    pub method: Option<Method>,
    /// Monte-Carlo draws of the simultaneous comparison.
    pub draws: usize,
    /// Bootstrap resamples of each interval, at least 1.
    pub resamples: usize,
}

/// Monte-Carlo draws that a published decision should use.
pub const DRAWS: usize = 100_000;

/// Which of the three answers was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The recommended length is within the margin of the fastest, and faster than plain decoding if it is above 0.
    Recommended,
    /// No length is shown to be faster than plain decoding, which is therefore recommended.
    PlainNotBeaten,
    /// No length is shown to be within the margin of the fastest and faster than plain decoding, nor plain decoding fastest.
    Undecided,
}

/// One draft length against plain decoding on the same prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersusPlain {
    pub draft_length: u32,
    /// Seconds a token of plain decoding over those of this length.
    pub speedup: f64,
    /// Lower end of the BCa interval of the speed-up.
    pub low: Option<f64>,
    /// Upper end of the BCa interval of the speed-up.
    pub high: Option<f64>,
    /// Two-sided p-value of 'as fast as plain decoding', Holm-adjusted over all lengths.
    pub p_holm: f64,
}

/// The decision and its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The draft length to use; none while undecided.
    pub recommended: Option<u32>,
    pub verdict: Verdict,
    /// Lengths that can be the fastest; they hold it with the confidence asked for.
    pub confidence_set: Vec<u32>,
    /// Lengths that lose less than the margin to the fastest, simultaneously with the confidence asked for.
    pub practically_best: Vec<u32>,
    /// Simultaneous upper bound on each length's loss to the fastest; none where the data give no bound.
    pub loss_bound: BTreeMap<u32, Option<f64>>,
    /// Every length above 0 against plain decoding; empty where plain decoding was not measured.
    pub versus_plain: Vec<VersusPlain>,
    /// While undecided: about how many more prompts would decide it, if the differences and their spread stay.
    pub more_prompts: Option<usize>,
    /// The length with the lowest measured cost. It looks better than it is: confirm on prompts not used here.
    pub observed_best: u32,
    pub prompts: usize,
    pub confidence: f64,
    pub margin: f64,
    pub method: Method,
    pub warnings: Vec<String>,
}

/// Chooses the draft length: multiple comparisons with the best, then the smallest length within the margin of the
/// fastest, which must also beat plain decoding (Holm) if it is above 0.
pub fn decide(input: &Input) -> Result<Decision> {
    check(input)?;
    let input = &in_order_of_length(input);
    let blocks = Blocks::new(&input.seconds, &input.tokens)?;
    let method = input.method.unwrap_or(Method::for_prompts(blocks.prompts()));
    let selection = compare_with_best(&blocks, input.confidence, method, input.draws, input.seed)?;
    let versus_plain = versus_plain(input, &blocks, method)?;
    let lengths_where = |keep: &dyn Fn(usize) -> bool| -> Vec<u32> {
        (0..blocks.arms()).filter(|&arm| keep(arm)).map(|arm| input.draft_lengths[arm]).collect()
    };
    let practically_best = lengths_where(&|arm| selection.loss_bound[arm] < input.margin);
    let confidence_set = lengths_where(&|arm| selection.may_be_best[arm]);
    let (verdict, recommended) = verdict(input, &practically_best, &confidence_set, &versus_plain);
    let more_prompts = match verdict {
        Verdict::Undecided => more_prompts(input, &blocks, &selection),
        _ => None,
    };
    Ok(Decision {
        recommended,
        verdict,
        confidence_set,
        warnings: warnings(input, &blocks, method, verdict, &practically_best),
        practically_best,
        loss_bound: (0..blocks.arms())
            .map(|arm| (input.draft_lengths[arm], Some(selection.loss_bound[arm]).filter(|bound| bound.is_finite())))
            .collect(),
        versus_plain,
        more_prompts,
        observed_best: input.draft_lengths[blocks.fastest()],
        prompts: blocks.prompts(),
        confidence: input.confidence,
        margin: input.margin,
        method,
    })
}

fn check(input: &Input) -> Result<()> {
    check_confidence(input.confidence)?;
    check_between("draws", input.draws as f64, 0.0, f64::INFINITY, "at least 1")?;
    check_between("margin", input.margin, 0.0, 1.0, "between 0 and 1, for example 0.02")?;
    let arms = input.draft_lengths.len();
    check_length("arms of the first prompt", arms, input.seconds.first().map_or(0, Vec::len))?;
    let mut lengths = input.draft_lengths.clone();
    lengths.sort_unstable();
    match lengths.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(StatsError::Duplicate { what: format!("draft length {}", pair[0]) }),
        None => Ok(()),
    }
}

/// The same input with the arms in ascending order, so that their order does not change the random draws.
fn in_order_of_length(input: &Input) -> Input {
    let mut order: Vec<usize> = (0..input.draft_lengths.len()).collect();
    order.sort_unstable_by_key(|&arm| input.draft_lengths[arm]);
    // Rows of another length are left as they are: the blocks refuse them by name.
    let complete = |length: usize| length == order.len();
    Input {
        draft_lengths: order.iter().map(|&arm| input.draft_lengths[arm]).collect(),
        seconds: input
            .seconds
            .iter()
            .map(|row| if complete(row.len()) { order.iter().map(|&arm| row[arm]).collect() } else { row.clone() })
            .collect(),
        tokens: input
            .tokens
            .iter()
            .map(|row| if complete(row.len()) { order.iter().map(|&arm| row[arm]).collect() } else { row.clone() })
            .collect(),
        ..*input
    }
}

/// The smallest practically best length, if it is 0 or beats plain decoding. A length that does not beat it gives 0 where
/// plain decoding can be the fastest, and no answer where that is excluded too.
fn verdict(
    input: &Input,
    practically_best: &[u32],
    confidence_set: &[u32],
    versus_plain: &[VersusPlain],
) -> (Verdict, Option<u32>) {
    let Some(&smallest) = practically_best.first() else { return (Verdict::Undecided, None) };
    let beats_plain = |arm: &VersusPlain| arm.speedup > 1.0 && arm.p_holm <= 1.0 - input.confidence;
    let against_plain = versus_plain.iter().find(|arm| arm.draft_length == smallest);
    match against_plain {
        Some(arm) if !beats_plain(arm) && confidence_set.contains(&0) => (Verdict::PlainNotBeaten, Some(0)),
        Some(arm) if !beats_plain(arm) => (Verdict::Undecided, None),
        _ => (Verdict::Recommended, Some(smallest)),
    }
}

/// Each length above 0 against length 0: paired t tests, Holm over all of them, and a BCa interval of each speed-up at the
/// confidence asked for; with [`Method::AnyTime`] both come from confidence sequences.
fn versus_plain(input: &Input, blocks: &Blocks, method: Method) -> Result<Vec<VersusPlain>> {
    let Some(plain) = input.draft_lengths.iter().position(|&length| length == 0) else { return Ok(Vec::new()) };
    let arms: Vec<usize> = (0..blocks.arms()).filter(|&arm| arm != plain).collect();
    let plain_costs = blocks.arm(plain);
    let p_values = arms.iter().map(|&arm| p_of_difference(&plain_costs, &blocks.arm(arm), input, method));
    let adjusted = holm(&p_values.collect::<Result<Vec<_>>>()?)?;
    let options = bootstrap::Options { confidence: input.confidence, resamples: input.resamples, seed: input.seed };
    let sums = Sums::of(input);
    let speedups = match method {
        Method::AnyTime => anytime_speedups(blocks, plain, &arms, input.confidence),
        _ => bootstrap::bca_many(blocks.prompts(), |chosen| sums.speedups(plain, &arms, chosen), &options)?,
    };
    let rows = arms.iter().zip(adjusted).zip(speedups);
    Ok(rows
        .map(|((&arm, p_holm), speedup)| VersusPlain {
            draft_length: input.draft_lengths[arm],
            speedup: speedup.value,
            low: speedup.low,
            high: speedup.high,
            p_holm,
        })
        .collect())
}

/// Two-sided p-value that two arms cost the same.
fn p_of_difference(first: &[f64], second: &[f64], input: &Input, method: Method) -> Result<f64> {
    match paired_t(first, second, input.confidence) {
        Ok(test) if method == Method::AnyTime => {
            let alpha = (1.0 - input.confidence) / 2.0;
            Ok((2.0 * anytime::p_value(test.t.abs(), first.len(), alpha)).min(1.0))
        }
        Ok(test) => Ok(test.p),
        // The same difference on every prompt: none at all, or one that no noise can explain.
        Err(StatsError::NoSpread { .. }) => Ok(if first == second { 1.0 } else { 0.0 }),
        Err(error) => Err(error),
    }
}

/// Speed-ups over plain decoding with intervals that hold at every number of prompts.
fn anytime_speedups(blocks: &Blocks, plain: usize, arms: &[usize], confidence: f64) -> Vec<Estimate> {
    let covariance = covariance(&blocks.relative_residuals(), blocks.arms());
    let critical = anytime::critical_value(blocks.prompts(), (1.0 - confidence) / 2.0);
    let reach = critical.powi(2) / blocks.prompts() as f64;
    let finite = |bound: f64| Some(bound).filter(|bound| bound.is_finite() && reach.is_finite());
    let estimate = |&arm: &usize| Estimate {
        value: blocks.means()[plain] / blocks.means()[arm],
        low: finite(ratio_bound(blocks, &covariance, arm, plain, reach).recip()),
        high: finite(ratio_bound(blocks, &covariance, plain, arm, reach)),
        confidence,
        caveat: None,
    };
    arms.iter().map(estimate).collect()
}

/// Speed-up of an arm over plain decoding on the same prompts, Σ seconds over Σ seconds, with an interval that holds at every
/// number of prompts at once; none below [`anytime::FEWEST_PROMPTS`].
pub fn anytime_speedup(seconds_plain: &[f64], seconds_arm: &[f64], confidence: f64) -> Result<Estimate> {
    check_confidence(confidence)?;
    check_length("seconds of the arm", seconds_plain.len(), seconds_arm.len())?;
    let rows: Vec<Vec<f64>> = seconds_plain.iter().zip(seconds_arm).map(|(plain, arm)| vec![*plain, *arm]).collect();
    Ok(anytime_speedups(&Blocks::from_seconds(&rows)?, 0, &[1], confidence).remove(0))
}

/// Seconds and tokens of every prompt, ready to be summed.
struct Sums {
    seconds: Rows,
    tokens: Rows,
    /// The tokens of every prompt and arm, where they are the same.
    same: Option<u64>,
}

impl Sums {
    fn of(input: &Input) -> Self {
        let first = input.tokens[0][0];
        Sums {
            seconds: Rows::new(&input.seconds, |seconds| *seconds),
            tokens: Rows::new(&input.tokens, |count| *count as f64),
            same: input.tokens.iter().flatten().all(|count| *count == first).then_some(first),
        }
    }

    /// Σ seconds / Σ tokens of plain decoding over those of each arm, for a multiset of prompts.
    fn speedups(&self, plain: usize, arms: &[usize], chosen: &[usize]) -> Vec<f64> {
        let mut costs = self.seconds.sums(chosen);
        match self.same {
            // A sum of whole numbers is exact in any order.
            Some(count) => costs.iter_mut().for_each(|cost| *cost /= (chosen.len() as u64 * count) as f64),
            None => costs.iter_mut().zip(self.tokens.sums(chosen)).for_each(|(cost, tokens)| *cost /= tokens),
        }
        arms.iter().map(|&arm| costs[plain] / costs[arm]).collect()
    }
}

/// Prompts after which a length would be within the margin and faster than plain decoding, each with a chance of 80 %, from
/// the measured differences and spread: the fewest over all lengths, none where a million would not do.
fn more_prompts(input: &Input, blocks: &Blocks, selection: &Selection) -> Option<usize> {
    const MOST: usize = 1_000_000;
    let assurance = Normal::standard().inverse_cdf(0.8);
    let plain = input.draft_lengths.iter().position(|&length| length == 0);
    let decided_at = |prompts: usize| {
        (0..blocks.arms()).any(|arm| {
            selection.expected_loss_bound(blocks, arm, prompts, assurance) < input.margin
                && plain
                    .is_none_or(|plain| arm == plain || expected_to_beat(input, blocks, arm, plain, prompts, assurance))
        })
    };
    if blocks.arms() < 2 || selection.critical_value.iter().any(|c| !c.is_finite()) || !decided_at(MOST) {
        return None;
    }
    let (mut too_few, mut enough) = (blocks.prompts(), MOST);
    while enough - too_few > 1 {
        let middle = too_few + (enough - too_few) / 2;
        if decided_at(middle) { enough = middle } else { too_few = middle }
    }
    Some(enough - blocks.prompts())
}

/// Whether `arm` would beat plain decoding at the strictest step of Holm, had it `prompts` prompts.
fn expected_to_beat(input: &Input, blocks: &Blocks, arm: usize, plain: usize, prompts: usize, assurance: f64) -> bool {
    let Ok(test) = paired_t(&blocks.arm(plain), &blocks.arm(arm), input.confidence) else {
        return blocks.means()[arm] < blocks.means()[plain];
    };
    let tail = (1.0 - input.confidence) / (2 * (blocks.arms() - 1)) as f64;
    let critical = students_t((prompts - 1) as f64).inverse_cdf(1.0 - tail);
    test.t * (prompts as f64 / blocks.prompts() as f64).sqrt() - assurance >= critical
}

fn warnings(input: &Input, blocks: &Blocks, method: Method, verdict: Verdict, practically_best: &[u32]) -> Vec<String> {
    let mut warnings = Vec::new();
    let (prompts, alpha) = (blocks.prompts(), 1.0 - input.confidence);
    let needed = match method {
        Method::SignFlip => (1..64).find(|&n| 0.5f64.powi(n) <= alpha).unwrap_or(64) as usize,
        Method::AnyTime => anytime::FEWEST_PROMPTS,
        Method::MaxT => 2,
    };
    if prompts < needed {
        warnings.push(format!(
            "{prompts} prompts cannot exclude any length at {:.0} % confidence; at least {needed} are needed",
            100.0 * input.confidence
        ));
    } else if prompts < MAX_T_PROMPTS && method == Method::SignFlip {
        warnings.push(format!("only {prompts} prompts: compared by sign flips; {MAX_T_PROMPTS} or more are better"));
    }
    if !input.draft_lengths.contains(&0) {
        warnings.push("plain decoding (draft length 0) was not measured: a speed-up cannot be stated".into());
    }
    let unequal = input.tokens.iter().filter(|row| row.iter().any(|&count| count != row[0])).count();
    if unequal > 0 {
        warnings.push(format!("the token budget differs between the lengths on {unequal} prompts"));
    }
    if verdict == Verdict::PlainNotBeaten && !practically_best.contains(&0) {
        warnings.push(format!(
            "plain decoding is not shown to be within {} % of the fastest either: more prompts would help",
            100.0 * input.margin
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arm_that_does_not_beat_plain_decoding_is_not_recommended() {
        let input = Input {
            draft_lengths: vec![0, 3],
            seconds: Vec::new(),
            tokens: Vec::new(),
            confidence: 0.95,
            margin: 0.02,
            seed: 0,
            method: None,
            draws: 1,
            resamples: 1,
        };
        let arm = |speedup, p_holm| [VersusPlain { draft_length: 3, speedup, low: None, high: None, p_holm }];
        let answer = |set: &[u32], arm: &[VersusPlain]| verdict(&input, &[3], set, arm);
        assert_eq!(answer(&[3], &arm(1.2, 0.01)), (Verdict::Recommended, Some(3)));
        assert_eq!(answer(&[0, 3], &arm(1.01, 0.3)), (Verdict::PlainNotBeaten, Some(0)));
        assert_eq!(answer(&[0, 3], &arm(0.99, 0.01)), (Verdict::PlainNotBeaten, Some(0)));
        assert_eq!(answer(&[3], &arm(1.2, 0.06)), (Verdict::Undecided, None));
        assert_eq!(verdict(&input, &[], &[0, 3], &arm(1.2, 0.01)), (Verdict::Undecided, None));
        assert_eq!(verdict(&input, &[0, 3], &[0, 3], &arm(1.2, 0.01)), (Verdict::Recommended, Some(0)));
    }
}
