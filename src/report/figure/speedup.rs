//! Speed-up by draft length, with intervals, the lengths that may be the best, and the confirmation.

use super::data::{Data, field};
use super::style::{ACCENT, COLOURS, Drawing, GREY, axes_height, points};
use super::{Figure, Width};
use crate::results::{ArmRow, DecisionRow, PredictionRow};
use kuva::plot::LineStyle;
use kuva::plot::scatter::MarkerShape;
use kuva::render::annotations::ReferenceLine;

const COLUMNS: [&str; 9] = [
    "drafter",
    "draft_length",
    "prompts",
    "speedup",
    "speedup_low",
    "speedup_high",
    "may_be_best",
    "recommended",
    "on",
];

/// A value with its interval above a draft length.
struct Bar {
    x: f64,
    value: f64,
    low: Option<f64>,
    high: Option<f64>,
}

/// Of one drafter; none if no length was timed.
pub fn speedup_figure(
    name: &str,
    decision: &DecisionRow,
    arms: &[ArmRow],
    predictions: &[&PredictionRow],
    width: Width,
) -> Option<Figure> {
    let bar = |arm: &ArmRow| {
        let (x, low, high) = (arm.draft_length as f64, arm.speedup_low, arm.speedup_high);
        arm.speedup.map(|value| Bar { x, value, low, high })
    };
    let of = |best: bool| arms.iter().filter(|arm| arm.may_be_best == best).filter_map(bar).collect::<Vec<Bar>>();
    let (best, others) = (of(true), of(false));
    if best.is_empty() && others.is_empty() {
        return None;
    }
    let mut drawing = Drawing::default();
    let replayed = replayed(predictions);
    if !replayed.is_empty() {
        drawing.line(replayed, GREY, LineStyle::Dashed, "predicted by replay");
    }
    let mut add = |bars: Vec<Bar>, colour: &str, marker: MarkerShape, label: &str| {
        if bars.is_empty() {
            return;
        }
        let errors: Vec<(f64, f64)> = bars
            .iter()
            .map(|bar| (bar.value - bar.low.unwrap_or(bar.value), bar.high.unwrap_or(bar.value) - bar.value))
            .collect();
        let drawn = bars.iter().map(|bar| (bar.x, bar.value)).collect();
        drawing.points(points(drawn, colour, marker).with_y_err_asymmetric(errors), label);
    };
    add(best, COLOURS[0], MarkerShape::Circle, "may be the fastest");
    add(others, GREY, MarkerShape::Square, "slower");
    if let (Some(length), Some(value)) = (decision.draft_length, decision.speedup_confirmed) {
        // Beside the length's own bar.
        let x = length as f64 - 0.25;
        let bar = Bar { x, value, low: decision.speedup_low, high: decision.speedup_high };
        add(vec![bar], ACCENT, MarkerShape::Diamond, "recommended, on fresh prompts");
    }
    let lengths = arms.iter().map(|arm| arm.draft_length).chain(predictions.iter().map(|row| row.draft_length));
    let longest = lengths.max().unwrap_or(1) as f64;
    let scene = drawing.scene(width, axes_height(width), "draft length γ", "speed-up", |layout| {
        layout
            .with_x_axis_min(0.0)
            .with_x_axis_max(longest + 0.5)
            .with_x_tick_step((longest / 8.0).ceil().max(1.0))
            .with_y_axis_min(0.0)
            .with_reference_line(ReferenceLine::horizontal(1.0).with_color(GREY))
    });
    let DecisionRow { drafter, confidence, prompts, .. } = decision;
    let caption = format!(
        "Speed-up with {drafter} over pipelined plain decoding on {prompts} prompts, with {} intervals; round points may be \
         the fastest with that confidence.",
        crate::report::sentence::percent(*confidence)
    );
    Some(Figure::new(name.to_string(), caption, data(decision, arms), width, scene))
}

/// Throughput by the replay over that of plain decoding.
fn replayed(predictions: &[&PredictionRow]) -> Vec<(f64, f64)> {
    let plain = predictions.iter().find(|row| row.draft_length == 0).and_then(|row| row.replay_tok_per_s);
    let Some(plain) = plain else { return Vec::new() };
    let over = |row: &&PredictionRow| Some((row.draft_length as f64, row.replay_tok_per_s? / plain));
    predictions.iter().filter_map(over).collect()
}

fn data(decision: &DecisionRow, arms: &[ArmRow]) -> Data {
    let mut data = Data::new(&COLUMNS);
    for arm in arms.iter().filter(|arm| arm.speedup.is_some()) {
        data.push([
            arm.drafter.clone(),
            arm.draft_length.to_string(),
            arm.prompts.to_string(),
            field(arm.speedup),
            field(arm.speedup_low),
            field(arm.speedup_high),
            arm.may_be_best.to_string(),
            arm.recommended.to_string(),
            "tuning".to_string(),
        ]);
    }
    if let (Some(length), Some(speedup)) = (decision.draft_length, decision.speedup_confirmed) {
        data.push([
            decision.drafter.clone(),
            length.to_string(),
            decision.prompts_confirm.to_string(),
            speedup.to_string(),
            field(decision.speedup_low),
            field(decision.speedup_high),
            String::new(),
            "true".to_string(),
            "confirmation".to_string(),
        ]);
    }
    data
}
