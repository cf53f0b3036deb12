//! A measured (or published) cost folder as `predict` sees it: samples by pass, with what they moved.

use crate::analysis::reference::step_scatter;
use crate::results::{CostRow, Mode, Role, Stamp, read_raw};
use crate::roofline::{Ceilings, Floor};
use crate::scenario::{MachineFile, ModelFile, ModelWeights, REFERENCE_FILE, ReferenceFile};
use crate::stats::summary::{MedianInterval, median, median_interval};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;

/// Of intervals where the folder does not declare one.
const CONFIDENCE: f64 = 0.95;

/// All curves of one folder.
#[derive(Debug, Clone)]
pub struct CostFolder {
    pub folder: String,
    pub machine: String,
    /// Version and build of the library; empty if not known.
    pub library: String,
    pub ceilings: Ceilings,
    /// The data sheet's bandwidth in bytes a second, and the sheet.
    pub sheet_bytes_per_s: Option<f64>,
    pub sheet: Option<MachineFile>,
    pub confidence: f64,
    pub curves: Vec<SourceCurve>,
}

/// t(b) of one target at one precision, context and batch, and the proposals that were timed behind the same context.
#[derive(Debug, Clone, Default)]
pub struct SourceCurve {
    pub target: String,
    pub precision: String,
    pub context: u64,
    pub batch: u64,
    /// Layers of the target, which its launches go by; none if not known.
    pub layers: Option<u64>,
    /// Synchronous forwards by width.
    pub forwards: BTreeMap<u64, Samples>,
    /// Pipelined steps of width 1.
    pub plain: Option<Samples>,
    /// Proposals by drafter and draft length.
    pub drafters: BTreeMap<String, BTreeMap<u64, Samples>>,
    /// Of single published times: they lie within this factor of the true ones.
    pub scatter_factor: Option<f64>,
}

/// The times of one shape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Seconds by pass.
    pub passes: BTreeMap<u64, f64>,
    pub bytes: u64,
    pub flops: f64,
    /// What the same shape moves and computes where it is predicted, if that is something else, as at another precision.
    pub there: Option<(u64, f64)>,
}

impl Samples {
    pub fn median_s(&self) -> f64 {
        median(&self.passes.values().copied().collect::<Vec<_>>()).expect("a shape without samples is left out")
    }

    /// The order statistics that cover the median; none where the samples are too few.
    pub fn interval_s(&self, confidence: f64) -> Option<(f64, f64)> {
        let times: Vec<f64> = self.passes.values().copied().collect();
        match median_interval(&times, confidence).ok()? {
            MedianInterval::Found { low, high, .. } => Some((low, high)),
            MedianInterval::NeedsSamples { .. } => None,
        }
    }

    /// What these bytes and FLOPs take at the ceilings.
    pub fn floor(&self, ceilings: &Ceilings) -> Floor {
        Floor { memory_s: ceilings.memory_s(self.bytes), compute_s: self.flops / ceilings.matrix_flops_per_s }
    }
}

impl SourceCurve {
    /// Precision, context and batch in words.
    pub fn point(&self) -> String {
        format!("{}, context {}, batch {}", self.precision, self.context, self.batch)
    }

    /// The same times with what `other`'s shapes move: to be carried to its precision. At another precision shapes that
    /// `other` lacks are left out, as nobody says what they move there.
    pub fn toward(&self, other: &SourceCurve) -> SourceCurve {
        let mut curve = SourceCurve { precision: other.precision.clone(), ..self.clone() };
        let moved = |samples: &Samples| (samples.bytes, samples.flops);
        for (width, samples) in &mut curve.forwards {
            samples.there = other.forwards.get(width).map(moved);
        }
        if let Some(plain) = &mut curve.plain {
            plain.there = other.plain.as_ref().map(moved);
        }
        for (name, proposals) in &mut curve.drafters {
            for (length, samples) in proposals {
                samples.there = other.drafters.get(name).and_then(|proposals| proposals.get(length)).map(moved);
            }
        }
        if self.precision != other.precision {
            curve.forwards.retain(|_, samples| samples.there.is_some());
            curve.plain = curve.plain.filter(|plain| plain.there.is_some());
            curve.drafters.values_mut().for_each(|proposals| proposals.retain(|_, samples| samples.there.is_some()));
        }
        curve
    }

    /// All passes that a sample was taken in.
    pub fn passes(&self) -> Vec<u64> {
        let proposals = self.drafters.values().flat_map(BTreeMap::values);
        let all = self.forwards.values().chain(&self.plain).chain(proposals);
        let mut passes: Vec<u64> = all.flat_map(|samples| samples.passes.keys().copied()).collect();
        passes.sort_unstable();
        passes.dedup();
        passes
    }
}

impl CostFolder {
    /// Reads a folder of `cost` or `tune`, or a published curve.
    ///
    /// # Errors
    /// If there is no curve, or no measured ceilings: without them a time cannot be taken apart.
    pub fn read(folder: &Path) -> Result<CostFolder> {
        let shown = folder.display().to_string();
        let rows: Vec<CostRow> = read_raw(folder)?;
        if rows.is_empty() {
            return Err(crate::usage!(
                "{shown}: has no cost.csv with rows; name a folder of cost, tune or a published curve"
            ));
        }
        let mut found = match folder.join(REFERENCE_FILE).exists() {
            true => CostFolder::published(folder, &rows)?,
            false => CostFolder::measured(folder)?,
        };
        let scatter_factor = match folder.join(REFERENCE_FILE).exists() {
            true => step_scatter(folder, found.confidence)?,
            false => None,
        };
        found.curves = curves(&rows, scatter_factor)?;
        if found.curves.is_empty() {
            bail!("{shown}/cost.csv: has no valid synchronous time of a target; measure t(b) first");
        }
        Ok(found)
    }

