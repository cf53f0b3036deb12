//! The map of regimes: where they lie and which draft length each takes, and the speed-ups with their intervals.

use super::data::{Data, field};
use super::style::{COLOURS, Drawing, GREY, MARKERS, axes_height, logarithmic, points};
use super::{Figure, Width};
use crate::results::RegimeRow;
use kuva::render::annotations::ReferenceLine;
use kuva::render::layout::TickFormat;
use std::sync::Arc;

const COLUMNS: [&str; 18] = [
    "folder",
    "machine",
    "target",
    "precision",
    "context",
    "batch",
    "drafter",
    "regime",
    "bytes_ms",
    "alpha",
    "draft_length",
    "confidence_set",
    "speedup_of",
    "speedup",
    "speedup_low",
    "speedup_high",
    "confirmed",
    "prompts",
];
/// Regimes in the order of their colours; whatever else comes last.
const REGIMES: [&str; 4] = ["memory-bound", "overhead-bound", "compute-bound", "unexplained"];

/// Milliseconds that the bytes of a plain step take at the measured bandwidth.
fn bytes_ms(row: &RegimeRow) -> Option<f64> {
    Some(row.bytes_per_token? / row.bandwidth_gb_s? / 1e6)
}

/// γ*, or a question mark where undecided.
fn length(row: &RegimeRow) -> String {
    row.draft_length.map_or("?".to_string(), |length| length.to_string())
}

fn of_regime(rows: &[RegimeRow], place: usize) -> impl Iterator<Item = (usize, &RegimeRow)> {
    let is = move |row: &RegimeRow| REGIMES.iter().position(|name| *name == row.regime).unwrap_or(3) == place;
    rows.iter().enumerate().filter(move |(_, row)| is(row))
}

/// Regimes by what the bytes of a step take and by acceptance, each with its draft length; none where fewer than two have both.
pub fn regime_map_figure(name: &str, rows: &[RegimeRow], width: Width) -> Option<Figure> {
    let point = |row: &RegimeRow| Some((bytes_ms(row)?, row.alpha?));
    if rows.iter().filter_map(point).count() < 2 {
        return None;
    }
    let mut drawing = Drawing::default();
    for (place, regime) in REGIMES.iter().enumerate() {
        let found: Vec<(&RegimeRow, (f64, f64))> =
            of_regime(rows, place).filter_map(|(_, row)| Some((row, point(row)?))).collect();
        if found.is_empty() {
            continue;
        }
        let labels: Vec<String> = found.iter().map(|(row, _)| length(row)).collect();
        let drawn = points(found.into_iter().map(|(_, point)| point).collect(), COLOURS[place], MARKERS[place]);
        drawing.points(drawn.with_labels(labels).with_repel_labels(), regime);
    }
    let scene = drawing.scene(
        width,
        axes_height(width),
        "bytes of a plain step, ms at the measured bandwidth",
        "acceptance α",
        |layout| {
            layout
                .with_log_x()
                .with_x_tick_format(TickFormat::Custom(Arc::new(logarithmic)))
                .with_y_axis_min(0.0)
                .with_y_axis_max(1.0)
                .with_y_tick_step(0.2)
        },
    );
    let caption = "The regimes by the time that the bytes of a plain step take and by acceptance; the number is the \
                   recommended draft length, a question mark stands for undecided."
        .to_string();
    Some(Figure::new(name.to_string(), caption, data(rows), width, scene))
}

