//! Predictions as tables and sentences, each of which says that it is one.

use super::sentence::percent;
use crate::analysis::predict::{Predicted, PredictedCurve};
use crate::results::{PredictedLengthRow, PredictedWidthRow};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

/// Widths that the table shows; the file has all.
const SHOWN: [u64; 12] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128];

/// What is predicted, from what, and how its times are taken apart.
pub fn prediction_head(curve: &PredictedCurve) -> String {
    let Some(row) = curve.widths.first() else { return String::new() };
    let point = format!("{} ({}, context {}, batch {})", row.target, row.precision, row.context, row.batch);
    if curve.is_home {
        return format!(
            "{point} on {}: t(b) as measured ({}); throughput is PREDICTED from it",
            curve.source_machine, row.source
        );
    }
    let there = &curve.there;
    let rate = there.matrix_flops_per_s.map_or("unknown rate".into(), |rate| format!("{:.3} TFLOP/s", rate / 1e12));
    let apart = match &curve.fit.memory {
        Some(memory) => format!(
            "by targets of several sizes bytes take {:.2} times ({:.2} to {:.2}) what they would at the ceiling",
            memory.value, memory.low, memory.high
        ),
        None => "the curve does not tell launches from bytes: bytes at the ceiling for the prediction, the interval holds all \
                 from \"nothing scales\" to \"everything scales\""
            .to_string(),
    };
    format!(
        "PREDICTION, not measured: {point} on {}, from {} at {:.1} GB/s\n{} reaches {:.1} GB/s and {rate} ({})\n{}\n{apart}",
        there.name,
        row.source,
        curve.source_bytes_per_s / 1e9,
        there.name,
        there.bandwidth_bytes_per_s / 1e9,
        there.how,
        parts(row),
    )
}

fn parts(row: &PredictedWidthRow) -> String {
    format!(
        "t({}) = {:.2} ms: {:.2} of bytes, {:.2} of FLOPs, {:.2} that stays",
        row.width, row.source_ms, row.source_memory_ms, row.source_compute_ms, row.source_rest_ms
    )
}