    fn measured(folder: &Path) -> Result<CostFolder> {
        let shown = folder.display().to_string();
        let stamp =
            Stamp::read(folder)?.with_context(|| format!("{shown}: has no environment.json; name a results folder"))?;
        let ceilings = stamp
            .ceilings()
            .with_context(|| format!("{shown}: environment.json: no launch has ceilings; measure again"))?;
        let machine = stamp.identity.machine.clone();
        let sheet = MachineFile::find(&std::path::absolute(folder)?, &machine)?;
        Ok(CostFolder {
            folder: shown,
            library: stamp.identity.mlx.clone(),
            ceilings,
            sheet_bytes_per_s: sheet.as_ref().and_then(MachineFile::bandwidth_bytes_per_s),
            sheet,
            confidence: stamp.scenario["confidence"].as_f64().unwrap_or(CONFIDENCE),
            machine,
            curves: Vec::new(),
        })
    }

    fn published(folder: &Path, rows: &[CostRow]) -> Result<CostFolder> {
        let file = ReferenceFile::read(folder)?;
        Ok(CostFolder {
            folder: folder.display().to_string(),
            machine: rows[0].machine.clone(),
            library: String::new(),
            ceilings: Ceilings {
                bandwidth_bytes_per_s: 1e9 * file.copy_bandwidth_gb_s,
                read_bytes_per_s: None,
                matrix_flops_per_s: 1e12 * file.matrix_tflop_s,
            },
            sheet_bytes_per_s: Some(1e9 * file.bandwidth_gb_s),
            sheet: None,
            confidence: file.confidence,
            curves: Vec::new(),
        })
    }
}

/// Curves by target, precision, context and batch. Samples that failed or are invalid are left out.
fn curves(rows: &[CostRow], scatter_factor: Option<f64>) -> Result<Vec<SourceCurve>> {
    let mut curves: BTreeMap<(&str, u64, u64, &str), SourceCurve> = BTreeMap::new();
    let valid = |row: &&CostRow| !row.invalid && row.time_ms.is_some_and(|time| time > 0.0);
    let (targets, proposals): (Vec<_>, Vec<_>) = rows.iter().filter(valid).partition(|row| row.role == Role::Target);
    for row in targets {
        let key = (&*row.target, row.context, row.batch, &*row.precision);
        let curve = curves.entry(key).or_default();
        if curve.target.is_empty() {
            curve.layers = layers(&row.target)?;
            (curve.target, curve.precision) = (row.target.clone(), row.precision.clone());
            (curve.context, curve.batch, curve.scatter_factor) = (row.context, row.batch, scatter_factor);
        }
        match row.mode {
            Mode::Sync => add(curve.forwards.entry(row.width).or_default(), row),
            Mode::Pipelined if row.width == 1 => add(curve.plain.get_or_insert_default(), row),
            Mode::Pipelined | Mode::Round => {}
        }
    }
    for row in proposals.into_iter().filter(|row| row.mode == Mode::Sync) {
        // Proposals are timed for one sequence; a tuning job's rows carry the batch of their target.
        let of = curves.values_mut().filter(|curve| curve.context == row.context && curve.target == row.target);
        for curve in of.filter(|curve| curve.batch == row.batch || row.batch == 1) {
            add(curve.drafters.entry(row.drafter.clone()).or_default().entry(row.width).or_default(), row);
        }
    }
    Ok(curves.into_values().filter(|curve| !curve.forwards.is_empty()).collect())
}

fn add(samples: &mut Samples, row: &CostRow) {
    (samples.bytes, samples.flops) = (row.bytes, row.flops);
    samples.passes.insert(row.pass, row.time_ms.unwrap_or_default() / 1e3);
}

/// Layers of a model of `scenarios/models` with shapes; none for others.
fn layers(target: &str) -> Result<Option<u64>> {
    let here = std::env::current_dir().context("the current folder cannot be told")?;
    let Some(file) = ModelFile::find(&here, target)? else { return Ok(None) };
    let ModelWeights::Synthetic(config) = file.weights else { return Ok(None) };
    Ok(config["num_hidden_layers"].as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_another_precision_only_shapes_that_are_known_there_are_left() {
        let shape = |bytes: u64| Samples { passes: [(0, 1.0)].into(), bytes, flops: 2.0, there: None };
        let curve = |precision: &str, widths: &[u64], bytes: u64| SourceCurve {
            precision: precision.to_string(),
            forwards: widths.iter().map(|width| (*width, shape(bytes + width))).collect(),
            plain: Some(shape(bytes)),
            ..SourceCurve::default()
        };
        let source = curve("4-bit", &[1, 2, 3], 100);
        let carried = source.toward(&curve("bfloat16", &[1, 3], 400));
        let there: Vec<_> = carried.forwards.iter().map(|(width, samples)| (*width, samples.there)).collect();
        assert_eq!(there, [(1, Some((401, 2.0))), (3, Some((403, 2.0)))]);
        assert_eq!((carried.precision.as_str(), carried.plain.unwrap().there), ("bfloat16", Some((400, 2.0))));
        let same = source.toward(&curve("4-bit", &[1], 100));
        assert_eq!(same.forwards.len(), 3);
    }
}
