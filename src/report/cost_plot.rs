//! Cost curves drawn: one description for the terminal and for SVG.

use crate::analysis::cost::CurveAnalysis;
use crate::results::{CostCurveRow, CostWidthRow, Mode, Role};
use kuva::backend::svg::SvgBackend;
use kuva::backend::terminal::TerminalBackend;
use kuva::plot::scatter::MarkerShape;
use kuva::plot::{LinePlot, ScatterPlot};
use kuva::render::annotations::ReferenceLine;
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;
use kuva::render::render::{Scene, render_multiple};

/// Columns and rows of a curve in the terminal.
const TERMINAL: (usize, usize) = (100, 24);
/// Colours of curves, told apart also by those who do not see all colours (Okabe and Ito, "Color universal design", 2008).
const COLOURS: [&str; 6] = ["#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];
const CLIFF: &str = "#d55e00";
const FALL: &str = "#7f7f7f";

/// The figures of a results folder by file name: t(b), and the drafters' proposals if there are any.
pub fn cost_figures(curves: &[CurveAnalysis]) -> Vec<(&'static str, String)> {
    let of_role = |role: Role| curves.iter().filter(|curve| curve.row.role == role).collect::<Vec<_>>();
    let named = [("cost.svg", of_role(Role::Target)), ("cost_drafters.svg", of_role(Role::Drafter))];
    let drawn = named.into_iter().filter(|(_, curves)| !curves.is_empty());
    drawn.map(|(name, curves)| (name, SvgBackend.render_scene(&scene(&curves, true)))).collect()
}

/// One curve in characters.
pub fn cost_in_terminal(curve: &CurveAnalysis) -> String {
    let (columns, rows) = TERMINAL;
    TerminalBackend::new(columns, rows).render_scene(&scene(&[curve], false))
}

/// Medians as lines with a band of their intervals, cliffs and falls as marks, the ridges as vertical lines.
fn scene(curves: &[&CurveAnalysis], figure: bool) -> Scene {
    let mut plots = Vec::new();
    for (place, curve) in curves.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        plots.push(Plot::Line(line(curve, colour)));
        plots.extend(marks(curve, "cliff", CLIFF, place == 0).map(Plot::Scatter));
        plots.extend(marks(curve, "fall", FALL, place == 0).map(Plot::Scatter));
    }
    let first = &curves[0].row;
    let (x, y) = match first.role {
        Role::Target => ("width b, tokens of a forward", "t(b), ms"),
        Role::Drafter => ("draft length, tokens of a proposal", "proposal, ms"),
    };
    let mut layout = Layout::auto_from_plots(&plots).with_x_label(x).with_y_label(y);
    if figure {
        layout = layout
            .with_title(format!("{} {} on {}", first.target, first.precision, first.machine))
            .with_width(900.0)
            .with_height(520.0);
    }
    for (name, width) in ridge_lines(first) {
        let widest = curves[0].widths.iter().map(|row| row.width as f64).fold(0.0, f64::max);
        if width <= widest {
            layout = layout.with_reference_line(ReferenceLine::vertical(width).with_color("#555555").with_label(name));
        }
    }
    render_multiple(plots, layout)
}

fn ridge_lines(row: &CostCurveRow) -> Vec<(&'static str, f64)> {
    let lines = [("measured ridge", row.ridge_width), ("data sheet's ridge", row.spec_ridge_width)];
    lines.into_iter().filter_map(|(name, width)| Some((name, width?))).collect()
}

fn line(curve: &CurveAnalysis, colour: &str) -> LinePlot {
    let rows: Vec<&CostWidthRow> = forwards(curve).collect();
    let points: Vec<(f64, f64)> = rows.iter().map(|row| (row.width as f64, row.time_ms)).collect();
    let line =
        LinePlot::new().with_data(points).with_color(colour).with_stroke_width(1.5).with_legend(legend(&curve.row));
    if rows.iter().all(|row| row.time_low_ms.is_none()) {
        return line;
    }
    let low: Vec<f64> = rows.iter().map(|row| row.time_low_ms.unwrap_or(row.time_ms)).collect();
    let high: Vec<f64> = rows.iter().map(|row| row.time_high_ms.unwrap_or(row.time_ms)).collect();
    line.with_band(low, high)
}

/// `context 256, batch 1`, or the drafter.
fn legend(row: &CostCurveRow) -> String {
    match row.role {
        Role::Target => format!("context {}, batch {}", row.context, row.batch),
        Role::Drafter => format!("{}, context {}", row.drafter, row.context),
    }
}

/// The widths that changes of a kind lead to; in the legend if asked for.
fn marks(curve: &CurveAnalysis, kind: &str, colour: &str, in_legend: bool) -> Option<ScatterPlot> {
    let time = |width: u64| forwards(curve).find(|row| row.width == width).map(|row| row.time_ms);
    let changes = curve.changes.iter().filter(|row| row.kind == kind);
    let points: Vec<(f64, f64)> = changes.filter_map(|row| Some((row.to_width as f64, time(row.to_width)?))).collect();
    if points.is_empty() {
        return None;
    }
    let marks =
        ScatterPlot::new().with_data(points).with_color(colour).with_size(4.0).with_marker(MarkerShape::Triangle);
    Some(if in_legend { marks.with_legend(kind) } else { marks })
}

fn forwards(curve: &CurveAnalysis) -> impl Iterator<Item = &CostWidthRow> {
    curve.widths.iter().filter(|row| row.mode == Mode::Sync)
}
