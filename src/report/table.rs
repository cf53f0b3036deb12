//! The table of one decision: predicted and measured throughput of every draft length, and what speaks for it.

use crate::analysis::{ArmResult, Choice};
use crate::results::PredictionRow;
use crate::stats::decision::VersusPlain;
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, Table};

/// The columns of a decision's table.
pub const DECISION_HEADER: [&str; 9] =
    ["", "γ", "predicted tok/s", "measured tok/s", "speed-up", "interval", "loss at most", "τ", "accepted / drafted"];

/// Lines: the header, then one a draft length that was timed or predicted. `*` marks the recommendation, `+` lengths that
/// cannot be told from the best. Intervals are per length, at the decision's confidence; bounds on the loss to the best
/// hold for all lengths at once.
pub fn decision_table(choice: &Choice, predictions: &[PredictionRow]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(DECISION_HEADER);
    for row in decision_rows(choice, predictions) {
        table.add_row(row.map(Cell::new));
    }
    table.column_iter_mut().for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
    table.trim_fmt()
}

/// The rows of that table, by draft length.
pub fn decision_rows(choice: &Choice, predictions: &[PredictionRow]) -> Vec<[String; 9]> {
    let predictions: Vec<_> = predictions.iter().filter(|row| row.drafter == choice.drafter).collect();
    let mut lengths: Vec<u64> = choice.arms.iter().map(|arm| arm.draft_length).collect();
    lengths.extend(predictions.iter().map(|row| row.draft_length));
    lengths.sort_unstable();
    lengths.dedup();
    let prediction = |length: u64| predictions.iter().find(|row| row.draft_length == length).copied();
    lengths.into_iter().map(|length| row(choice, length, choice.arm(length), prediction(length))).collect()
}

fn row(choice: &Choice, length: u64, arm: Option<&ArmResult>, prediction: Option<&PredictionRow>) -> [String; 9] {
    let decision = &choice.decision;
    let mark = if decision.recommended.map(u64::from) == Some(length) {
        "*"
    } else if decision.confidence_set.iter().any(|other| u64::from(*other) == length) {
        "+"
    } else {
        ""
    };
    let number = |value: Option<f64>, digits: usize| value.map_or(String::new(), |value| format!("{value:.digits$}"));
    let versus_plain = choice.versus_plain(length);
    [
        mark.to_string(),
        length.to_string(),
        number(prediction.and_then(|row| row.replay_tok_per_s), 1),
        number(arm.map(|arm| arm.tok_per_s), 1),
        number(versus_plain.map(|arm| arm.speedup), 3),
        versus_plain.map(interval).unwrap_or_default(),
        decision.loss_bound.get(&(length as u32)).map(|bound| loss(*bound)).unwrap_or_default(),
        number(arm.and_then(ArmResult::tau).or(prediction.map(|row| row.tau)), 2),
        arm.map(acceptance).unwrap_or_default(),
    ]
}

/// `1.310 to 1.532`, or nothing if there is no interval.
fn interval(arm: &VersusPlain) -> String {
    match (arm.low, arm.high) {
        (Some(low), Some(high)) => format!("{low:.3} to {high:.3}"),
        _ => String::new(),
    }
}

/// A bound on a loss in per cent, rounded up so that the bound holds.
pub fn loss(bound: Option<f64>) -> String {
    let per_cent = |bound: f64| format!("{:.1} %", (bound * 1000.0 - 1e-9).ceil().abs() / 10.0);
    bound.map_or("unknown".to_string(), per_cent)
}

fn acceptance(arm: &ArmResult) -> String {
    let counts = &arm.counts;
    let share = |share| format!("{} / {} = {share:.3}", counts.accepted, counts.drafted);
    arm.acceptance().map(share).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::tests::choice;
    use super::*;

    #[test]
    fn every_timed_or_predicted_length_has_a_line() {
        let predicted = |draft_length, tok_per_s| PredictionRow {
            drafter: "lookup".to_string(),
            draft_length,
            tau: 1.25,
            replay_tok_per_s: Some(tok_per_s),
            ..PredictionRow::default()
        };
        let other = PredictionRow { drafter: "other".to_string(), draft_length: 7, ..PredictionRow::default() };
        let text = decision_table(&choice(Some(2)), &[predicted(1, 25.04), predicted(2, 29.96), other]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert_eq!(lines[1].join(" "), "0 20.0 60.0 % 1.00");
        assert_eq!(lines[2].join(" "), "1 25.0 1.25");
        assert_eq!(lines[3].join(" "), "* 2 30.0 30.0 1.500 1.400 to 1.600 1.3 % 1.60 432 / 1440 = 0.300");
        assert_eq!(lines[4].join(" "), "+ 4 29.8 1.490 1.390 to 1.590 unknown 1.80 512 / 2560 = 0.200");
    }

    #[test]
    fn a_bound_is_rounded_up() {
        assert_eq!([0.0, 0.01, 0.0101, 0.0199].map(|bound| loss(Some(bound))), ["0.0 %", "1.0 %", "1.1 %", "2.0 %"]);
    }
}
