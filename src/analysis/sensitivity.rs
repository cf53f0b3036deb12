//! The rows of `sensitivity.csv`: what other methods and the controls say about a decision.

use super::choice::Choice;
use crate::results::SensitivityRow;
use crate::stats::sensitivity::Check;

/// One row for each draft length and second opinion, then those about all lengths, then the controls'.
pub fn sensitivity_rows(choice: &Choice) -> Vec<SensitivityRow> {
    let opinions = &choice.sensitivity;
    let recommended = choice.decision.recommended;
    let row = |check: &str, draft_length: Option<u32>, statistic: Option<f64>, p: Option<f64>| SensitivityRow {
        drafter: choice.drafter.clone(),
        check: check.to_string(),
        draft_length: draft_length.map(u64::from),
        statistic,
        p,
        disagreement: String::new(),
    };
    let disagreement = |check: Check| {
        opinions
            .disagreements
            .iter()
            .find(|other| other.check == check)
            .map_or(String::new(), |other| other.says.clone())
    };
    // A disagreement about one length stands in that length's row.
    let about = |check: Check, length: u32| {
        if recommended == Some(length) { disagreement(check) } else { String::new() }
    };
    let mut rows = Vec::new();
    rows.extend(opinions.signed_ranks.iter().map(|test| SensitivityRow {
        disagreement: about(Check::SignedRanks, test.draft_length),
        ..row("signed-ranks", Some(test.draft_length), Some(test.rank_sum), Some(test.p_holm))
    }));
    rows.extend(opinions.model_confidence_p.iter().map(|(&length, &p)| SensitivityRow {
        disagreement: about(Check::ModelConfidenceSet, length),
        ..row("model-confidence-set", Some(length), None, Some(p))
    }));
    rows.extend(opinions.friedman.iter().map(|test| SensitivityRow {
        disagreement: disagreement(Check::Friedman),
        ..row("friedman", None, test.f, Some(test.p))
    }));
    rows.extend(choice.equivalents.iter().map(|pair| {
        let check = if pair.reference == 0 { "loses-no-more-than-margin-to-plain" } else { "equivalent-to-fastest" };
        let p = if pair.reference == 0 { pair.test.p_upper } else { pair.test.p };
        row(check, Some(pair.draft_length as u32), None, Some(p))
    }));
    let neighbours = choice.confirmation.iter().flat_map(|confirmed| &confirmed.neighbours);
    rows.extend(neighbours.map(|neighbour| {
        let p = neighbour.equivalent.map(|pair| pair.test.p);
        row("confirmed-neighbour", Some(neighbour.draft_length as u32), Some(neighbour.speedup.value), p)
    }));
    let Some(validity) = &choice.validity else { return rows };
    if let Some(recommended) = opinions.recommended_without_outliers {
        let left_out = validity.outlying_prompts.len() as f64;
        rows.push(SensitivityRow {
            disagreement: disagreement(Check::WithoutOutliers),
            ..row("without-outliers", recommended, Some(left_out), None)
        });
    }
    rows.extend(validity.drift.map(|drift| row("drift", None, Some(drift.slope), Some(drift.p))));
    let series = validity.autocorrelation;
    rows.extend(series.map(|series| row("autocorrelation", None, Some(series.lag_1), Some(series.p))));
    for (check, place) in [("spread-between-prompts", 0), ("spread-within-prompts", 1)] {
        rows.extend(validity.spread.map(|spread| row(check, None, Some(spread[place]), None)));
    }
    rows
}
