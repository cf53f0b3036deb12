//! From an experiment's samples to what they say about each statement.
//!
//! Every pass times every case once, in an order of its own, so a pass is a block: whatever is compared is computed inside
//! each pass, and the passes' values are summarised by their median with its distribution-free interval. Drift between
//! passes cancels, and one disturbed pass moves nothing.

use super::{EXPERIMENTS, Scale};
use crate::results::{HypothesisRow, PointRow, SampleRow, Stamp, read_raw_as, write};
use crate::roofline::Ceilings;
use crate::stats::summary::{MedianInterval, median, median_interval};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Of every interval.
const CONFIDENCE: f64 = 0.95;

/// What an experiment left behind.
pub struct Evidence<'a> {
    pub samples: &'a [SampleRow],
    pub ceilings: Ceilings,
    pub scale: &'a Scale,
}

/// The valid samples of one pass.
pub struct Pass<'a>(Vec<&'a SampleRow>);

impl<'a> Pass<'a> {
    /// The samples of a subject, in the order of their sizes.
    pub fn all(&self, subject: &str) -> Vec<&'a SampleRow> {
        let size = |row: &&SampleRow| (row.outputs, row.inputs, row.context, row.batch, row.width, row.bytes);
        let mut rows: Vec<_> = self.0.iter().copied().filter(|row| row.subject == subject).collect();
        rows.sort_by_key(size);
        rows
    }

    /// The only sample of a subject.
    pub fn one(&self, subject: &str) -> Option<&'a SampleRow> {
        self.0.iter().copied().find(|row| row.subject == subject)
    }

    /// Milliseconds of the only sample of a subject.
    pub fn ms(&self, subject: &str) -> Option<f64> {
        self.one(subject)?.time_ms
    }

    /// The sample of a subject that `is` picks.
    pub fn find(&self, subject: &str, is: impl Fn(&SampleRow) -> bool) -> Option<&'a SampleRow> {
        self.0.iter().copied().find(|row| row.subject == subject && is(row))
    }
}

/// A value with its interval, from one value a pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    /// The median over passes.
    pub value: f64,
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub passes: usize,
}

impl Quantity {
    /// From one value a pass; none from none.
    pub fn of(values: &[f64]) -> Result<Option<Quantity>> {
        if values.is_empty() {
            return Ok(None);
        }
        let (low, high) = match median_interval(values, CONFIDENCE)? {
            MedianInterval::Found { low, high, .. } => (Some(low), Some(high)),
            MedianInterval::NeedsSamples { .. } => (None, None),
        };
        Ok(Some(Quantity { value: median(values)?, low, high, passes: values.len() }))
    }
}

/// A statement of an experiment and what decides about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    pub text: String,
    /// The name of what decides.
    pub of: String,
    pub quantity: Option<Quantity>,
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
    pub note: String,
}

impl Statement {
    /// Holds where `quantity` is at least `bound`.
    pub fn at_least(text: &str, of: &str, quantity: Option<Quantity>, bound: f64) -> Statement {
        let (at_least, at_most) = (Some(bound), None);
        Statement { text: text.into(), of: of.into(), quantity, at_least, at_most, note: String::new() }
    }

    /// Holds where `quantity` is at most `bound`.
    pub fn at_most(text: &str, of: &str, quantity: Option<Quantity>, bound: f64) -> Statement {
        Statement { at_least: None, at_most: Some(bound), ..Statement::at_least(text, of, quantity, bound) }
    }

    /// Holds where `quantity` lies between the two.
    pub fn between(text: &str, of: &str, quantity: Option<Quantity>, low: f64, high: f64) -> Statement {
        Statement { at_most: Some(high), ..Statement::at_least(text, of, quantity, low) }
    }

    pub fn noting(self, note: impl Into<String>) -> Statement {
        Statement { note: note.into(), ..self }
    }

    /// Confirmed or refuted where the whole interval says so.
    pub fn verdict(&self) -> &'static str {
        let Some(quantity) = &self.quantity else { return "not run" };
        let (Some(low), Some(high)) = (quantity.low, quantity.high) else { return "undecided" };
        let (least, most) = (self.at_least.unwrap_or(f64::NEG_INFINITY), self.at_most.unwrap_or(f64::INFINITY));
        match () {
            _ if low >= least && high <= most => "confirmed",
            _ if high < least || low > most => "refuted",
            _ => "undecided",
        }
    }
}

