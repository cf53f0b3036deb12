//! The lines below a decision's table: how a race went, what other methods say, and whether the machine was steady.

use super::sentence::{list, p_value};
use crate::analysis::Choice;
use crate::stats::sensitivity::Sensitivity;
use crate::stats::validity::Validity;

/// One line a look of a race; none where there was no race.
pub fn race(choice: &Choice) -> Vec<String> {
    let line = |look: &crate::stats::sequential::Look| {
        let dropped = match look.dropped.as_slice() {
            [] => "no length dropped".to_string(),
            dropped => format!("γ={} dropped", list(dropped)),
        };
        format!("look after {} prompts: {dropped}, γ={} left", look.prompts, list(&look.running))
    };
    choice.looks.iter().map(line).collect()
}

/// What the second opinions and the controls say, a line each; nothing where neither was asked.
pub fn opinions(choice: &Choice) -> Vec<String> {
    let opinions = &choice.sensitivity;
    let mut said = second_opinions(opinions);
    if !said.is_empty() {
        said.push(match opinions.disagreements.len() {
            0 => "they agree with the decision".to_string(),
            _ => "they disagree with the decision, see the warnings".to_string(),
        });
    }
    let mut lines = Vec::new();
    if !said.is_empty() {
        lines.push(format!("second opinions: {}", said.join("; ")));
    }
    let steady = choice.validity.iter().map(controls).filter(|said| !said.is_empty());
    lines.extend(steady.map(|said| format!("plain runs in time: {}", said.join("; "))));
    lines
}

fn second_opinions(opinions: &Sensitivity) -> Vec<String> {
    let mut said = Vec::new();
    if !opinions.signed_ranks.is_empty() {
        let tests = opinions.signed_ranks.iter();
        let tests: Vec<String> =
            tests.map(|test| format!("γ={} p = {}", test.draft_length, p_value(test.p_holm))).collect();
        said.push(format!("signed ranks against plain decoding (Holm) {}", tests.join(", ")));
    }
    if let Some(test) = &opinions.friedman {
        said.push(format!("Friedman (Iman-Davenport) p = {}", p_value(test.p)));
    }
    if !opinions.model_confidence_set.is_empty() {
        said.push(format!("Model Confidence Set γ={}", list(&opinions.model_confidence_set)));
    }
    if let Some(other) = opinions.recommended_without_outliers {
        let answer = other.map_or("undecided".to_string(), |length| format!("γ={length}"));
        said.push(format!("without outlying prompts {answer}"));
    }
    said
}

fn controls(validity: &Validity) -> Vec<String> {
    let drift = validity.drift.map(|drift| {
        let over_the_run = 100.0 * drift.slope;
        format!("drift {over_the_run:+.1} % from the first prompt to the last (p = {})", p_value(drift.p))
    });
    let series = validity.autocorrelation;
    let series = series.map(|series| format!("lag-1 autocorrelation {:.2} (p = {})", series.lag_1, p_value(series.p)));
    drift.into_iter().chain(series).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::choice;
    use super::*;
    use crate::stats::friedman::Friedman;
    use crate::stats::sensitivity::{Check, Disagreement, RankVersusPlain};
    use crate::stats::validity::{Autocorrelation, Trend};

    #[test]
    fn every_opinion_is_said_and_whether_it_differs() {
        let mut choice = choice(Some(2));
        assert_eq!(opinions(&choice), Vec::<String>::new());
        choice.sensitivity = Sensitivity {
            signed_ranks: vec![RankVersusPlain { draft_length: 2, rank_sum: 300.0, p_holm: 1e-6 }],
            friedman: Some(Friedman {
                mean_ranks: vec![3.0, 1.0],
                chi_squared: 9.0,
                p_chi_squared: 0.02,
                f: Some(4.0),
                p: 0.0123,
            }),
            model_confidence_set: vec![2, 4],
            recommended_without_outliers: Some(None),
            ..Sensitivity::default()
        };
        choice.validity = Some(Validity {
            drift: Some(Trend { slope: -0.012, standard_error: 0.01, p: 0.25 }),
            autocorrelation: Some(Autocorrelation { lag_1: 0.1, p: 0.5 }),
            outlying_prompts: vec![3],
            warnings: Vec::new(),
        });
        let lines = opinions(&choice);
        assert_eq!(
            lines[0],
            "second opinions: signed ranks against plain decoding (Holm) γ=2 p = less than 0.001; \
             Friedman (Iman-Davenport) p = 0.012; Model Confidence Set γ=2, 4; without outlying prompts undecided; \
             they agree with the decision"
        );
        assert_eq!(
            lines[1],
            "plain runs in time: drift -1.2 % from the first prompt to the last (p = 0.250); lag-1 autocorrelation 0.10 (p = 0.500)"
        );
        let other = Disagreement { check: Check::WithoutOutliers, says: "x".to_string() };
        choice.sensitivity.disagreements.push(other);
        assert!(opinions(&choice)[0].ends_with("they disagree with the decision, see the warnings"));
    }
}
