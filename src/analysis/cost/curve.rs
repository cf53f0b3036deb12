//! One curve, from raw rows to everything that is said about it.

use super::ridge::{SpecSheet, ridge_width};
use super::stretches::{Point, stretches};
use crate::results::{CostChangeRow, CostCurveRow, CostModelRow, CostRow, CostStretchRow, CostWidthRow, Mode, Role};
use crate::roofline::Ceilings;
use crate::scenario::MachineFile;
use crate::stats::change_points::{Change, ChangePoints, change_points};
use crate::stats::cost_model::{ModelChoice, SHAPES, Shape, choose_model};
use crate::stats::parallel::in_parallel;
use crate::stats::summary::{MedianInterval, median, median_interval};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};

/// How curves are judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub confidence: f64,
    /// A cliff or fall by less than this share is none.
    pub smallest_change: f64,
    /// Measured; none where they were not.
    pub ceilings: Option<Ceilings>,
    /// Of a data sheet; none where there is none.
    pub spec: Option<MachineFile>,
}

/// What is said about one curve.
#[derive(Debug, Clone, PartialEq)]
pub struct CurveAnalysis {
    pub row: CostCurveRow,
    /// Ascending widths, the pipelined step last.
    pub widths: Vec<CostWidthRow>,
    pub changes: Vec<CostChangeRow>,
    pub stretches: Vec<CostStretchRow>,
    pub models: Vec<CostModelRow>,
}

/// Whether it is a drafter's, target, precision, drafter, context, batch: what names a curve, in the order of curves.
type Key<'a> = (bool, &'a str, &'a str, &'a str, u64, u64);

/// Analyses every curve in the rows: those of targets, then those of drafters, by name, context and batch. Samples that
/// failed or are marked invalid are left out and counted; a curve without any other is left out whole.
pub fn analyze_curves(rows: &[CostRow], settings: &Settings) -> Result<Vec<CurveAnalysis>> {
    let mut curves: BTreeMap<Key, Vec<&CostRow>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.mode != Mode::Round) {
        let is_drafter = row.role == Role::Drafter;
        let key = (is_drafter, &*row.target, &*row.precision, &*row.drafter, row.context, row.batch);
        curves.entry(key).or_default().push(row);
    }
    let measured = |rows: &Vec<&CostRow>| rows.iter().any(|row| seconds(row).is_some() && row.mode == Mode::Sync);
    let curves: Vec<_> = curves.into_values().filter(measured).enumerate().collect();
    in_parallel(curves, |(number, rows)| Curve { number: number as u64, rows, settings }.analyze())
        .into_iter()
        .collect()
}

/// Of a valid sample.
fn seconds(row: &CostRow) -> Option<f64> {
    row.time_ms.filter(|time| !row.invalid && *time > 0.0).map(|time| time / 1e3)
}

/// A curve before it is analysed.
struct Curve<'a> {
    number: u64,
    rows: Vec<&'a CostRow>,
    settings: &'a Settings,
}

