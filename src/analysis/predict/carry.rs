//! Times of one machine carried to another.

use super::fit::Fit;
use super::source::{CostFolder, Samples, SourceCurve};
use crate::results::PredictedWidthRow;
use crate::roofline::{Ceilings, Decomposition, Floor};

/// Where the other machine's rate of matrix products is not known, FLOPs must take at most this share of a time.
const NEGLIGIBLE: f64 = 0.1;

/// The machine that is predicted: what a forward can reach there.
#[derive(Debug, Clone, PartialEq)]
pub struct OtherMachine {
    pub name: String,
    pub bandwidth_bytes_per_s: f64,
    /// None where nobody says.
    pub matrix_flops_per_s: Option<f64>,
    /// Where these come from, in words.
    pub how: String,
}

/// One source's way of carrying a time.
#[derive(Debug, Clone, Copy)]
pub struct Carrier<'a> {
    pub here: &'a Ceilings,
    pub there: &'a OtherMachine,
    pub fit: Fit,
}

impl Carrier<'_> {
    /// Whether the prediction is for the machine that was measured.
    pub fn is_home(&self) -> bool {
        self.there.bandwidth_bytes_per_s == self.here.forward_bytes_per_s()
            && self.there.matrix_flops_per_s == Some(self.here.matrix_flops_per_s)
    }

    /// A time of `shape`, median or other, carried to the other machine; none where it depends on a matrix rate that is not
    /// known.
    pub fn carry(&self, by: &Decomposition, time_s: f64, shape: &Samples) -> Option<f64> {
        let work = shape.there.unwrap_or((shape.bytes, shape.flops));
        if self.is_home() && work == (shape.bytes, shape.flops) {
            return Some(time_s);
        }
        let here = shape.floor(self.here);
        let compute_s = match self.there.matrix_flops_per_s {
            Some(rate) => work.1 / rate,
            None if self.fit.compute * here.compute_s <= NEGLIGIBLE * time_s => here.compute_s,
            None => return None,
        };
        let there = Floor { memory_s: work.0 as f64 / self.there.bandwidth_bytes_per_s, compute_s };
        Some(by.carry(time_s, here, there))
    }

    /// Everything that is said about every width; beside it what was measured on the other machine, if it was.
    pub fn widths(
        &self,
        folder: &CostFolder,
        curve: &SourceCurve,
        other: Option<&SourceCurve>,
    ) -> Vec<PredictedWidthRow> {
        let measured = |width: &u64| other.and_then(|other| other.forwards.get(width)).map(Samples::median_s);
        let widths = curve.forwards.iter();
        widths.map(|(width, shape)| self.width(folder, curve, *width, shape, measured(width))).collect()
    }

    fn width(
        &self,
        folder: &CostFolder,
        curve: &SourceCurve,
        width: u64,
        shape: &Samples,
        measured_s: Option<f64>,
    ) -> PredictedWidthRow {
        let (point, time_s, here) = (self.fit.point(), shape.median_s(), shape.floor(self.here));
        let predicted_s = self.carry(&point, time_s, shape);
        let ends = predicted_s.and_then(|_| self.ends(folder.confidence, curve, shape));
        let parts_s = [point.memory * here.memory_s, point.compute * here.compute_s];
        let cut = (time_s / parts_s.iter().sum::<f64>()).min(1.0);
        let ms = |seconds: f64| 1e3 * seconds;
        PredictedWidthRow {
            source: folder.folder.clone(),
            machine: self.there.name.clone(),
            target: curve.target.clone(),
            precision: curve.precision.clone(),
            context: curve.context,
            batch: curve.batch,
            width,
            source_ms: ms(time_s),
            source_memory_ms: ms(cut * parts_s[0]),
            source_compute_ms: ms(cut * parts_s[1]),
            source_rest_ms: ms(time_s - cut * (parts_s[0] + parts_s[1])).max(0.0),
            predicted_ms: predicted_s.map(ms),
            predicted_low_ms: ends.map(|(low, _)| ms(low)),
            predicted_high_ms: ends.map(|(_, high)| ms(high)),
            confidence: folder.confidence,
            measured_ms: measured_s.map(ms),
            error: predicted_s.zip(measured_s).map(|(predicted, measured)| predicted / measured - 1.0),
            within: ends.zip(measured_s).map(|((low, high), time)| low <= time && time <= high),
        }
    }

    /// The smallest and the largest time that the samples' interval and any way to take them apart give.
    fn ends(&self, confidence: f64, curve: &SourceCurve, shape: &Samples) -> Option<(f64, f64)> {
        let (low_s, high_s) = match curve.scatter_factor {
            Some(factor) => (shape.median_s() / factor, shape.median_s() * factor),
            None => shape.interval_s(confidence)?,
        };
        let extremes = self.fit.extremes();
        let end = |time_s: f64, pick: fn(f64, f64) -> f64| {
            let times = extremes.iter().filter_map(|by| self.carry(by, time_s, shape));
            times.reduce(pick)
        };
        Some((end(low_s, f64::min)?, end(high_s, f64::max)?))
    }
}
