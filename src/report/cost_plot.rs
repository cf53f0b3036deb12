//! Cost curves drawn: one description for the terminal and for SVG.

use super::figure::renumbered;
use super::figure::style::{ACCENT, COLOURS, GREY, INK};
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
/// The figures of a results folder by file name: t(b), and the drafters' proposals if there are any.
pub fn cost_figures(curves: &[CurveAnalysis]) -> Vec<(&'static str, String)> {
    let of_role = |role: Role| curves.iter().filter(|curve| curve.row.role == role).collect::<Vec<_>>();
    let named = [("cost.svg", of_role(Role::Target)), ("cost_drafters.svg", of_role(Role::Drafter))];
    let drawn = named.into_iter().filter(|(_, curves)| !curves.is_empty());
    drawn.map(|(name, curves)| (name, renumbered(&SvgBackend.render_scene(&scene(&curves, true)), "kuva"))).collect()
}

/// One curve in characters.
pub fn cost_in_terminal(curve: &CurveAnalysis) -> String {
    let (columns, rows) = TERMINAL;
    without_colours(&TerminalBackend::new(columns, rows).render_scene(&scene(&[curve], false)))
}

/// Text without escape sequences and trailing blanks: black on black would not be seen, and files take no colours.
fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    for (place, part) in text.split('\u{1b}').enumerate() {
        plain += if place == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) };
    }
    let lines: Vec<&str> = plain.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines.join("\n") + "\n"
}

/// Medians as lines with a band of their intervals, cliffs and falls as marks; ridges as marks on each curve of a figure, as each
/// context and batch has its own, and as a vertical line in the terminal, which has one curve.
fn scene(curves: &[&CurveAnalysis], figure: bool) -> Scene {
    let mut plots = Vec::new();
    for (place, curve) in curves.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let line = line(curve, colour);
        plots.push(Plot::Line(if figure { line.with_legend(legend(&curve.row)) } else { line }));
    }
    plots.extend(change_marks(curves, figure).map(Plot::Scatter));
    if figure {
        plots.extend(ridge_marks(curves).map(Plot::Scatter));
    }
    let first = &curves[0].row;
    let (x, y) = match first.role {
        Role::Target => ("width b, tokens of a forward", "t(b), ms"),
        Role::Drafter => ("draft length, tokens of a proposal", "proposal, ms"),
    };
    let widest = curves.iter().flat_map(|curve| forwards(curve)).map(|row| row.width).max().unwrap_or(1) as f64;
    // Ticks at powers of two, where kernels change.
    let step = (widest / 8.0).log2().ceil().exp2().max(1.0);
    let layout = Layout::auto_from_plots(&plots).with_x_label(x).with_y_label(y);
    // From zero: a curve that is nearly flat should look so.
    let layout = layout.with_y_axis_min(0.0);
    let mut layout = layout.with_x_axis_min(0.0).with_x_axis_max(widest).with_x_tick_step(step).with_show_grid(figure);
    if figure {
        let title = format!("{} {} on {}", first.target, first.precision, first.machine);
        layout = layout.with_title(title).with_width(900.0).with_height(520.0);
    }
    let lines = ridges(first).into_iter().filter(|_| !figure);
    for (name, width) in lines.filter_map(|(name, _, width)| Some((name, width.filter(|w| *w <= widest)?))) {
        layout = layout.with_reference_line(ReferenceLine::vertical(width).with_label(name));
    }
    render_multiple(plots, layout)
}