impl<'a> Evidence<'a> {
    /// One value a pass, over all passes in which it can be computed.
    pub fn quantity(&self, value: impl Fn(&Pass<'a>) -> Option<f64>) -> Result<Option<Quantity>> {
        let mut passes: BTreeMap<u64, Vec<&SampleRow>> = BTreeMap::new();
        for row in self.samples.iter().filter(|row| row.time_ms.is_some() && !row.invalid) {
            passes.entry(row.pass).or_default().push(row);
        }
        let values: Vec<f64> = passes.into_values().filter_map(|rows| value(&Pass(rows))).collect();
        Quantity::of(&values.into_iter().filter(|value| value.is_finite()).collect::<Vec<_>>())
    }

    /// Bytes that were counted, not timed.
    pub fn counted(&self, subject: &str, is: impl Fn(&SampleRow) -> bool) -> Option<u64> {
        self.samples.iter().find(|row| row.subject == subject && is(row)).map(|row| row.bytes)
    }

    /// Why a subject has no valid sample, for a note.
    pub fn why_missing(&self, subject: &str) -> String {
        let rows = || self.samples.iter().filter(|row| row.subject == subject);
        match rows().find(|row| !row.error.is_empty()) {
            Some(row) => row.error.clone(),
            None if rows().any(|row| row.invalid) => {
                format!("every sample of '{subject}' is above a measured ceiling: something was not computed")
            }
            None => String::new(),
        }
    }
}

/// All that follows from the samples of a folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    pub points: Vec<PointRow>,
    pub hypotheses: Vec<HypothesisRow>,
    /// Samples above a measured ceiling.
    pub invalid: usize,
    pub samples: usize,
    pub scale: Scale,
    pub ceilings: Ceilings,
}

/// Derives points and verdicts from a folder's samples.
pub fn baseline(folder: &Path) -> Result<Baseline> {
    let shown = folder.display();
    let stamp = Stamp::read(folder)?.with_context(|| format!("{shown}: has no environment.json"))?;
    let scale: Scale = stamp.declared(folder)?;
    let ceilings =
        stamp.ceilings().with_context(|| format!("{shown}: environment.json has no ceilings; measure again"))?;
    let ceilings = super::bandwidth::reached(folder, ceilings)?;
    let mut derived = Baseline { points: Vec::new(), hypotheses: Vec::new(), invalid: 0, samples: 0, scale, ceilings };
    for experiment in EXPERIMENTS {
        let samples: Vec<SampleRow> = read_raw_as(folder, &experiment.file())?;
        if samples.is_empty() {
            continue;
        }
        derived.invalid += samples.iter().filter(|row| row.invalid).count();
        derived.samples += samples.iter().filter(|row| row.time_ms.is_some()).count();
        derived.points.extend(points(&samples, &ceilings)?);
        let evidence = Evidence { samples: &samples, ceilings, scale: &derived.scale };
        let statements = (experiment.statements)(&evidence)?;
        derived.hypotheses.extend(statements.iter().map(|statement| row(experiment.id, experiment.name, statement)));
    }
    Ok(derived)
}

impl Baseline {
    /// Writes the derived files.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write(folder, &self.points)?;
        write(folder, &self.hypotheses)
    }
}

fn row(experiment: u64, name: &str, statement: &Statement) -> HypothesisRow {
    let quantity = statement.quantity.as_ref();
    HypothesisRow {
        experiment,
        name: name.into(),
        hypothesis: statement.text.clone(),
        verdict: statement.verdict().into(),
        quantity: statement.of.clone(),
        value: quantity.map(|quantity| quantity.value),
        low: quantity.and_then(|quantity| quantity.low),
        high: quantity.and_then(|quantity| quantity.high),
        at_least: statement.at_least,
        at_most: statement.at_most,
        note: statement.note.clone(),
    }
}

/// One row a case, in the order in which the cases first appear.
fn points(samples: &[SampleRow], ceilings: &Ceilings) -> Result<Vec<PointRow>> {
    let mut cases: Vec<(String, Vec<&SampleRow>)> = Vec::new();
    for row in samples {
        let case = row.case();
        match cases.iter_mut().find(|(name, _)| *name == case) {
            Some((_, rows)) => rows.push(row),
            None => cases.push((case, vec![row])),
        }
    }
    cases.iter().map(|(_, rows)| point(rows, ceilings)).collect()
}