/// Some widths of the curve.
pub fn prediction_table(curve: &PredictedCurve) -> String {
    let measured = curve.widths.iter().any(|row| row.measured_ms.is_some());
    let mut header = vec!["width", "here ms", "predicted ms", "interval"];
    if measured {
        header.extend(["measured ms", "error", "within"]);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for row in curve.widths.iter().filter(|row| SHOWN.contains(&row.width)) {
        let interval = match (row.predicted_low_ms, row.predicted_high_ms) {
            (Some(low), Some(high)) => format!("{low:.2} to {high:.2}"),
            _ => "cannot say".to_string(),
        };
        let mut cells = vec![
            row.width.to_string(),
            format!("{:.2}", row.source_ms),
            row.predicted_ms.map_or("cannot say".into(), |time| format!("{time:.2}")),
            interval,
        ];
        if measured {
            cells.extend([
                row.measured_ms.map_or(String::new(), |time| format!("{time:.2}")),
                row.error.map_or(String::new(), |error| format!("{:+.1} %", 100.0 * error)),
                row.within.map_or("", |within| if within { "yes" } else { "no" }).to_string(),
            ]);
        }
        table.add_row(cells);
    }
    right_aligned(table)
}

/// How far the prediction was off over all widths; none if nothing was measured there.
pub fn prediction_errors(curve: &PredictedCurve) -> Option<String> {
    let compared: Vec<&PredictedWidthRow> = curve.widths.iter().filter(|row| row.error.is_some()).collect();
    let mut sizes: Vec<f64> = compared.iter().filter_map(|row| row.error.map(f64::abs)).collect();
    sizes.sort_by(f64::total_cmp);
    let worst = compared.iter().max_by(|a, b| size(a).total_cmp(&size(b)))?;
    let judged: Vec<bool> = compared.iter().filter_map(|row| row.within).collect();
    let within = match judged.len() {
        0 => "no intervals".to_string(),
        all => format!(
            "{} of {all} measured times within their intervals",
            judged.iter().filter(|within| **within).count()
        ),
    };
    Some(format!(
        "error over {} widths: median {:.1} %, largest {:+.1} % at width {}; {within}",
        sizes.len(),
        100.0 * sizes[sizes.len() / 2],
        100.0 * worst.error.unwrap_or(0.0),
        worst.width
    ))
}

fn size(row: &PredictedWidthRow) -> f64 {
    row.error.unwrap_or(0.0).abs()
}

const LENGTH_HEADER: [&str; 9] = [
    "acceptance",
    "a drafted token costs",
    "γ",
    "speed-up",
    "interval",
    "shortest good",
    "may be best",
    "textbook γ",
    "loses",
];

/// The draft lengths of a curve; two more columns where the other machine was measured.
pub fn length_table(lengths: &[PredictedLengthRow]) -> String {
    let measured = lengths.iter().any(|row| row.measured_length.is_some());
    let mut table = Table::new();
    let mut header = LENGTH_HEADER.to_vec();
    if measured {
        header.extend(["measured γ", "regret"]);
    }
    table.load_style(NOTHING).set_header(header);
    for row in lengths {
        let mut cells = length_cells(row);
        if measured {
            cells.push(row.measured_length.map_or(String::new(), |length| length.to_string()));
            cells.push(row.regret.map_or(String::new(), |regret| format!("{:.1} %", 100.0 * regret)));
        }
        table.add_row(cells);
    }
    right_aligned(table)
}

/// All curves as Markdown: what is predicted, how far it was off, and the draft lengths.
pub fn prediction_page(predicted: &Predicted) -> String {
    let mut parts = vec!["# Predicted, not measured".to_string()];
    for curve in &predicted.curves {
        parts.push(prediction_head(curve).replace('\n', "  \n"));
        parts.extend(prediction_errors(curve));
        if !curve.lengths.is_empty() {
            let mut lines =
                vec![format!("| {} |", LENGTH_HEADER.join(" | ")), format!("|{}", "---|".repeat(LENGTH_HEADER.len()))];
            lines.extend(curve.lengths.iter().map(|row| format!("| {} |", length_cells(row).join(" | "))));
            parts.push(lines.join("\n"));
        }
        parts.extend(regret_sentence(&curve.lengths));
    }
    parts.push(
        "*γ*: the fastest length, 0 is plain decoding. *Shortest good*: the shortest that loses less than 2 % to it. *May be \
         best*: not shown to be slower. *Textbook γ*: the fastest if verification were free, and what it loses. Columns: \
         results/README.md."
            .to_string(),
    );
    parts.extend(predicted.warnings.iter().map(|warning| format!("Warning: {warning}")));
    parts.join("\n\n") + "\n"
}

fn length_cells(row: &PredictedLengthRow) -> Vec<String> {
    let acceptance = match (row.acceptance.as_str(), row.alpha) {
        ("alpha", Some(alpha)) => format!("α = {alpha:.2}"),
        (trace, alpha) => format!("{trace}{}", alpha.map_or(String::new(), |alpha| format!(" (α = {alpha:.2})"))),
    };
    let price = match row.draft_cost {
        Some(0.0) => "nothing".to_string(),
        Some(steps) => format!("{steps} plain steps"),
        None => row.drafter.clone(),
    };
    vec![
        acceptance,
        price,
        row.draft_length.to_string(),
        format!("{:.2}", row.speedup),
        match (row.speedup_low, row.speedup_high) {
            (Some(low), Some(high)) => format!("{low:.2} to {high:.2}"),
            _ => "cannot say".to_string(),
        },
        row.shortest_good.to_string(),
        row.may_be_best.clone(),
        row.textbook_length.to_string(),
        percent(row.textbook_loss),
    ]
}

/// How much the predicted lengths lose where the other machine was measured; none if it was not.
pub fn regret_sentence(lengths: &[PredictedLengthRow]) -> Option<String> {
    let regrets: Vec<f64> = lengths.iter().filter_map(|row| row.regret).collect();
    let worst = regrets.iter().copied().reduce(f64::max)?;
    let same = lengths.iter().filter(|row| row.measured_length == Some(row.draft_length)).count();
    Some(format!(
        "regret of the predicted draft length over {} cases: mean {:.1} %, largest {:.1} %; the same length as by the measured cost in {same}",
        regrets.len(),
        100.0 * regrets.iter().sum::<f64>() / regrets.len() as f64,
        100.0 * worst
    ))
}

fn right_aligned(mut table: Table) -> String {
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table.trim_fmt()
}
