//! The roofline of a machine with the points of every baseline experiment.

use super::data::{Data, field};
use super::style::{Drawing, GREY, INK, axes_height, logarithmic, points, series};
use super::{Figure, Width};
use crate::results::PointRow;
use crate::roofline::Ceilings;
use kuva::plot::LineStyle;
use kuva::plot::legend::LegendShape;
use kuva::render::annotations::ReferenceLine;
use kuva::render::layout::TickFormat;
use std::collections::BTreeMap;
use std::sync::Arc;

const COLUMNS: [&str; 13] = [
    "experiment",
    "name",
    "model",
    "precision",
    "subject",
    "context",
    "batch",
    "width",
    "flop_per_byte",
    "rate_gflop_s",
    "bandwidth_gb_s",
    "time_ms",
    "roof_gflop_s",
];

/// Of a machine's ceilings and points; `names` are those of the experiments by number. None without a point that has both
/// bytes and FLOPs.
pub fn roofline_figure(
    name: &str,
    ceilings: &Ceilings,
    rows: &[PointRow],
    names: &BTreeMap<u64, &str>,
    width: Width,
) -> Option<Figure> {
    let (matrix, bandwidth) = (ceilings.matrix_flops_per_s / 1e9, ceilings.forward_bytes_per_s() / 1e9);
    let ridge = ceilings.ridge_flops_per_byte();
    let roof = |intensity: f64| matrix.min(intensity * bandwidth);
    let mut data = Data::new(&COLUMNS);
    let mut by_experiment: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    let mut left_out = 0;
    for row in rows {
        let Some(rate) = row.rate_gflop_s.filter(|rate| *rate > 0.0 && row.bytes > 0) else {
            left_out += usize::from(row.time_ms.is_some());
            continue;
        };
        let intensity = row.flops / row.bytes as f64;
        by_experiment.entry(row.experiment).or_default().push((intensity, rate));
        let count = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
        data.push([
            row.experiment.to_string(),
            names.get(&row.experiment).map_or(String::new(), |name| name.to_string()),
            row.model.clone(),
            row.precision.clone(),
            row.subject.clone(),
            count(row.context),
            count(row.batch),
            count(row.width),
            intensity.to_string(),
            rate.to_string(),
            field(row.bandwidth_gb_s),
            field(row.time_ms),
            roof(intensity).to_string(),
        ]);
    }
    let all = || by_experiment.values().flatten();
    let least = all().map(|point| point.0).reduce(f64::min)?.min(ridge) / 2.0;
    let most = all().map(|point| point.0).reduce(f64::max)?.max(ridge) * 4.0;
    let lines = vec![(least, roof(least)), (ridge, matrix), (most, matrix)];
    let mut drawing = Drawing::default();
    drawing.line(lines, INK, LineStyle::Solid, "measured ceilings");
    drawing.entry("measured ridge", GREY, LegendShape::Line, LineStyle::Dashed.dasharray());
    for (place, (experiment, drawn)) in by_experiment.into_iter().enumerate() {
        let (colour, marker) = series(place);
        let label = names.get(&experiment).map_or(experiment.to_string(), |name| format!("{experiment} {name}"));
        drawing.points(points(drawn, colour, marker).with_size(3.5).with_marker_opacity(0.8), &label);
    }
    let scene = drawing.scene(width, axes_height(width), "FLOP per byte", "GFLOP/s", |layout| {
        layout
            .with_log_scale()
            .with_tick_format(TickFormat::Custom(Arc::new(logarithmic)))
            .with_reference_line(ReferenceLine::vertical(ridge).with_color(GREY))
    });
    let without = match left_out {
        0 => String::new(),
        count => format!(" {count} cases without FLOPs or bytes, such as copies, have no place here."),
    };
    let caption = format!(
        "Every case of the baseline experiments under the ceilings measured beside them ({} GB/s, {} GFLOP/s, ridge {} FLOP \
         per byte).{without}",
        crate::report::rounding::significant(bandwidth),
        crate::report::rounding::significant(matrix),
        crate::report::rounding::significant(ridge),
    );
    Some(Figure::new(name.to_string(), caption, data, width, scene))
}