impl Curve<'_> {
    fn analyze(&self) -> Result<CurveAnalysis> {
        let mut cannot_say = Vec::new();
        let points = self.points(Mode::Sync)?;
        let mut widths: Vec<CostWidthRow> =
            points.iter().map(|point| self.width_row(point, Mode::Sync)).collect::<Result<_>>()?;
        let with_interval = widths.iter().filter(|row| row.time_low_ms.is_some()).count();
        if with_interval < widths.len() {
            let (without, all) = (widths.len() - with_interval, widths.len());
            cannot_say.push(format!("no interval at {without} of {all} widths: {}", self.too_few()?));
        }
        let found = self.changes(&points, &mut cannot_say)?;
        let model = self.model(&points, &mut cannot_say)?;
        let starts = found.as_ref().map(starts).unwrap_or_default();
        let ceilings = self.settings.ceilings.as_ref();
        if ceilings.is_none() {
            cannot_say.push("regimes and ridge: no ceilings were measured".to_string());
        } else if points.iter().all(|point| point.bytes == 0) {
            cannot_say.push("regimes and ridge: the bytes of a forward are not known".to_string());
        }
        let mut stretches = stretches(&points, &starts, ceilings, self.settings.confidence);
        stretches.iter_mut().for_each(|row| row.curve = self.number);
        for row in &mut widths {
            let of = stretches.iter().find(|stretch| (stretch.from_width..=stretch.to_width).contains(&row.width));
            row.regime = of.map(|stretch| stretch.regime.clone()).unwrap_or_default();
            row.model_ms = model.as_ref().map(|model| 1e3 * model.fit().curve.at(row.width as f64));
            let padding = found.iter().flat_map(|found| &found.paddings).find(|pad| pad.width as u64 == row.width);
            row.pad_to = padding.map(|padding| padding.pad_to as u64);
            row.pad_saving = padding.map(|padding| padding.saving);
            row.pad_p_holm = padding.map(|padding| padding.p_holm);
        }
        let row = self.row(&points, found.as_ref(), model.as_ref(), &cannot_say);
        for point in self.points(Mode::Pipelined)? {
            widths.push(self.width_row(&point, Mode::Pipelined)?);
        }
        let changes = found.iter().flat_map(|found| self.change_rows(found)).collect();
        let models = model.iter().flat_map(|model| self.model_rows(model)).collect();
        Ok(CurveAnalysis { row, widths, changes, stretches, models })
    }

    /// The medians by width, with what they are of.
    fn points(&self, mode: Mode) -> Result<Vec<Point>> {
        let mut points: BTreeMap<u64, Point> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.mode == mode) {
            let Some(seconds) = seconds(row) else { continue };
            let new = || {
                let (width, bytes, flops) = (row.width, row.bytes, row.flops);
                Point { width, time_s: 0.0, passes: BTreeMap::new(), bytes, flops }
            };
            points.entry(row.width).or_insert_with(new).passes.insert(row.pass, seconds);
        }
        let mut points: Vec<Point> = points.into_values().collect();
        for point in &mut points {
            point.time_s = median(&samples(point))?;
        }
        Ok(points)
    }

    fn width_row(&self, point: &Point, mode: Mode) -> Result<CostWidthRow> {
        let first = self.rows[0];
        let interval = match median_interval(&samples(point), self.settings.confidence)? {
            MedianInterval::Found { low, high, confidence } => Some((low, high, confidence)),
            MedianInterval::NeedsSamples { .. } => None,
        };
        Ok(CostWidthRow {
            curve: self.number,
            machine: first.machine.clone(),
            target: first.target.clone(),
            precision: first.precision.clone(),
            role: first.role,
            drafter: first.drafter.clone(),
            context: first.context,
            batch: first.batch,
            mode,
            width: point.width,
            samples: point.passes.len() as u64,
            time_ms: 1e3 * point.time_s,
            time_low_ms: interval.map(|interval| 1e3 * interval.0),
            time_high_ms: interval.map(|interval| 1e3 * interval.1),
            confidence: interval.map(|interval| interval.2),
            bytes: point.bytes,
            flops: point.flops,
            bandwidth_gb_s: point.bytes as f64 / point.time_s / 1e9,
            rate_gflop_s: point.flops / point.time_s / 1e9,
            ..CostWidthRow::default()
        })
    }

    /// How many samples an interval would take.
    fn too_few(&self) -> Result<String> {
        let confidence = self.settings.confidence;
        Ok(match median_interval(&[1.0], confidence)? {
            MedianInterval::NeedsSamples { at_least } => format!("{at_least} samples are needed for {confidence}"),
            MedianInterval::Found { .. } => String::new(),
        })
    }

    /// None where fewer than two widths have the two samples that noise is estimated from.
    fn changes(&self, points: &[Point], cannot_say: &mut Vec<String>) -> Result<Option<ChangePoints>> {
        let repeated: Vec<&Point> = points.iter().filter(|point| point.passes.len() >= 2).collect();
        if repeated.len() < 2 {
            cannot_say.push("cliffs, falls and padding: one sample a width cannot be told from noise".to_string());
            return Ok(None);
        }
        if repeated.len() < points.len() {
            let (without, all) = (points.len() - repeated.len(), points.len());
            cannot_say.push(format!("cliffs at {without} of {all} widths with one sample; they are passed over"));
        }
        let widths: Vec<usize> = repeated.iter().map(|point| point.width as usize).collect();
        let slowness = slowness_of_passes(&repeated);
        let even = |point: &&Point| point.passes.iter().map(|(pass, seconds)| seconds / slowness[pass]).collect();
        let samples: Vec<Vec<f64>> = repeated.iter().map(even).collect();
        let Settings { confidence, smallest_change, .. } = self.settings;
        Ok(Some(change_points(&widths, &samples, *confidence, *smallest_change).context("cost.csv")?))
    }

    /// None below three widths.
    fn model(&self, points: &[Point], cannot_say: &mut Vec<String>) -> Result<Option<ModelChoice>> {
        if points.len() < 3 {
            cannot_say.push(format!("the shape of the curve: {} widths, 3 are needed", points.len()));
            return Ok(None);
        }
        let widths: Vec<f64> = points.iter().map(|point| point.width as f64).collect();
        let seconds: Vec<f64> = points.iter().map(|point| point.time_s).collect();
        let model = choose_model(&widths, &seconds).context("cost.csv")?;
        let fitted: BTreeSet<Shape> = model.fits.iter().map(|fit| fit.curve.shape).collect();
        let left: Vec<&str> = SHAPES.iter().filter(|shape| !fitted.contains(shape)).map(|shape| name(*shape)).collect();
        if !left.is_empty() {
            cannot_say.push(format!("{} widths do not support the shapes {}", points.len(), left.join(" and ")));
        }
        Ok(Some(model))
    }

    fn row(
        &self,
        points: &[Point],
        found: Option<&ChangePoints>,
        model: Option<&ModelChoice>,
        cannot_say: &[String],
    ) -> CostCurveRow {
        let Settings { confidence, ceilings, spec, .. } = self.settings;
        let first = self.rows[0];
        let sheet = SpecSheet::of(spec.as_ref(), &first.precision);
        let moved: Vec<(u64, u64, f64)> = points.iter().map(|point| (point.width, point.bytes, point.flops)).collect();
        // A proposal is a chain of narrow forwards: it has no ridge along its length.
        let ridge = |ceilings: &Ceilings| (first.role == Role::Target).then(|| ridge_width(ceilings, &moved))?;
        let giga = |value: f64| value / 1e9;
        CostCurveRow {
            curve: self.number,
            machine: first.machine.clone(),
            target: first.target.clone(),
            precision: first.precision.clone(),
            role: first.role,
            drafter: first.drafter.clone(),
            context: first.context,
            batch: first.batch,
            widths: points.len() as u64,
            samples: self.count(|row| seconds(row).is_some()),
            invalid: self.count(|row| row.invalid),
            failed: self.count(|row| row.time_ms.is_none()),
            narrowest_ms: points.first().map_or(0.0, |point| 1e3 * point.time_s),
            pipelined_ms: self.points(Mode::Pipelined).ok().and_then(|points| Some(1e3 * points.first()?.time_s)),
            shape: model.map(|model| name(model.chosen).to_string()).unwrap_or_default(),
            error_left_out: model.map(|model| model.fit().error_left_out),
            cliffs: found.map(|found| found.cliffs.len() as u64),
            falls: found.map(|found| found.falls.len() as u64),
            padded_widths: found.map(|found| found.paddings.len() as u64),
            confidence: *confidence,
            bandwidth_gb_s: ceilings.map(|ceilings| giga(ceilings.forward_bytes_per_s())),
            matrix_gflop_s: ceilings.map(|ceilings| giga(ceilings.matrix_flops_per_s)),
            ridge_flop_per_byte: ceilings.map(|ceilings| ceilings.ridge_flops_per_byte()),
            ridge_width: ceilings.as_ref().and_then(ridge),
            spec: spec.as_ref().map(|spec| spec.name.clone()).unwrap_or_default(),
            spec_bandwidth_gb_s: sheet.bandwidth_bytes_per_s.map(giga),
            spec_matrix_gflop_s: sheet.matrix_flops_per_s.map(giga),
            spec_ridge_flop_per_byte: sheet.ceilings().map(|ceilings| ceilings.ridge_flops_per_byte()),
            spec_ridge_width: sheet.ceilings().as_ref().and_then(ridge),
            cannot_say: cannot_say.join(" | "),
        }
    }

    fn count(&self, what: impl Fn(&CostRow) -> bool) -> u64 {
        self.rows.iter().filter(|row| what(row)).count() as u64
    }

    fn change_rows(&self, found: &ChangePoints) -> Vec<CostChangeRow> {
        let row = |kind: &str, change: &Change| CostChangeRow {
            curve: self.number,
            kind: kind.to_string(),
            from_width: change.from_width as u64,
            to_width: change.to_width as u64,
            relative: change.relative,
            low: change.low,
            high: change.high,
            p_holm: change.p_holm,
        };
        let cliffs = found.cliffs.iter().map(|change| row("cliff", change));
        let mut rows: Vec<CostChangeRow> = cliffs.chain(found.falls.iter().map(|change| row("fall", change))).collect();
        rows.sort_by_key(|row| row.from_width);
        rows
    }

    fn model_rows(&self, model: &ModelChoice) -> Vec<CostModelRow> {
        let mut rows = Vec::new();
        for fit in &model.fits {
            rows.extend(fit.curve.pieces.iter().enumerate().map(|(piece, part)| CostModelRow {
                curve: self.number,
                shape: name(fit.curve.shape).to_string(),
                chosen: fit.curve.shape == model.chosen,
                error_left_out: fit.error_left_out,
                piece: piece as u64,
                from_width: part.from_width,
                level_ms: 1e3 * part.level,
                slope_ms: 1e3 * part.slope,
            }));
        }
        rows
    }
}

