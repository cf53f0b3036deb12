//! Second opinions on a decision by methods with other assumptions; a report shows them and says where they disagree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blocks::Blocks;
use super::decision::{Decision, Input, decide};
use super::error::Result;
use super::friedman::{Friedman, friedman};
use super::mcs::{BlockBootstrap, model_confidence_set};
use super::multiple::holm;
use super::paired::{SignedRank, signed_rank};

/// Each length above 0 against plain decoding by ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankVersusPlain {
    pub draft_length: u32,
    /// Sum of the ranks of the prompts on which plain decoding took longer.
    pub rank_sum: f64,
    /// Two-sided p-value of Wilcoxon's signed-rank test, Holm-adjusted.
    pub p_holm: f64,
}

/// The second opinions, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    SignedRanks,
    Friedman,
    ModelConfidenceSet,
    WithoutOutliers,
}

/// A second opinion that differs from the decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disagreement {
    pub check: Check,
    /// One sentence without its full stop.
    pub says: String,
}

/// The sensitivity block.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    pub signed_ranks: Vec<RankVersusPlain>,
    /// Do the lengths differ at all? None with fewer than two lengths.
    pub friedman: Option<Friedman>,
    /// Lengths in the Model Confidence Set at the same confidence.
    pub model_confidence_set: Vec<u32>,
    /// By length: the p-value of the Model Confidence Set, which holds the lengths whose p is above one less the confidence.
    pub model_confidence_p: BTreeMap<u32, f64>,
    /// The recommendation without the prompts given as outlying; the outer none means that there were none to leave out.
    pub recommended_without_outliers: Option<Option<u32>>,
    /// Where these disagree with the decision.
    pub disagreements: Vec<Disagreement>,
}

/// Repeats a decision by signed ranks, Friedman's test and the Model Confidence Set, and without outlying prompts.
pub fn sensitivity(input: &Input, decision: &Decision, outlying_prompts: &[usize]) -> Result<Sensitivity> {
    let blocks = Blocks::new(&input.seconds, &input.tokens)?;
    let rows: Vec<Vec<f64>> = (0..blocks.prompts()).map(|prompt| blocks.prompt(prompt).to_vec()).collect();
    let bootstrap = BlockBootstrap::for_prompts(blocks.prompts(), input.resamples, input.seed);
    let p_values = model_confidence_set(&blocks, &bootstrap)?;
    let model_confidence_p: BTreeMap<u32, f64> = input.draft_lengths.iter().copied().zip(p_values).collect();
    let set = model_confidence_p.iter().filter(|(_, p)| **p > 1.0 - input.confidence).map(|(length, _)| *length);
    let mut sensitivity = Sensitivity {
        signed_ranks: signed_ranks(input, &blocks)?,
        friedman: if blocks.arms() > 1 { Some(friedman(&rows)?) } else { None },
        model_confidence_set: set.collect(),
        model_confidence_p,
        recommended_without_outliers: without(input, outlying_prompts)?,
        disagreements: Vec::new(),
    };
    sensitivity.disagreements = disagreements(&sensitivity, decision);
    Ok(sensitivity)
}

fn signed_ranks(input: &Input, blocks: &Blocks) -> Result<Vec<RankVersusPlain>> {
    let Some(plain) = input.draft_lengths.iter().position(|&length| length == 0) else { return Ok(Vec::new()) };
    let mut arms: Vec<usize> = (0..blocks.arms()).filter(|&arm| arm != plain).collect();
    arms.sort_unstable_by_key(|&arm| input.draft_lengths[arm]);
    let plain_costs = blocks.arm(plain);
    let tests = arms.iter().map(|&arm| signed_rank(&plain_costs, &blocks.arm(arm))).collect::<Result<Vec<_>>>()?;
    let adjusted = holm(&tests.iter().map(|test| test.p).collect::<Vec<_>>())?;
    let row = |((&arm, test), p_holm): ((&usize, &SignedRank), f64)| RankVersusPlain {
        draft_length: input.draft_lengths[arm],
        rank_sum: test.rank_sum,
        p_holm,
    };
    Ok(arms.iter().zip(&tests).zip(adjusted).map(row).collect())
}

