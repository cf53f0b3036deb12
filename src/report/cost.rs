//! A measured cost curve in words: its stretches as a table, cliffs, padding, shape and ridge as lines, and one sentence.

use super::sentence::percent;
use crate::analysis::cost::CurveAnalysis;
use crate::results::{CostChangeRow, CostCurveRow, CostStretchRow, CostWidthRow, Mode, Role};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

/// The most cliffs or falls that are listed.
const LISTED: usize = 6;

/// `SmolLM2 float32, context 256, batch 1: 128 widths, 903 samples`
pub fn cost_title(curve: &CurveAnalysis) -> String {
    let CostCurveRow { target, precision, drafter, context, batch, widths, samples, invalid, failed, .. } = &curve.row;
    let of = match curve.row.role {
        Role::Target => format!("{target} {precision}, context {context}, batch {batch}"),
        Role::Drafter => format!("Proposals of {drafter} for {target} {precision}, context {context}"),
    };
    let left_out = match (invalid, failed) {
        (0, 0) => String::new(),
        _ => format!(" ({invalid} more are invalid, {failed} failed)"),
    };
    let what = if curve.row.role == Role::Target { "widths" } else { "draft lengths" };
    format!("{of}: {widths} {what}, {samples} samples{left_out}")
}

/// The columns of a curve's table; the first is γ for a drafter.
pub const COST_HEADER: [&str; 7] = ["b", "ms", "ms a further token", "interval", "bytes", "FLOPs", "regime"];

/// One line a stretch: neighbouring widths of one regime without a cliff or fall between them. Shares are those of the
/// time that the bytes need at the measured bandwidth, and the FLOPs at the measured matrix rate.
pub fn cost_table(curve: &CurveAnalysis) -> String {
    let mut header = COST_HEADER;
    header[0] = if curve.row.role == Role::Target { "b" } else { "γ" };
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for row in cost_rows(curve) {
        table.add_row(row);
    }
    table.column_iter_mut().take(6).for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
    table.trim_fmt()
}

/// The rows of that table.
pub fn cost_rows(curve: &CurveAnalysis) -> Vec<[String; 7]> {
    let number = |value: Option<f64>| value.map_or(String::new(), digits);
    let share = |value: Option<f64>| value.map_or(String::new(), |share| format!("{:.0} %", 100.0 * share));
    let row = |row: &CostStretchRow| {
        let interval = match (row.slope_low_ms, row.slope_high_ms) {
            (Some(low), Some(high)) => format!("{} to {}", digits(low), digits(high)),
            _ => String::new(),
        };
        [
            span(row.from_width, row.to_width),
            if row.from_width == row.to_width {
                digits(row.from_ms)
            } else {
                format!("{} to {}", digits(row.from_ms), digits(row.to_ms))
            },
            number(row.slope_ms),
            interval,
            share(row.memory_share),
            share(row.compute_share),
            if row.regime.is_empty() { "cannot say".to_string() } else { row.regime.clone() },
        ]
    };
    curve.stretches.iter().map(row).collect()
}

/// Cliffs, falls, padding, shape, ridge, and what cannot be said, a line each.
pub fn cost_details(curve: &CurveAnalysis) -> Vec<String> {
    let row = &curve.row;
    let mut lines = Vec::new();
    if row.cliffs.is_some() {
        lines.push(changes(curve, "cliff", "cliffs"));
        lines.push(changes(curve, "fall", "falls"));
    }
    let padding = padding(curve);
    if !padding.is_empty() {
        lines.push(format!("pad: {}", padding.join("; ")));
    }
    if !row.shape.is_empty() {
        lines.push(shape(curve));
    }
    if let (Role::Target, Some(_)) = (row.role, row.ridge_flop_per_byte) {
        lines.push(ridges(row));
    }
    if !row.cannot_say.is_empty() {
        lines.extend(row.cannot_say.split(" | ").map(|what| format!("cannot say: {what}")));
    }
    lines
}

/// `cliffs (95 % together): 16→17 +31 % [28, 34], ...`, largest first.
fn changes(curve: &CurveAnalysis, kind: &str, name: &str) -> String {
    let found = largest(curve, kind);
    let confidence = percent(curve.row.confidence);
    if found.is_empty() {
        return format!("{name} ({confidence} together): none shown");
    }
    let one = |row: &&CostChangeRow| {
        let [relative, low, high] = [row.relative, row.low, row.high].map(|share| 100.0 * share);
        format!("{}→{} {relative:+.0} % [{low:.0}, {high:.0}]", row.from_width, row.to_width)
    };
    let listed: Vec<String> = found.iter().take(LISTED).map(one).collect();
    let more = match found.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(", and {more} smaller ones"),
    };
    format!("{name} ({confidence} together): {}{more}", listed.join(", "))
}

fn largest<'a>(curve: &'a CurveAnalysis, kind: &str) -> Vec<&'a CostChangeRow> {
    let mut found: Vec<&CostChangeRow> = curve.changes.iter().filter(|row| row.kind == kind).collect();
    found.sort_by(|a, b| b.relative.abs().total_cmp(&a.relative.abs()));
    found
}