fn point(rows: &[&SampleRow], ceilings: &Ceilings) -> Result<PointRow> {
    let first = rows[0].clone();
    let times: Vec<f64> = rows.iter().filter(|row| !row.invalid).filter_map(|row| row.time_ms).collect();
    let quantity = Quantity::of(&times)?;
    let ms = quantity.as_ref().map(|quantity| quantity.value);
    let bandwidth_gb_s = ms.map(|ms| first.bytes as f64 / ms / 1e6).filter(|_| first.bytes > 0);
    Ok(PointRow {
        experiment: first.experiment,
        model: first.model,
        precision: first.precision,
        subject: first.subject,
        outputs: first.outputs,
        inputs: first.inputs,
        context: first.context,
        batch: first.batch,
        width: first.width,
        samples: times.len() as u64,
        invalid: rows.iter().filter(|row| row.invalid).count() as u64,
        failed: rows.iter().filter(|row| !row.error.is_empty()).count() as u64,
        time_ms: ms,
        time_low_ms: quantity.as_ref().and_then(|quantity| quantity.low),
        time_high_ms: quantity.as_ref().and_then(|quantity| quantity.high),
        bytes: first.bytes,
        flops: first.flops,
        bandwidth_gb_s,
        bandwidth_share: bandwidth_gb_s.map(|rate| rate * 1e9 / ceilings.forward_bytes_per_s()),
        rate_gflop_s: ms.map(|ms| first.flops / ms / 1e6).filter(|_| first.flops > 0.0),
        peak_bytes: rows.iter().filter_map(|row| row.peak_bytes).max(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(subject: &str, pass: u64, time_ms: f64) -> SampleRow {
        SampleRow { subject: subject.into(), pass, time_ms: Some(time_ms), bytes: 1000, ..SampleRow::default() }
    }

    fn quantity_of(samples: &[SampleRow]) -> Option<Quantity> {
        let scale = Scale::auto(false, 1 << 30, super::super::DEFAULT_TIME);
        let ceilings = Ceilings { bandwidth_bytes_per_s: 1e9, read_bytes_per_s: None, matrix_flops_per_s: 1e12 };
        let evidence = Evidence { samples, ceilings, scale: &scale };
        evidence.quantity(|pass| Some(pass.ms("slow")? / pass.ms("fast")?)).unwrap()
    }

    /// Both cases drift alike: the ratio inside a pass does not. Six passes are the fewest whose extremes cover a median
    /// with 95 % (1 - 2/2^6 = 0.969).
    #[test]
    fn a_ratio_is_taken_inside_each_pass() {
        let drifting = |passes: u64| -> Vec<SampleRow> {
            let speed = |pass: u64| (1 + pass) as f64;
            let both = |pass| [sample("slow", pass, 3.0 * speed(pass)), sample("fast", pass, speed(pass))];
            (0..passes).flat_map(both).collect()
        };
        let six = quantity_of(&drifting(6)).unwrap();
        assert_eq!((six.value, six.low, six.high, six.passes), (3.0, Some(3.0), Some(3.0), 6));
        let five = quantity_of(&drifting(5)).unwrap();
        assert_eq!((five.value, five.low), (3.0, None));
        // What is invalid counts nowhere: that pass has no ratio.
        let mut samples = drifting(6);
        samples[0].invalid = true;
        assert_eq!(quantity_of(&samples).unwrap().passes, 5);
        samples.iter_mut().for_each(|row| row.invalid = true);
        assert_eq!(quantity_of(&samples), None);
    }

    #[test]
    fn a_verdict_needs_the_whole_interval() {
        let quantity = |low: f64, high: f64| {
            Some(Quantity { value: (low + high) / 2.0, low: Some(low), high: Some(high), passes: 9 })
        };
        let at_least = |low, high| Statement::at_least("", "", quantity(low, high), 2.0).verdict();
        assert_eq!([at_least(2.0, 3.0), at_least(1.0, 3.0), at_least(1.0, 1.9)], ["confirmed", "undecided", "refuted"]);
        let at_most = |low, high| Statement::at_most("", "", quantity(low, high), 2.0).verdict();
        assert_eq!([at_most(1.0, 2.0), at_most(1.0, 3.0), at_most(2.1, 3.0)], ["confirmed", "undecided", "refuted"]);
        let between = |low, high| Statement::between("", "", quantity(low, high), 1.0, 2.0).verdict();
        assert_eq!([between(1.2, 1.8), between(0.5, 1.5), between(2.5, 3.0)], ["confirmed", "undecided", "refuted"]);
        assert_eq!(Statement::at_least("", "", None, 1.0).verdict(), "not run");
        let few = Some(Quantity { value: 5.0, low: None, high: None, passes: 3 });
        assert_eq!(Statement::at_least("", "", few, 1.0).verdict(), "undecided");
    }

    #[test]
    fn a_point_summarises_its_valid_samples() {
        let mut samples: Vec<SampleRow> = (0..7).map(|pass| sample("copy", pass, 2.0 + pass as f64)).collect();
        samples.push(SampleRow { invalid: true, ..sample("copy", 7, 0.001) });
        let ceilings = Ceilings { bandwidth_bytes_per_s: 1e6, read_bytes_per_s: None, matrix_flops_per_s: 1e12 };
        let points = points(&samples, &ceilings).unwrap();
        let [point] = &points[..] else { panic!("{points:?}") };
        assert_eq!((point.samples, point.invalid, point.time_ms), (7, 1, Some(5.0)));
        // 1000 bytes in 5 ms: 0.0002 GB/s, a fifth of the ceiling.
        assert_eq!((point.bandwidth_gb_s, point.bandwidth_share), (Some(0.0002), Some(0.2)));
    }
}
