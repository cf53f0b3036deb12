//! Predicted and measured throughput of one drafter by draft length.

use super::data::{Data, field};
use super::style::{ACCENT, COLOURS, Drawing, GREY, axes_height, points};
use super::{Figure, Width};
use crate::results::{ArmRow, PredictionRow};
use kuva::plot::LineStyle;
use kuva::plot::scatter::MarkerShape;

const COLUMNS: [&str; 8] = [
    "drafter",
    "draft_length",
    "textbook_tok_per_s",
    "iid_tok_per_s",
    "replay_tok_per_s",
    "oracle_tok_per_s",
    "measured_tok_per_s",
    "predicted_same_prompts_tok_per_s",
];

/// A way to predict: its name in the legend, its value, colour and stroke.
type Way = (&'static str, fn(&PredictionRow) -> Option<f64>, &'static str, LineStyle);

/// Of the rows of one drafter; none if nothing was predicted.
pub fn throughput_figure(name: &str, predictions: &[&PredictionRow], arms: &[ArmRow], width: Width) -> Option<Figure> {
    let first = predictions.first()?;
    let ways: [Way; 4] = [
        ("flat cost, i.i.d. acceptance", |row| row.textbook_tok_per_s, GREY, LineStyle::Dotted),
        ("measured t(b), i.i.d. acceptance", |row| row.iid_tok_per_s, COLOURS[1], LineStyle::Dashed),
        ("measured t(b), replay", |row| row.replay_tok_per_s, COLOURS[0], LineStyle::Solid),
        ("bound: match length known", |row| row.oracle_tok_per_s, COLOURS[5], LineStyle::DashDot),
    ];
    let mut drawing = Drawing::default();
    for (label, value, colour, style) in ways {
        let drawn: Vec<(f64, f64)> =
            predictions.iter().filter_map(|row| Some((row.draft_length as f64, value(row)?))).collect();
        if !drawn.is_empty() {
            drawing.line(drawn, colour, style, label);
        }
    }
    let measured: Vec<(f64, f64)> = arms.iter().map(|arm| (arm.draft_length as f64, arm.tok_per_s)).collect();
    if !measured.is_empty() {
        drawing.points(points(measured, ACCENT, MarkerShape::Circle), "measured");
    }
    let longest = predictions.iter().map(|row| row.draft_length).max().unwrap_or(1) as f64;
    let scene = drawing.scene(width, axes_height(width), "draft length γ", "tokens a second", |layout| {
        layout
            .with_x_axis_min(0.0)
            .with_x_axis_max(longest)
            .with_x_tick_step((longest / 8.0).ceil().max(1.0))
            .with_y_axis_min(0.0)
    });
    let mut data = Data::new(&COLUMNS);
    let mut lengths: Vec<u64> = predictions.iter().map(|row| row.draft_length).collect();
    lengths.extend(arms.iter().map(|arm| arm.draft_length));
    lengths.sort_unstable();
    lengths.dedup();
    for length in lengths {
        let row = predictions.iter().find(|row| row.draft_length == length);
        let arm = arms.iter().find(|arm| arm.draft_length == length);
        data.push([
            first.drafter.clone(),
            length.to_string(),
            field(row.and_then(|row| row.textbook_tok_per_s)),
            field(row.and_then(|row| row.iid_tok_per_s)),
            field(row.and_then(|row| row.replay_tok_per_s)),
            field(row.and_then(|row| row.oracle_tok_per_s)),
            field(arm.map(|arm| arm.tok_per_s)),
            field(arm.and_then(|arm| arm.predicted_tok_per_s)),
        ]);
    }
    let caption = format!(
        "Throughput with {}: predicted three ways for all tuning prompts, the bound on every rule, and measured.",
        first.drafter
    );
    Some(Figure::new(name.to_string(), caption, data, width, scene))
}