/// `13-15 to 16 (saves 4 to 9 %)`, one entry for neighbours with the same goal.
fn padding(curve: &CurveAnalysis) -> Vec<String> {
    let mut groups: Vec<(u64, u64, u64, Vec<f64>)> = Vec::new();
    for (place, row) in forwards(curve).enumerate() {
        let (Some(pad_to), Some(saving)) = (row.pad_to, row.pad_saving) else { continue };
        let before = place.checked_sub(1).and_then(|before| forwards(curve).nth(before)).map(|row| row.width);
        match groups.last_mut() {
            Some(group) if group.2 == pad_to && Some(group.1) == before => {
                group.1 = row.width;
                group.3.push(saving);
            }
            _ => groups.push((row.width, row.width, pad_to, vec![saving])),
        }
    }
    let text = |(from, to, pad_to, savings): &(u64, u64, u64, Vec<f64>)| {
        let [least, most] =
            [f64::min, f64::max].map(|pick| 100.0 * savings.iter().copied().reduce(pick).unwrap_or(0.0));
        let saves = if savings.len() == 1 { format!("{least:.0} %") } else { format!("{least:.0} to {most:.0} %") };
        format!("{} to {pad_to} (saves {saves})", span(*from, *to))
    };
    groups.iter().map(text).collect()
}

/// `shape: steps, off by 2.1 % at a width left out (constant 51.0 %, linear 4.4 %, one-kink 3.0 %)`
fn shape(curve: &CurveAnalysis) -> String {
    let first = |row: &&crate::results::CostModelRow| row.piece == 0;
    let error = |share: f64| format!("{:.1} %", 100.0 * share);
    let others: Vec<String> = curve
        .models
        .iter()
        .filter(first)
        .filter(|row| !row.chosen)
        .map(|row| format!("{} {}", row.shape, error(row.error_left_out)))
        .collect();
    let chosen = curve.row.error_left_out.map(error).unwrap_or_default();
    let bend = match curve.models.iter().find(|row| row.chosen && row.shape == "one-kink" && row.piece == 1) {
        Some(row) => format!(" at {}", row.from_width),
        None => String::new(),
    };
    format!("shape: {}{bend}, off by {chosen} at a width left out ({})", curve.row.shape, others.join(", "))
}

/// `ridge: measured 25 FLOP/byte (12 GB/s, 300 GFLOP/s), width 47; spec sheet: not known`
fn ridges(row: &CostCurveRow) -> String {
    let one = |bandwidth: Option<f64>, rate: Option<f64>, ridge: Option<f64>, width: Option<f64>| {
        let (Some(ridge), Some(bandwidth), Some(rate)) = (ridge, bandwidth, rate) else {
            return "not known".to_string();
        };
        let width = match width {
            Some(width) => format!("width {width:.0}"),
            None => "beyond the widths measured".to_string(),
        };
        format!("{} FLOP/byte ({} GB/s, {} GFLOP/s), {width}", digits(ridge), digits(bandwidth), digits(rate))
    };
    let measured = one(row.bandwidth_gb_s, row.matrix_gflop_s, row.ridge_flop_per_byte, row.ridge_width);
    let sheet =
        one(row.spec_bandwidth_gb_s, row.spec_matrix_gflop_s, row.spec_ridge_flop_per_byte, row.spec_ridge_width);
    let name = if row.spec.is_empty() { String::new() } else { format!(" of {}", row.spec) };
    format!("ridge: measured {measured}; data sheet{name}: {sheet}")
}

/// What to take away from a curve.
pub fn cost_sentence(curve: &CurveAnalysis) -> String {
    let all: Vec<&CostWidthRow> = forwards(curve).collect();
    let (Some(first), Some(last)) = (all.first(), all.last()) else { return "Nothing was measured.".to_string() };
    if curve.row.role == Role::Drafter {
        let a_token = last.time_ms / last.width as f64;
        return format!(
            "A proposal of {} tokens takes {} ms, {} a token.",
            last.width,
            digits(last.time_ms),
            digits(a_token)
        );
    }
    let mut parts = vec![format!(
        "A forward of {} tokens takes {:.2} times as long as one of {} ({} against {} ms)",
        last.width,
        last.time_ms / first.time_ms,
        first.width,
        digits(last.time_ms),
        digits(first.time_ms)
    )];
    // What verifying so many tokens may cost at most: 10 % more than the narrowest.
    let cheap =
        all.iter().take_while(|row| row.time_ms <= 1.1 * first.time_ms).last().map_or(first.width, |row| row.width);
    if cheap == last.width {
        parts.push("no width costs over 10 % more than that".to_string());
    } else {
        parts.push(format!("up to {cheap} tokens cost at most 10 % more than {}", first.width));
    }
    if let Some(cliff) = largest(curve, "cliff").first() {
        parts.push(format!(
            "the largest cliff is {:+.0} % from {} to {} tokens",
            100.0 * cliff.relative,
            cliff.from_width,
            cliff.to_width
        ));
    }
    let padded = padding(curve);
    if !padded.is_empty() {
        let more = if padded.len() > 3 { " and others (see above)" } else { "" };
        let some: Vec<String> = padded.into_iter().take(3).collect();
        parts.push(format!("pad {}{more}", some.join(", ")));
    }
    format!("{}.", parts.join("; "))
}

/// The synchronous widths.
fn forwards(curve: &CurveAnalysis) -> impl Iterator<Item = &CostWidthRow> {
    curve.widths.iter().filter(|row| row.mode == Mode::Sync)
}

fn span(from: u64, to: u64) -> String {
    if from == to { from.to_string() } else { format!("{from}-{to}") }
}

/// Three significant digits, or all before the point.
fn digits(value: f64) -> String {
    let before = if value == 0.0 { 1 } else { value.abs().log10().floor() as i32 + 1 };
    format!("{value:.*}", (3 - before).clamp(0, 6) as usize)
}
