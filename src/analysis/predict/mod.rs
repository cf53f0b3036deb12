//! From the times of one machine to those of another, and to the draft length that a given acceptance makes the fastest.
//! Everything that comes out is a prediction, and is called so wherever it is shown or written.

mod carry;
mod fit;
mod lengths;
mod other;
mod source;

pub use carry::OtherMachine;
pub use fit::{Fit, Multiplier};
pub use other::Destination;

use crate::results::{
    DraftTraceRow, PredictedLengthRow, PredictedWidthRow, PromptRow, TraceRow, read, read_raw, write,
};
use anyhow::{Context, Result};
use carry::Carrier;
use lengths::{Accepted, lengths};
use source::{CostFolder, SourceCurve};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is to be predicted.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Cost folders of one machine.
    pub sources: Vec<PathBuf>,
    pub destination: Destination,
    /// Folders measured on the other machine, to compare with: each curve with the one of its target.
    pub against: Vec<PathBuf>,
    /// Chances that a drafted token is accepted.
    pub alphas: Vec<f64>,
    /// Folders of `tune`, whose traces are replayed.
    pub traces: Vec<PathBuf>,
    /// Prices of a drafted token in plain steps, besides those of measured drafters.
    pub draft_costs: Vec<f64>,
    pub seed: u64,
}

/// What came out of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicted {
    pub curves: Vec<PredictedCurve>,
    pub warnings: Vec<String>,
}

/// One curve's prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictedCurve {
    /// The machine that was measured, with the bandwidth in bytes a second that its forwards can reach.
    pub source_machine: String,
    pub source_bytes_per_s: f64,
    pub there: OtherMachine,
    /// True if the prediction is for the measured machine itself: then only throughput is predicted, from measured times.
    pub is_home: bool,
    pub fit: Fit,
    pub widths: Vec<PredictedWidthRow>,
    pub lengths: Vec<PredictedLengthRow>,
}

impl Predicted {
    /// Writes both files into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("--out {}", folder.display()))?;
        let curves = || self.curves.iter();
        write(folder, &curves().flat_map(|curve| curve.widths.clone()).collect::<Vec<_>>())?;
        write(folder, &curves().flat_map(|curve| curve.lengths.clone()).collect::<Vec<_>>())
    }
}

/// Predicts every curve of every source.
///
/// # Errors
/// If sources are of several machines, or a folder lacks what a prediction rests on.
pub fn predict(request: &Request) -> Result<Predicted> {
    let read = |folders: &[PathBuf]| folders.iter().map(|folder| CostFolder::read(folder)).collect::<Result<Vec<_>>>();
    let sources = read(&request.sources)?;
    if let Some(other) = sources.iter().find(|source| source.machine != sources[0].machine) {
        let (first, second) = (&sources[0], other);
        return Err(crate::usage!(
            "{}: is of machine '{}', {} of '{}'; predict from one machine at a time",
            second.folder,
            second.machine,
            first.folder,
            first.machine
        ));
    }
    let against = read(&request.against)?;
    let accepted = accepted(request)?;
    let fits = fits(&sources, request.seed)?;
    let mut predicted = Predicted { curves: Vec::new(), warnings: Vec::new() };
    for source in &sources {
        for curve in &source.curves {
            let found = counterpart(curve, &against);
            let compared = found.map(|(folder, _)| folder).or(against.first());
            let other = found.map(|(_, curve)| curve);
            let there = request.destination.resolve(source, &curve.precision, compared)?;
            let carrier = Carrier { here: &source.ceilings, there: &there, fit: fits[&*curve.precision] };
            let timed_at = &*curve.precision;
            let curve = other.map_or_else(|| curve.clone(), |other| curve.toward(other));
            predicted.warnings.extend(warnings(source, &curve, &carrier, compared, other, timed_at));
            predicted.curves.push(PredictedCurve {
                source_machine: source.machine.clone(),
                source_bytes_per_s: source.ceilings.forward_bytes_per_s(),
                is_home: carrier.is_home() && other.is_none(),
                widths: carrier.widths(source, &curve, other),
                lengths: lengths(source, &curve, &carrier, other, &accepted, &request.draft_costs, request.seed)?,
                fit: carrier.fit,
                there,
            });
        }
    }
    predicted.warnings.dedup();
    Ok(predicted)
}

