//! The verdicts of the baseline experiments, for people.

use crate::experiment::{Baseline, Scale};
use crate::results::HypothesisRow;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

/// What will be measured, in one paragraph.
pub fn scale(scale: &Scale) -> String {
    let family: Vec<String> = scale.family.iter().map(ToString::to_string).collect();
    let [fewest, most] = scale.passes;
    format!(
        "Main model {}; by size {}; contexts to {}, prompts to {}, widths to {}, batches to {}; {fewest} to {most} passes, about {}",
        scale.main,
        family.join(", "),
        scale.contexts.last().unwrap_or(&0),
        scale.prompts.last().unwrap_or(&0),
        scale.widths.last().unwrap_or(&0),
        scale.batches.last().unwrap_or(&0),
        crate::scenario::format_budget(scale.time),
    )
}

/// The columns of the table of hypotheses: experiment, statement, verdict, what decides, its value with interval, the bound.
pub const HYPOTHESIS_HEADER: [&str; 7] = ["", "hypothesis", "", "what decides", "value", "95 % interval", "holds"];

/// One row a hypothesis.
pub fn hypothesis_table(baseline: &Baseline) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(HYPOTHESIS_HEADER);
    for row in hypothesis_rows(baseline) {
        table.add_row(row);
    }
    table.to_string()
}

/// The rows of that table.
pub fn hypothesis_rows(baseline: &Baseline) -> Vec<[String; 7]> {
    let row = |row: &HypothesisRow| {
        let interval = match (row.low, row.high) {
            (Some(low), Some(high)) => format!("{} to {}", short(low), short(high)),
            _ => String::new(),
        };
        [
            row.experiment.to_string(),
            row.hypothesis.clone(),
            row.verdict.clone(),
            row.quantity.clone(),
            row.value.map(short).unwrap_or_default(),
            interval,
            holds(row),
        ]
    };
    baseline.hypotheses.iter().map(row).collect()
}

/// The notes, the ceilings, and how many samples count for nothing.
pub fn baseline_notes(baseline: &Baseline) -> Vec<String> {
    let ceilings = &baseline.ceilings;
    let mut lines: Vec<String> = baseline
        .hypotheses
        .iter()
        .filter(|row| !row.note.is_empty())
        .map(|row| format!("{:2} {}: {}", row.experiment, row.name, row.note))
        .collect();
    lines.dedup();
    let read = ceilings.read_bytes_per_s.map_or(String::new(), |read| format!("{:.1} GB/s read, ", read / 1e9));
    lines.push(format!(
        "Ceilings: {read}{:.1} GB/s copied (read and written), {:.0} GFLOP/s, ridge {:.1} FLOP/byte. {} of {} samples are invalid (above a ceiling).",
        ceilings.bandwidth_bytes_per_s / 1e9,
        ceilings.matrix_flops_per_s / 1e9,
        ceilings.ridge_flops_per_byte(),
        baseline.invalid,
        baseline.samples,
    ));
    lines
}

fn holds(row: &HypothesisRow) -> String {
    match (row.at_least, row.at_most) {
        (Some(least), Some(most)) => format!("{} to {}", short(least), short(most)),
        (Some(least), None) => format!("from {}", short(least)),
        (None, Some(most)) => format!("up to {}", short(most)),
        (None, None) => String::new(),
    }
}

/// Three significant digits.
fn short(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { (2 - value.abs().log10().floor() as i32).clamp(0, 4) };
    format!("{value:.*}", digits as usize)
}
