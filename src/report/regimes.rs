//! The regime map as a table, and one sentence a contrast.

use super::sentence::{p_value, percent};
use crate::results::{ContrastRow, RegimeRow};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

const HEADER: [&str; 13] = [
    "machine",
    "target",
    "precision",
    "context",
    "batch",
    "GB/s",
    "MB a token",
    "drafter",
    "α",
    "regime",
    "γ*",
    "speed-up",
    "interval",
];

/// One line a regime; γ* is empty where undecided, and a speed-up in brackets is not confirmed on fresh prompts.
pub fn regime_table(regimes: &[RegimeRow]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(HEADER);
    for row in regimes {
        let number = |value: Option<f64>, digits: usize| value.map_or(String::new(), |v| format!("{v:.digits$}"));
        let speedup = number(row.speedup, 3);
        let interval = match (row.speedup_low, row.speedup_high) {
            (Some(low), Some(high)) => format!("{low:.3} to {high:.3}"),
            _ => String::new(),
        };
        table.add_row([
            row.machine.clone(),
            row.target.clone(),
            row.precision.clone(),
            row.context.to_string(),
            row.batch.to_string(),
            number(row.bandwidth_gb_s, 1),
            number(row.bytes_per_token.map(|bytes| bytes / 1e6), 1),
            row.drafter.clone(),
            number(row.alpha, 2),
            row.regime.clone(),
            row.draft_length.map_or(String::new(), |length| length.to_string()),
            if row.confirmed { speedup } else { format!("({speedup})") },
            interval,
        ]);
    }
    table.column_iter_mut().skip(3).for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
    table.trim_fmt()
}

/// `4bit against 8bit (lookup): γ* differs, 2 and 8, p = 0.003; carrying γ=2 over costs 3.1 % [1.0, 5.2], ...`
pub fn contrast_sentence(row: &ContrastRow) -> String {
    let verdict = if row.p_holm <= 1.0 - row.confidence { "γ* differs" } else { "γ* is not shown to differ" };
    let loss = |value: f64, low: f64, high: f64| {
        let share = |value: f64| format!("{:.1}", 100.0 * value);
        format!("{} % [{}, {}]", share(value), share(low), share(high))
    };
    let there = loss(row.loss_of_first_in_second, row.loss_of_first_in_second_low, row.loss_of_first_in_second_high);
    let back = loss(row.loss_of_second_in_first, row.loss_of_second_in_first_low, row.loss_of_second_in_first_high);
    format!(
        "{} against {} ({}): {verdict}, fastest are γ={} and γ={}, p = {}; carrying γ={} over costs {there}, γ={} back {back} \
         ({} intervals, {} prompts).",
        row.first,
        row.second,
        row.drafter,
        row.best_first,
        row.best_second,
        p_value(row.p_holm),
        row.best_first,
        row.best_second,
        percent(row.confidence),
        if row.paired { "the same" } else { "different" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contrast_says_whether_how_sure_and_what_it_costs() {
        let row = ContrastRow {
            drafter: "lookup".to_string(),
            first: "4bit".to_string(),
            second: "8bit".to_string(),
            paired: true,
            best_first: 2,
            best_second: 8,
            p_holm: 0.0031,
            loss_of_first_in_second: 0.031,
            loss_of_first_in_second_low: 0.01,
            loss_of_first_in_second_high: 0.052,
            loss_of_second_in_first: 0.2,
            loss_of_second_in_first_low: 0.1,
            loss_of_second_in_first_high: 0.3,
            confidence: 0.95,
            ..ContrastRow::default()
        };
        assert_eq!(
            contrast_sentence(&row),
            "4bit against 8bit (lookup): γ* differs, fastest are γ=2 and γ=8, p = 0.003; carrying γ=2 over costs \
             3.1 % [1.0, 5.2], γ=8 back 20.0 % [10.0, 30.0] (95 % intervals, the same prompts)."
        );
        let unsure = ContrastRow { p_holm: 0.2, paired: false, ..row };
        assert!(contrast_sentence(&unsure).contains("γ* is not shown to differ"));
    }

    #[test]
    fn an_undecided_regime_has_no_length_and_brackets() {
        let row = RegimeRow { machine: "m".to_string(), speedup: Some(1.5), ..RegimeRow::default() };
        let text = regime_table(&[row]);
        assert!(text.contains("γ*") && text.contains("(1.500)"), "{text}");
    }
}