/// One fit a precision, over the curves of all sources.
fn fits(sources: &[CostFolder], seed: u64) -> Result<BTreeMap<String, Fit>> {
    let curves = || sources.iter().flat_map(|source| &source.curves);
    let mut fits = BTreeMap::new();
    for curve in curves() {
        if !fits.contains_key(&curve.precision) {
            let alike: Vec<&SourceCurve> = curves().filter(|other| other.precision == curve.precision).collect();
            let (ceilings, confidence) = (&sources[0].ceilings, sources[0].confidence);
            fits.insert(curve.precision.clone(), fit::fit(&alike, ceilings, confidence, seed)?);
        }
    }
    Ok(fits)
}

/// The curve of the same target, context and batch, with its folder: at the same precision, else at the first other one.
fn counterpart<'a>(curve: &SourceCurve, against: &'a [CostFolder]) -> Option<(&'a CostFolder, &'a SourceCurve)> {
    let point = |curve: &SourceCurve| (curve.target.clone(), curve.context, curve.batch);
    let all = against.iter().flat_map(|folder| folder.curves.iter().map(move |curve| (folder, curve)));
    let alike: Vec<_> = all.filter(|(_, other)| point(other) == point(curve)).collect();
    alike.iter().find(|(_, other)| other.precision == curve.precision).or(alike.first()).copied()
}

/// What a reader must know about a curve's prediction.
fn warnings(
    source: &CostFolder,
    curve: &SourceCurve,
    carrier: &Carrier,
    against: Option<&CostFolder>,
    other: Option<&SourceCurve>,
    timed_at: &str,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let (shown, point) = (&source.folder, format!("{}, {}", curve.target, curve.point()));
    if let Some(against) = against {
        match other {
            None => warnings.push(format!("{}: has no curve of {point}; nothing to compare with", against.folder)),
            Some(_) if against.library != source.library => warnings.push(format!(
                "{} was measured with '{}', {shown} with '{}': other kernels, which no prediction covers",
                against.folder, against.library, source.library
            )),
            Some(_) => {}
        }
    }
    if timed_at != curve.precision {
        warnings.push(format!(
            "{shown}: {} from times at {timed_at}: other kernels, which no prediction covers",
            curve.precision
        ));
    }
    if carrier.there.matrix_flops_per_s.is_none() {
        warnings.push(format!(
            "{}: nobody says its matrix rate: widths whose FLOPs weigh are left out; --matrix-tflop-s supposes one",
            carrier.there.name
        ));
    }
    if curve.plain.is_none() {
        warnings
            .push(format!("{shown}: {point}: no pipelined plain decoding was timed, so no draft length is predicted"));
    }
    warnings
}

/// The acceptances of a request: chances, then traces by folder and drafter.
fn accepted(request: &Request) -> Result<Vec<Accepted>> {
    let mut accepted: Vec<Accepted> = request.alphas.iter().copied().map(Accepted::iid).collect();
    for folder in &request.traces {
        let shown = folder.display();
        let (rows, prompts): (Vec<TraceRow>, Vec<PromptRow>) = (read_raw(folder)?, read(folder)?);
        if rows.is_empty() {
            return Err(crate::usage!("--trace {shown}: has no trace.csv with rows; name a results folder of tune"));
        }
        let chances: Vec<DraftTraceRow> = read_raw(folder)?;
        let chances = (!chances.is_empty()).then_some(&chances[..]);
        for traced in super::gather_traces(&rows, chances, &prompts).with_context(|| shown.to_string())? {
            let traces: Vec<_> = traced.traces.values().cloned().collect();
            accepted.push(Accepted::traced(format!("{shown}: {}", traced.drafter), &traces)?);
        }
    }
    Ok(accepted)
}
