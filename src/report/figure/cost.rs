//! t(b)/t(1): what verifying b tokens costs in single ones, of several machines and models together.

use super::data::{Data, field};
use super::style::{ACCENT, Drawing, GREY, axes_height, line, points, series};
use super::{Figure, Width};
use crate::analysis::cost::CurveAnalysis;
use crate::results::{CostWidthRow, Mode, Role};
use kuva::plot::LineStyle;
use kuva::plot::legend::LegendShape;
use kuva::plot::scatter::MarkerShape;
use kuva::render::plots::Plot;

const COLUMNS: [&str; 14] = [
    "machine",
    "target",
    "precision",
    "context",
    "batch",
    "width",
    "samples",
    "time_ms",
    "time_low_ms",
    "time_high_ms",
    "relative",
    "relative_low",
    "relative_high",
    "change",
];

/// Of the targets' curves; none if there is no curve with a forward of one token.
pub fn relative_cost_figure(name: &str, curves: &[&CurveAnalysis], width: Width) -> Option<Figure> {
    let mut data = Data::new(&COLUMNS);
    let targets: Vec<&CurveAnalysis> = curves.iter().copied().filter(|curve| curve.row.role == Role::Target).collect();
    let (mut drawing, mut drawn, mut widest) = (Drawing::default(), 0, 1);
    let (mut cliffs, mut falls) = (Vec::new(), Vec::new());
    for curve in &targets {
        let rows: Vec<&CostWidthRow> = curve.widths.iter().filter(|row| row.mode == Mode::Sync).collect();
        let Some(one) = rows.iter().find(|row| row.width == 1).map(|row| row.time_ms) else { continue };
        let relative = |ms: f64| ms / one;
        let (colour, _) = series(drawn);
        let style = [LineStyle::Solid, LineStyle::Dashed, LineStyle::Dotted][drawn / 6 % 3].clone();
        drawn += 1;
        let medians: Vec<(f64, f64)> = rows.iter().map(|row| (row.width as f64, relative(row.time_ms))).collect();
        let band = |end: fn(&CostWidthRow) -> Option<f64>| -> Vec<f64> {
            rows.iter().map(|row| relative(end(row).unwrap_or(row.time_ms))).collect()
        };
        let (low, high) = (band(|row| row.time_low_ms), band(|row| row.time_high_ms));
        drawing.add(Plot::Line(line(medians, colour).with_line_style(style.clone()).with_band(low, high)));
        drawing.entry(&label(curve, &targets), colour, LegendShape::Line, style.dasharray());
        for row in rows {
            widest = widest.max(row.width);
            let change = curve.changes.iter().find(|change| change.to_width == row.width);
            let change = change.map_or("", |change| change.kind.as_str());
            let point = (row.width as f64, relative(row.time_ms));
            match change {
                "cliff" => cliffs.push(point),
                "fall" => falls.push(point),
                _ => {}
            }
            data.push(fields(row, one, change));
        }
    }
    if drawing.is_empty() {
        return None;
    }
    for (marks, colour, marker, label) in
        [(cliffs, ACCENT, MarkerShape::Triangle, "cliff"), (falls, GREY, MarkerShape::TriangleDown, "fall")]
    {
        if !marks.is_empty() {
            drawing.points(points(marks, colour, marker), label);
        }
    }
    // Ticks at powers of two, where kernels change.
    let step = (widest as f64 / 8.0).log2().ceil().exp2().max(1.0);
    let scene = drawing.scene(width, axes_height(width), "width b, tokens of a forward", "t(b) / t(1)", |layout| {
        layout.with_x_axis_min(0.0).with_x_axis_max(widest as f64).with_x_tick_step(step).with_y_axis_min(0.0)
    });
    let caption =
        "Time of a forward of b tokens over that of one token: medians; the band is the interval of the median of \
                   t(b), over the median of t(1)."
            .to_string();
    Some(Figure::new(name.to_string(), caption, data, width, scene))
}

/// `h100: mistral-7b 4-bit:64 bfloat16`, with context and batch where the curves differ in them.
fn label(curve: &CurveAnalysis, all: &[&CurveAnalysis]) -> String {
    let row = &curve.row;
    let mut label = format!("{}: {} {}", row.machine, row.target, row.precision);
    if all.iter().any(|other| other.row.context != row.context) {
        label += &format!(", context {}", row.context);
    }
    if all.iter().any(|other| other.row.batch != row.batch) {
        label += &format!(", batch {}", row.batch);
    }
    label
}

fn fields(row: &CostWidthRow, one: f64, change: &str) -> [String; 14] {
    let relative = |ms: Option<f64>| field(ms.map(|ms| ms / one));
    [
        row.machine.clone(),
        row.target.clone(),
        row.precision.clone(),
        row.context.to_string(),
        row.batch.to_string(),
        row.width.to_string(),
        row.samples.to_string(),
        row.time_ms.to_string(),
        field(row.time_low_ms),
        field(row.time_high_ms),
        relative(Some(row.time_ms)),
        relative(row.time_low_ms),
        relative(row.time_high_ms),
        change.to_string(),
    ]
}
