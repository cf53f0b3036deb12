//! Dashed lines as pieces of their own, for the library's PNG files: there a pattern begins anew at each point of a line, so that
//! a curve of many points is not dashed at all.

use kuva::render::color::Color;
use kuva::render::render::{Primitive, Scene};

/// A scene of this one's with every dashed line in pieces.
pub fn in_pieces(scene: &Scene) -> Scene {
    let mut pieces = Scene::new(scene.width, scene.height);
    pieces.background_color = scene.background_color.clone();
    pieces.text_color = scene.text_color.clone();
    pieces.font_family = scene.font_family.clone();
    pieces.elements = scene.elements.iter().flat_map(cut).collect();
    pieces
}

fn cut(element: &Primitive) -> Vec<Primitive> {
    let whole = || vec![element.clone()];
    let (points, stroke, width, pattern) = match element {
        Primitive::Line { x1, y1, x2, y2, stroke, stroke_width, stroke_dasharray } => {
            (Some(vec![(*x1, *y1), (*x2, *y2)]), stroke, *stroke_width, stroke_dasharray)
        }
        Primitive::PolyLine { points, stroke, stroke_width, stroke_dasharray } => {
            (Some(points.clone()), stroke, *stroke_width, stroke_dasharray)
        }
        Primitive::Path(path) if matches!(path.fill, None | Some(Color::None)) => {
            (corners(&path.d), &path.stroke, path.stroke_width, &path.stroke_dasharray)
        }
        _ => return whole(),
    };
    let pattern = pattern.as_deref().map(|pattern| pattern.split(' ').map(str::parse).collect::<Result<Vec<f64>, _>>());
    let (Some(points), Some(Ok(pattern))) = (points, pattern) else { return whole() };
    let pieces = dashes(&points, &pattern, width).into_iter().map(|points| Primitive::PolyLine {
        points,
        stroke: stroke.clone(),
        stroke_width: width,
        stroke_dasharray: None,
    });
    pieces.collect()
}

/// The points of a path of straight lines, `M x y L x y ...`.
fn corners(path: &str) -> Option<Vec<(f64, f64)>> {
    let mut words = path.split_whitespace().filter(|word| !matches!(*word, "M" | "L")).map(|word| word.parse().ok());
    let mut points = Vec::new();
    while let Some(x) = words.next() {
        points.push((x?, words.next()??));
    }
    // One line, not several.
    (path.matches('M').count() == 1).then_some(points)
}

/// What a pattern of lengths drawn and left out makes of a line. Its ends are drawn round, by half its width.
fn dashes(points: &[(f64, f64)], pattern: &[f64], width: f64) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = Vec::new();
    if pattern.iter().any(|length| length.is_nan() || *length <= 0.0) {
        return vec![points.to_vec()];
    }
    let (mut from, mut drawn) = (0.0, true);
    for length in pattern.iter().cycle() {
        if drawn {
            let round = (width / 2.0).min(0.45 * length);
            let piece = between(points, from + round, from + length - round);
            if piece.len() < 2 {
                return pieces;
            }
            pieces.push(piece);
        }
        (from, drawn) = (from + length, !drawn);
    }
    pieces
}

/// The part of a line between two distances from its start.
fn between(points: &[(f64, f64)], from: f64, to: f64) -> Vec<(f64, f64)> {
    let (mut part, mut at) = (Vec::new(), 0.0);
    for pair in points.windows(2) {
        let [a, b] = [pair[0], pair[1]];
        let length = (b.0 - a.0).hypot(b.1 - a.1);
        let point = |distance: f64| {
            let share = ((distance - at) / length).clamp(0.0, 1.0);
            (a.0 + share * (b.0 - a.0), a.1 + share * (b.1 - a.1))
        };
        if length > 0.0 && at + length > from && at < to {
            if part.is_empty() {
                part.push(point(from));
            }
            part.push(point(to));
        }
        at += length;
    }
    part
}

#[cfg(test)]
mod tests {
    use super::super::Width;
    use super::super::style::{ACCENT, Drawing};
    use super::*;
    use kuva::plot::LineStyle;

    #[test]
    fn a_pattern_goes_on_over_the_points_of_a_line() {
        let points: Vec<(f64, f64)> = (0..=9).map(|x| (f64::from(x), 0.0)).collect();
        let ends = |pieces: Vec<Vec<(f64, f64)>>| -> Vec<(f64, f64)> {
            pieces.iter().map(|piece| (piece[0].0, piece[piece.len() - 1].0)).collect()
        };
        assert_eq!(ends(dashes(&points, &[3.5, 1.0], 0.0)), [(0.0, 3.5), (4.5, 8.0)]);
        assert_eq!(ends(dashes(&points, &[4.0, 2.0], 1.0)), [(0.5, 3.5), (6.5, 9.0)], "round ends");
        let corner = [(0.0, 0.0), (3.0, 0.0), (3.0, 4.0)];
        assert_eq!(dashes(&corner, &[5.0, 9.0], 0.0), [[(0.0, 0.0), (3.0, 0.0), (3.0, 2.0)]]);
    }

    #[test]
    fn a_curve_becomes_several_lines_of_its_colour() {
        let mut drawing = Drawing::default();
        let curve: Vec<(f64, f64)> = (0..128).map(|x| (f64::from(x), f64::from(x % 2))).collect();
        drawing.line(curve, ACCENT, LineStyle::Dashed, "");
        let width = Width { points: 252.0 };
        let scene = drawing.scene(width, 150.0, "x", "y", |layout| layout);
        let coloured = |scene: &Scene| -> Vec<bool> {
            let accent = |stroke: &Color| matches!(stroke, Color::Rgb(0xd5, 0x5e, 0));
            let dashed = scene.elements.iter().filter_map(|element| match element {
                Primitive::PolyLine { stroke, stroke_dasharray, .. } if accent(stroke) => {
                    Some(stroke_dasharray.is_some())
                }
                Primitive::Path(path) if accent(&path.stroke) => Some(path.stroke_dasharray.is_some()),
                _ => None,
            });
            dashed.collect()
        };
        assert_eq!(coloured(&scene), [true]);
        let pieces = coloured(&in_pieces(&scene));
        assert!(pieces.len() > 20 && !pieces.contains(&true), "{pieces:?}");
    }

    #[test]
    fn paths_of_straight_lines_are_read_and_others_left() {
        assert_eq!(corners("M 1 2 L 3.5 -4"), Some(vec![(1.0, 2.0), (3.5, -4.0)]));
        assert_eq!(corners("M 1 2 C 3 4 5 6 7 8"), None);
        assert_eq!(corners("M 1 2 L 3 4 M 5 6 L 7 8"), None);
    }
}
