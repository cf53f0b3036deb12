//! The lines below a decision's table: how a race went, what other methods say, and whether the machine was steady.

use super::sentence::{list, p_value, percent};
use crate::analysis::{Choice, Confirmation};
use crate::stats::bootstrap::Estimate;
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
    lines.extend(equivalents(choice));
    lines.extend(choice.confirmation.as_ref().and_then(neighbours));
    let steady = choice.validity.iter().map(controls).filter(|said| !said.is_empty());
    lines.extend(steady.map(|said| format!("plain runs in time: {}", said.join("; "))));
    lines
}

/// Two one-sided tests at the margin; none where nothing could be compared.
fn equivalents(choice: &Choice) -> Option<String> {
    let said = choice.equivalents.iter().map(|pair| match pair.reference {
        0 => format!(
            "γ={} loses no more than that to plain decoding p = {}",
            pair.draft_length,
            p_value(pair.test.p_upper)
        ),
        fastest => format!("γ={} is as fast as γ={fastest} p = {}", pair.draft_length, p_value(pair.test.p)),
    });
    let said: Vec<String> = said.collect();
    let margin = percent(choice.decision.margin);
    (!said.is_empty()).then(|| format!("equivalence up to {margin} (two one-sided tests): {}", said.join("; ")))
}

/// The lengths beside the recommended one on the confirmation prompts; none where none was timed.
fn neighbours(confirmed: &Confirmation) -> Option<String> {
    let said = confirmed.neighbours.iter().map(|neighbour| {
        let Estimate { value, low, high, .. } = neighbour.speedup;
        let interval = match (low, high) {
            (Some(low), Some(high)) => format!(" ({low:.3} to {high:.3})"),
            _ => String::new(),
        };
        let equal = neighbour.equivalent.map_or(String::new(), |pair| {
            let (length, p) = (confirmed.draft_length, p_value(pair.test.p));
            format!(", as fast as γ={length} up to {} p = {p}", percent(pair.margin))
        });
        format!("γ={} {value:.3} times as fast as plain decoding{interval}{equal}", neighbour.draft_length)
    });
    let said: Vec<String> = said.collect();
    (!said.is_empty()).then(|| format!("neighbours on the confirming prompts: {}", said.join("; ")))
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
    let spread = validity.spread.map(|[between, within]| {
        let (between, within) = (100.0 * between, 100.0 * within);
        format!("standard deviation {between:.1} % between prompts, {within:.1} % between runs of one")
    });
    drift.into_iter().chain(series).chain(spread).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{choice, estimate};
    use super::*;
    use crate::analysis::{Equivalent, Neighbour};
    use crate::stats::equivalence::Equivalence;
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
            spread: Some([0.031, 0.0049]),
            outlying_prompts: vec![3],
            warnings: Vec::new(),
        });
        let test = Equivalence { p_lower: 0.001, p_upper: 0.0201, p: 0.0201 };
        let pair = |reference: u64| Equivalent { draft_length: 2, reference, margin: 0.02, test };
        choice.equivalents = vec![pair(4), pair(0)];
        let neighbour = Neighbour { draft_length: 4, speedup: estimate(1.4, 1.3, 1.5), equivalent: Some(pair(4)) };
        choice.confirmation = Some(Confirmation {
            prompts: 16,
            draft_length: 2,
            speedup: estimate(1.42, 1.31, 1.53),
            neighbours: vec![neighbour],
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
            "equivalence up to 2 % (two one-sided tests): γ=2 is as fast as γ=4 p = 0.020; \
             γ=2 loses no more than that to plain decoding p = 0.020"
        );
        assert_eq!(
            lines[2],
            "neighbours on the confirming prompts: γ=4 1.400 times as fast as plain decoding (1.300 to 1.500), \
             as fast as γ=2 up to 2 % p = 0.020"
        );
        assert_eq!(
            lines[3],
            "plain runs in time: drift -1.2 % from the first prompt to the last (p = 0.250); lag-1 autocorrelation 0.10 \
             (p = 0.500); standard deviation 3.1 % between prompts, 0.5 % between runs of one"
        );
        let other = Disagreement { check: Check::WithoutOutliers, says: "x".to_string() };
        choice.sensitivity.disagreements.push(other);
        assert!(opinions(&choice)[0].ends_with("they disagree with the decision, see the warnings"));
    }
}