/// Speed-ups with their intervals, a line a regime; none if there is none.
pub fn regime_figure(name: &str, rows: &[RegimeRow], width: Width) -> Option<Figure> {
    let rows: Vec<RegimeRow> = rows.iter().filter(|row| row.speedup.is_some()).cloned().collect();
    if rows.is_empty() {
        return None;
    }
    let (count, labels) = (rows.len(), labels(&rows));
    let (labels, key) = fitting(labels, width);
    let mut drawing = Drawing::default();
    for confirmed in [true, false] {
        for (place, regime) in REGIMES.iter().enumerate() {
            // The first line stands highest.
            let found: Vec<(f64, &RegimeRow)> = of_regime(&rows, place)
                .filter(|(_, row)| row.confirmed == confirmed)
                .map(|(line, row)| ((count - line) as f64, row))
                .collect();
            if found.is_empty() {
                continue;
            }
            let value = |row: &RegimeRow| row.speedup.unwrap_or(1.0);
            let error = |(_, row): &(f64, &RegimeRow)| {
                (
                    value(row) - row.speedup_low.unwrap_or(value(row)),
                    row.speedup_high.unwrap_or(value(row)) - value(row),
                )
            };
            let errors: Vec<(f64, f64)> = found.iter().map(error).collect();
            let drawn = found.iter().map(|(line, row)| (value(row), *line)).collect();
            let drawn = points(drawn, COLOURS[place], MARKERS[place]).with_size(if confirmed { 6.0 } else { 4.0 });
            let on = if confirmed { "fresh prompts" } else { "tuning prompts" };
            drawing.points(drawn.with_x_err_asymmetric(errors), &format!("{regime}, {on}"));
        }
    }
    let categories: Vec<String> = labels.into_iter().rev().collect();
    // A line each, and room for the axis.
    let height = 12.0 * count as f64 + 45.0;
    let most = rows.iter().filter_map(|row| row.speedup_high.or(row.speedup)).fold(1.0, f64::max);
    let scene = drawing.scene(width, height, "speed-up", "", |layout| {
        layout
            .with_y_categories(categories)
            .with_y_axis_min(0.5)
            .with_y_axis_max(count as f64 + 0.5)
            .with_x_axis_min(0.0)
            .with_x_axis_max((most * 2.0).ceil() / 2.0)
            .with_reference_line(ReferenceLine::vertical(1.0).with_color(GREY))
    });
    let caption = "Speed-up over pipelined plain decoding in each regime, with its interval: of the recommended draft length, \
                   or of the fastest drafting one where plain decoding or nothing is recommended. Small points are from the \
                   prompts that the length was chosen on."
        .to_string();
    Some(Figure::new(name.to_string(), caption + &key, data(&rows), width, scene))
}

/// The labels where they leave room for what is drawn; else numbers, and what they stand for, to go on in the caption.
fn fitting(labels: Vec<String>, width: Width) -> (Vec<String>, String) {
    // Of an inch of the whole width, so that half of it is left.
    const CHARACTERS: f64 = 11.0;
    let longest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    if longest as f64 <= CHARACTERS * width.inches() {
        return (labels, String::new());
    }
    let numbers = (1..=labels.len()).map(|number| number.to_string()).collect();
    let key: Vec<String> = labels.iter().enumerate().map(|(place, label)| format!("{}: {label}", place + 1)).collect();
    (numbers, format!(" {}.", key.join("; ")))
}

/// What tells the regimes apart, the drafter in any case, and the length that the speed-up is of.
fn labels(rows: &[RegimeRow]) -> Vec<String> {
    type Part = fn(&RegimeRow) -> String;
    let parts: [Part; 6] = [
        |row| row.machine.clone(),
        |row| row.target.clone(),
        |row| row.precision.clone(),
        |row| format!("context {}", row.context),
        |row| format!("batch {}", row.batch),
        |row| row.drafter.clone(),
    ];
    let telling = |(place, part): &(usize, Part)| *place == 5 || rows.iter().any(|row| part(row) != part(&rows[0]));
    let parts: Vec<(usize, Part)> = parts.into_iter().enumerate().filter(telling).collect();
    let of = |row: &RegimeRow| {
        let named: Vec<String> = parts.iter().map(|(_, part)| part(row)).collect();
        let length = row.speedup_of.map_or(String::new(), |length| format!(", γ={length}"));
        format!("{}{length}", named.join(" "))
    };
    rows.iter().map(of).collect()
}

fn data(rows: &[RegimeRow]) -> Data {
    let mut data = Data::new(&COLUMNS);
    let count = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
    for row in rows {
        data.push([
            row.folder.clone(),
            row.machine.clone(),
            row.target.clone(),
            row.precision.clone(),
            row.context.to_string(),
            row.batch.to_string(),
            row.drafter.clone(),
            row.regime.clone(),
            field(bytes_ms(row)),
            field(row.alpha),
            count(row.draft_length),
            row.confidence_set.clone(),
            count(row.speedup_of),
            field(row.speedup),
            field(row.speedup_low),
            field(row.speedup_high),
            row.confirmed.to_string(),
            row.prompts.to_string(),
        ]);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_leave_no_room_become_numbers() {
        let width = Width::parse("3.25in").unwrap();
        let short = vec!["a, γ=2".to_string(), "b, γ=3".to_string()];
        assert_eq!(fitting(short.clone(), width), (short, String::new()));
        let long = vec!["a".repeat(60), "b".to_string()];
        let (numbers, key) = fitting(long.clone(), width);
        assert_eq!((numbers, key), (vec!["1".to_string(), "2".to_string()], format!(" 1: {}; 2: b.", long[0])));
        assert_eq!(fitting(long.clone(), Width::parse("6.75in").unwrap()).0, long);
    }
}