/// How slow each pass was as a whole: the median over its widths of the time over the width's median. A pass is a
/// randomised block, and what slows all of it says nothing about widths. 1 where a pass has too few widths to tell.
fn slowness_of_passes(points: &[&Point]) -> BTreeMap<u64, f64> {
    const FEWEST_WIDTHS: usize = 16;
    let mut ratios: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for point in points {
        for (pass, seconds) in &point.passes {
            ratios.entry(*pass).or_default().push(seconds / point.time_s);
        }
    }
    let slowness = |ratios: Vec<f64>| if ratios.len() < FEWEST_WIDTHS { 1.0 } else { median(&ratios).unwrap_or(1.0) };
    ratios.into_iter().map(|(pass, ratios)| (pass, slowness(ratios))).collect()
}

fn samples(point: &Point) -> Vec<f64> {
    point.passes.values().copied().collect()
}

/// Widths before which a stretch ends.
fn starts(found: &ChangePoints) -> Vec<u64> {
    found.cliffs.iter().chain(&found.falls).map(|change| change.to_width as u64).collect()
}

/// As in the CSVs.
fn name(shape: Shape) -> &'static str {
    match shape {
        Shape::Constant => "constant",
        Shape::Linear => "linear",
        Shape::OneKink => "one-kink",
        Shape::Steps => "steps",
    }
}

#[cfg(test)]
mod tests;
