//! What a round's time is made of.

use super::data::{Data, field};
use super::style::{ACCENT, COLOURS, Drawing, axes_height, points};
use super::{Figure, Width};
use crate::analysis::RoundTime;
use kuva::plot::bar::BarPlot;
use kuva::plot::legend::LegendShape;
use kuva::plot::scatter::MarkerShape;
use kuva::render::plots::Plot;

const COLUMNS: [&str; 6] =
    ["drafter", "draft_length", "proposal_ms", "verification_ms", "measured_ms", "tokens_a_round"];

/// Of one drafter's timed lengths; none if nothing was timed.
pub fn round_figure(name: &str, drafter: &str, rounds: &[RoundTime], width: Width) -> Option<Figure> {
    if rounds.is_empty() {
        return None;
    }
    let parts = [("verification", COLOURS[0]), ("proposal", COLOURS[4])];
    let mut bars = BarPlot::new().with_stacked().with_width(0.6);
    let (mut data, mut measured) = (Data::new(&COLUMNS), Vec::new());
    for (place, round) in rounds.iter().enumerate() {
        let label = format!("γ={}", round.draft_length);
        bars = bars.with_group(label, vec![(round.verification_ms, parts[0].1), (round.proposal_ms, parts[1].1)]);
        measured.push((place as f64 + 1.0, round.measured_ms));
        data.push([
            drafter.to_string(),
            round.draft_length.to_string(),
            round.proposal_ms.to_string(),
            round.verification_ms.to_string(),
            round.measured_ms.to_string(),
            field(Some(round.tau)),
        ]);
    }
    let mut drawing = Drawing::default();
    drawing.add(Plot::Bar(bars));
    parts.iter().for_each(|(label, colour)| drawing.entry(label, colour, LegendShape::Rect, None));
    drawing.points(points(measured, ACCENT, MarkerShape::Diamond), "measured round");
    let scene =
        drawing.scene(width, axes_height(width), "draft length", "ms a round", |layout| layout.with_y_axis_min(0.0));
    let caption = format!(
        "A round with {drafter}: proposal and verification, each timed on its own and evaluated alone (on a GPU the proposal less \
         what a round saves by joining them), and the round as it was measured in use, where both are waited for once; γ=0 \
         is a pipelined plain step."
    );
    Some(Figure::new(name.to_string(), caption, data, width, scene))
}