fn ridges(row: &CostCurveRow) -> [(&'static str, MarkerShape, Option<f64>); 2] {
    [
        ("measured ridge", MarkerShape::Circle, row.ridge_width),
        ("data sheet's ridge", MarkerShape::Square, row.spec_ridge_width),
    ]
}

/// Where each curve has its ridges, as far as it was measured.
fn ridge_marks(curves: &[&CurveAnalysis]) -> impl Iterator<Item = ScatterPlot> {
    ridges(&curves[0].row).into_iter().enumerate().filter_map(|(kind, (name, shape, _))| {
        let point = |curve: &&CurveAnalysis| {
            let width = ridges(&curve.row)[kind].2?;
            Some((width, time_at(curve, width)?))
        };
        let points: Vec<(f64, f64)> = curves.iter().filter_map(point).collect();
        let marks = ScatterPlot::new().with_color(INK).with_size(4.0).with_marker(shape);
        (!points.is_empty()).then(|| marks.with_data(points).with_legend(name))
    })
}

/// t(b) in ms at a width between two that were measured, on the line between them.
fn time_at(curve: &CurveAnalysis, width: f64) -> Option<f64> {
    let points: Vec<(f64, f64)> = forwards(curve).map(|row| (row.width as f64, row.time_ms)).collect();
    let after = points.iter().position(|(w, _)| *w >= width)?;
    let (w1, t1) = points[after];
    let (w0, t0) = points[after.saturating_sub(1)];
    if w1 == width { Some(t1) } else { (w0 < width).then(|| t0 + (t1 - t0) * (width - w0) / (w1 - w0)) }
}

fn line(curve: &CurveAnalysis, colour: &str) -> LinePlot {
    let rows: Vec<&CostWidthRow> = forwards(curve).collect();
    let points: Vec<(f64, f64)> = rows.iter().map(|row| (row.width as f64, row.time_ms)).collect();
    let line = LinePlot::new().with_data(points).with_color(colour).with_stroke_width(1.5);
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

/// The widths that cliffs and falls lead to, on all curves.
fn change_marks(curves: &[&CurveAnalysis], in_legend: bool) -> impl Iterator<Item = ScatterPlot> {
    [("cliff", ACCENT), ("fall", GREY)].into_iter().filter_map(move |(kind, colour)| {
        let points = curves.iter().flat_map(|curve| {
            let widths = curve.changes.iter().filter(|row| row.kind == kind).map(|row| row.to_width as f64);
            widths.filter_map(|width| Some((width, time_at(curve, width)?)))
        });
        let points: Vec<(f64, f64)> = points.collect();
        let marks = ScatterPlot::new().with_color(colour).with_size(4.0).with_marker(MarkerShape::Triangle);
        let marks = if in_legend { marks.with_legend(kind) } else { marks };
        (!points.is_empty()).then(|| marks.with_data(points))
    })
}

fn forwards(curve: &CurveAnalysis) -> impl Iterator<Item = &CostWidthRow> {
    curve.widths.iter().filter(|row| row.mode == Mode::Sync)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::CostChangeRow;

    fn curve() -> CurveAnalysis {
        let width = |width: u64| CostWidthRow {
            width,
            time_ms: if width < 8 { 10.0 } else { 15.0 },
            time_low_ms: Some(9.0),
            time_high_ms: Some(16.0),
            ..CostWidthRow::default()
        };
        let row = CostCurveRow {
            target: "m".to_string(),
            ridge_width: Some(5.0),
            context: 256,
            batch: 1,
            ..CostCurveRow::default()
        };
        let cliff = CostChangeRow { kind: "cliff".to_string(), from_width: 7, to_width: 8, ..CostChangeRow::default() };
        CurveAnalysis {
            row,
            widths: (1..=16).map(width).collect(),
            changes: vec![cliff],
            stretches: vec![],
            models: vec![],
        }
    }

    #[test]
    fn a_figure_has_the_curve_its_band_cliffs_and_ridge_and_is_the_same_every_time() {
        let figures = cost_figures(&[curve()]);
        let [(name, svg)] = figures.as_slice() else { panic!("{} figures", figures.len()) };
        assert_eq!(*name, "cost.svg");
        for part in
            ["<svg", "context 256, batch 1", "cliff", "measured ridge", "t(b), ms", COLOURS[0], ACCENT, "opacity"]
        {
            assert!(svg.contains(part), "{part} is missing in {svg}");
        }
        assert_eq!(cost_figures(&[curve()]), figures);
        let without =
            CurveAnalysis { changes: vec![], row: CostCurveRow { ridge_width: None, ..curve().row }, ..curve() };
        let (_, svg) = &cost_figures(&[without])[0];
        assert!(!svg.contains("ridge") && !svg.contains("cliff"));
        let drafter = CurveAnalysis { row: CostCurveRow { role: Role::Drafter, ..curve().row }, ..curve() };
        let names: Vec<&str> = cost_figures(&[curve(), drafter]).iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["cost.svg", "cost_drafters.svg"]);
    }

    /// A batch has its ridge at fewer tokens of a sequence: one line for all curves would be wrong for all but one.
    #[test]
    fn each_curve_of_a_figure_has_its_own_ridge() {
        let with_ridge = |ridge_width| CurveAnalysis { row: CostCurveRow { ridge_width, ..curve().row }, ..curve() };
        let curves = [with_ridge(Some(3.0)), with_ridge(Some(7.5)), with_ridge(Some(40.0)), with_ridge(None)];
        let marks: Vec<ScatterPlot> = ridge_marks(&curves.each_ref()).collect();
        let [marks] = marks.as_slice() else { panic!("{} kinds of ridges", marks.len()) };
        // Halfway between 10 ms at 7 tokens and 15 at 8; 40 tokens were not measured.
        let points: Vec<(f64, f64)> = marks.data.iter().map(|point| (point.x, point.y)).collect();
        assert_eq!(points, [(3.0, 10.0), (7.5, 12.5)]);
    }

    #[test]
    fn the_terminal_gets_plain_text_of_its_width() {
        let text = cost_in_terminal(&curve());
        assert!(!text.contains('\u{1b}') && text.contains("width b") && text.contains("measured ridge"), "{text}");
        assert!(text.lines().count() <= TERMINAL.1 && text.lines().all(|line| line.chars().count() <= TERMINAL.0));
    }
}
