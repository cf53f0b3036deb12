//! One style for all figures: sizes in points on paper, colours that also those can tell apart who do not see all of them.

use super::Width;
use kuva::plot::legend::{LegendEntry, LegendPosition, LegendShape};
use kuva::plot::scatter::{MarkerShape, ScatterPlot};
use kuva::plot::{LinePlot, LineStyle};
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;
use kuva::render::render::{Primitive, Scene, TextAnchor, render_multiple};
use kuva::render::theme::Theme;

/// Colours of series (Okabe and Ito, "Color universal design", 2008, without the yellow, which white paper swallows).
pub const COLOURS: [&str; 6] = ["#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];
/// What stands out: a cliff, a measured point, the recommendation.
pub const ACCENT: &str = "#d55e00";
/// What stands back.
pub const GREY: &str = "#7f7f7f";
/// Axes and text; in a page, the colour of its text.
pub const INK: &str = "#000000";
/// The grid; in a page, a colour of its own.
pub const GRID: &str = "#dddddd";
/// Shapes of points, to tell series apart without colours.
pub const MARKERS: [MarkerShape; 6] = [
    MarkerShape::Circle,
    MarkerShape::Square,
    MarkerShape::Triangle,
    MarkerShape::Diamond,
    MarkerShape::TriangleDown,
    MarkerShape::Hexagon,
];

/// Layouts are computed at this many units a point, since the library's own distances are made for larger figures.
const UNITS_PER_POINT: f64 = 2.0;
/// Size of text in units: 7 points.
const TEXT: u32 = 14;
/// A letter's width over the size of its font, at most, on the average over a label of DejaVu Sans.
const LETTER: f64 = 0.62;

/// The height of axes in points that looks well on this width.
pub fn axes_height(width: Width) -> f64 {
    (0.62 * width.points).min(230.0)
}

/// The colour and shape of the series at a place.
pub fn series(place: usize) -> (&'static str, MarkerShape) {
    (COLOURS[place % COLOURS.len()], MARKERS[(place + place / COLOURS.len()) % MARKERS.len()])
}

/// What is drawn, with its legend.
#[derive(Default)]
pub struct Drawing {
    plots: Vec<Plot>,
    legend: Vec<LegendEntry>,
}

impl Drawing {
    pub fn is_empty(&self) -> bool {
        self.plots.is_empty()
    }

    pub fn add(&mut self, plot: Plot) {
        self.plots.push(plot);
    }

    pub fn line(&mut self, data: Vec<(f64, f64)>, colour: &str, style: LineStyle, label: &str) {
        self.plots.push(Plot::Line(line(data, colour).with_line_style(style.clone())));
        self.entry(label, colour, LegendShape::Line, style.dasharray());
    }

    /// Points; larger ones stand out.
    pub fn points(&mut self, points: ScatterPlot, label: &str) {
        self.entry(label, &points.color.clone(), LegendShape::Marker(points.marker), None);
        self.plots.push(Plot::Scatter(points));
    }

    /// A line of the legend; none without a label.
    pub fn entry(&mut self, label: &str, colour: &str, shape: LegendShape, dasharray: Option<String>) {
        if !label.is_empty() {
            self.legend.push(LegendEntry { label: label.to_string(), color: colour.to_string(), shape, dasharray });
        }
    }

    /// Lays it out with axes of this width and height (in points) on paper; the legend comes below.
    pub fn scene(self, width: Width, height: f64, x: &str, y: &str, axes: impl FnOnce(Layout) -> Layout) -> Scene {
        let wide = UNITS_PER_POINT * width.points;
        let high = UNITS_PER_POINT * height;
        let longest = self.legend.iter().map(|entry| entry.label.chars().count()).max().unwrap_or(0) as f64;
        let column = 40.0 + LETTER * f64::from(TEXT) * longest;
        let columns = (((wide - 80.0) / column).floor() as usize).clamp(1, self.legend.len().max(1));
        let rows = self.legend.len().div_ceil(columns) as f64;
        let theme = Theme {
            grid_color: GRID.to_string(),
            axis_color: INK.to_string(),
            tick_color: INK.to_string(),
            legend_bg: "none".to_string(),
            legend_border: "none".to_string(),
            ..Theme::light()
        };
        let layout = Layout::auto_from_plots(&self.plots)
            .with_theme(theme)
            .with_width(wide)
            .with_height(high + 22.0 * rows + 20.0)
            .with_x_label(x)
            .with_y_label(y)
            .with_label_size(TEXT + 1)
            .with_tick_size(TEXT)
            .with_body_size(TEXT)
            .with_legend_box(false);
        let layout = if self.legend.is_empty() {
            layout
        } else {
            layout
                .with_legend_entries(self.legend)
                .with_legend_col_limit(columns)
                .with_legend_position(LegendPosition::OutsideBottomColumns)
        };
        fitted(render_multiple(self.plots, axes(layout)))
    }
}

/// A scene whose canvas ends where its text does: to the right as wide as the longest label needs, below as high as the legend.
fn fitted(mut scene: Scene) -> Scene {
    const EDGE: f64 = 6.0;
    let (mut right, mut bottom) = (scene.width - EDGE, 0.0f64);
    for element in &scene.elements {
        let Primitive::Text { x, y, content, size, anchor, rotate: None, .. } = element else { continue };
        let wide = LETTER * f64::from(*size) * content.chars().count() as f64;
        let end = match anchor {
            TextAnchor::Start => x + wide,
            TextAnchor::Middle => x + wide / 2.0,
            TextAnchor::End => *x,
        };
        right = right.max(end);
        bottom = bottom.max(y + 0.3 * f64::from(*size));
    }
    scene.width = right + EDGE;
    scene.height = bottom + EDGE;
    scene
}

/// A number on a logarithmic axis: powers of ten beyond thousands as such.
pub fn logarithmic(value: f64) -> String {
    const POWERS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let power = value.log10().round();
    if (3.5..9.5).contains(&power) && (value / 10f64.powf(power) - 1.0).abs() < 1e-9 {
        return format!("10{}", POWERS[power as usize]);
    }
    // Without the digits that a sum of steps leaves behind.
    format!("{}", (value * 1e9).round() / 1e9)
}

/// Points of one series.
pub fn points(data: Vec<(f64, f64)>, colour: &str, marker: MarkerShape) -> ScatterPlot {
    ScatterPlot::new().with_data(data).with_color(colour).with_marker(marker).with_size(4.5)
}

/// A line of one series.
pub fn line(data: Vec<(f64, f64)>, colour: &str) -> LinePlot {
    LinePlot::new().with_data(data).with_color(colour).with_stroke_width(2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_ten_are_short() {
        assert_eq!([0.1, 2.0, 1000.0, 1e4, 1e6].map(logarithmic), ["0.1", "2", "1000", "10⁴", "10⁶"]);
    }

    #[test]
    fn the_canvas_holds_the_legend_whatever_is_in_it() {
        let mut drawing = Drawing::default();
        for place in 0..9 {
            let label = format!("a series with quite a long name, number {place}");
            drawing.points(points(vec![(1.0, 2.0)], COLOURS[0], MARKERS[0]), &label);
        }
        let width = Width { points: 234.0 };
        let scene = drawing.scene(width, axes_height(width), "x", "y", |layout| layout);
        let labels = scene.elements.iter().filter_map(|element| match element {
            Primitive::Text { x, y, content, .. } if content.starts_with("a series") => Some((*x, *y)),
            _ => None,
        });
        let labels: Vec<(f64, f64)> = labels.collect();
        assert_eq!(labels.len(), 9);
        assert!(labels.iter().all(|(x, y)| *y < scene.height && x + 0.5 * 14.0 * 40.0 < scene.width), "{labels:?}");
    }
}