/// The recommendation on the other prompts; none where there are too few of them.
fn without(input: &Input, outlying: &[usize]) -> Result<Option<Option<u32>>> {
    let kept: Vec<usize> = (0..input.seconds.len()).filter(|prompt| !outlying.contains(prompt)).collect();
    if kept.len() == input.seconds.len() || kept.len() < 2 {
        return Ok(None);
    }
    let rest = Input {
        seconds: kept.iter().map(|&prompt| input.seconds[prompt].clone()).collect(),
        tokens: kept.iter().map(|&prompt| input.tokens[prompt].clone()).collect(),
        ..input.clone()
    };
    Ok(Some(decide(&rest)?.recommended))
}

fn disagreements(sensitivity: &Sensitivity, decision: &Decision) -> Vec<Disagreement> {
    let alpha = 1.0 - decision.confidence;
    let mut found = Vec::new();
    let mut say = |check, says| found.push(Disagreement { check, says });
    if let Some(length) = decision.recommended {
        if let Some(row) = sensitivity.signed_ranks.iter().find(|row| row.draft_length == length && row.p_holm > alpha)
        {
            let p = row.p_holm;
            let says = format!("signed ranks do not show draft length {length} to beat plain decoding (p = {p:.3})");
            say(Check::SignedRanks, says);
        }
        if decision.confidence_set.contains(&length) && !sensitivity.model_confidence_set.contains(&length) {
            say(Check::ModelConfidenceSet, format!("the Model Confidence Set excludes draft length {length}"));
        }
    }
    if let Some(test) = sensitivity.friedman.as_ref().filter(|test| test.p > alpha)
        && decision.confidence_set.len() < decision.loss_bound.len()
    {
        let says = format!("Friedman's test sees no difference between the lengths (p = {:.3})", test.p);
        say(Check::Friedman, says);
    }
    if let Some(other) = sensitivity.recommended_without_outliers.filter(|other| *other != decision.recommended) {
        let answer = other.map_or("nothing is decided".into(), |length| format!("{length} is recommended"));
        say(Check::WithoutOutliers, format!("without the outlying prompts {answer}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Length 1 saves a fifth on every prompt but the last, which is hit by something.
    fn input(last: f64) -> Input {
        let pattern = |prompt: usize| 1.0 + 0.01 * ((prompt * 5) % 7) as f64;
        let mut seconds: Vec<Vec<f64>> = (0..24).map(|i| vec![1.0, 0.8 * pattern(i), 1.3 * pattern(i + 3)]).collect();
        seconds[23][1] = last;
        Input {
            draft_lengths: vec![0, 1, 2],
            tokens: vec![vec![1; 3]; 24],
            seconds,
            confidence: 0.95,
            margin: 0.02,
            seed: 1,
            method: None,
            draws: 1_000,
            resamples: 200,
        }
    }

    #[test]
    fn clear_data_leave_nothing_to_disagree_about() {
        let input = input(0.8);
        let answer = sensitivity(&input, &decide(&input).unwrap(), &[]).unwrap();
        assert_eq!((answer.disagreements.len(), answer.model_confidence_set), (0, vec![1]));
        assert_eq!(answer.recommended_without_outliers, None);
        assert!(answer.friedman.unwrap().p < 0.05 && answer.signed_ranks[0].p_holm < 0.05);
    }

    #[test]
    fn one_wild_prompt_is_found_out() {
        let input = input(4.0);
        let decision = decide(&input).unwrap();
        let answer = sensitivity(&input, &decision, &[23]).unwrap();
        assert_eq!((decision.recommended, answer.recommended_without_outliers), (None, Some(Some(1))));
        let says = "without the outlying prompts 1 is recommended".to_string();
        assert_eq!(answer.disagreements, [Disagreement { check: Check::WithoutOutliers, says }]);
    }
}
