//! Acceptance by place in the draft and category of prompts.

use super::data::{Data, field};
use super::style::{Drawing, axes_height, line, points, series};
use super::{Figure, Width};
use crate::results::AcceptanceRow;
use kuva::render::plots::Plot;
use std::collections::BTreeSet;

const COLUMNS: [&str; 6] = ["drafter", "category", "draft_position", "reached", "accepted", "alpha"];
/// A place reached less often says little, and is not drawn.
const REACHED: u64 = 10;

/// Of the rows of one drafter; none if no place was reached often enough.
pub fn acceptance_figure(name: &str, rows: &[&AcceptanceRow], width: Width) -> Option<Figure> {
    let categories: BTreeSet<&str> = rows.iter().map(|row| row.category.as_str()).collect();
    let mut drawing = Drawing::default();
    for (place, category) in categories.into_iter().enumerate() {
        let of = rows.iter().filter(|row| row.category == category && row.reached >= REACHED);
        let drawn: Vec<(f64, f64)> = of.filter_map(|row| Some((row.draft_position as f64, row.alpha?))).collect();
        if drawn.is_empty() {
            continue;
        }
        let (colour, marker) = series(place);
        drawing.add(Plot::Line(line(drawn.clone(), colour).with_stroke_width(1.5)));
        drawing.points(points(drawn, colour, marker), category);
    }
    if drawing.is_empty() {
        return None;
    }
    let furthest = rows.iter().filter(|row| row.reached >= REACHED).map(|row| row.draft_position).max().unwrap_or(1);
    let scene = drawing.scene(width, axes_height(width), "place in the draft", "acceptance α", |layout| {
        layout
            .with_x_axis_min(0.5)
            .with_x_axis_max(furthest as f64 + 0.5)
            .with_x_tick_step((furthest as f64 / 8.0).ceil())
            .with_y_axis_min(0.0)
            .with_y_axis_max(1.05)
            .with_y_tick_step(0.2)
    });
    let mut data = Data::new(&COLUMNS);
    for row in rows {
        data.push([
            row.drafter.clone(),
            row.category.clone(),
            row.draft_position.to_string(),
            row.reached.to_string(),
            row.accepted.to_string(),
            field(row.alpha),
        ]);
    }
    let drafter = rows.first().map_or("", |row| row.drafter.as_str());
    let caption = format!(
        "Acceptance of {drafter}, given that the place is reached, by place in the draft and category of the tuning prompts, where a place was reached at least \
         {REACHED} times."
    );
    Some(Figure::new(name.to_string(), caption, data, width, scene))
}
