//! Samples of `cost.csv` before they are timed, and what the machine's bandwidth allows them.

use crate::machine::bandwidth::BEYOND_CACHES;
use crate::machine::ceilings::reread_gb_s;
use crate::machine::device::DeviceKind;
use crate::results::{CostRow, Mode, Role};
use crate::roofline::{Forward, ModelShape};
use std::collections::BTreeMap;

/// A copy is not as fast as a read, and no ceiling is met exactly: only what is above it by more than this is marked.
pub const CEILING_TOLERANCE: f64 = 1.1;

/// What the rows of one target have in common.
#[derive(Debug, Clone)]
pub struct Subject {
    pub machine: String,
    pub target: String,
    pub precision: String,
    pub shape: ModelShape,
    pub launch: u64,
}

impl Subject {
    /// A synchronous forward, before it is timed.
    pub fn forward(&self, Forward { context, width, batch }: Forward) -> CostRow {
        self.row(&self.shape, Forward { context, width, batch })
    }

    /// A chain of `steps` pipelined steps of plain decoding.
    pub fn pipelined(&self, context: u64, batch: u64, steps: usize) -> CostRow {
        let step = self.forward(Forward { context, width: 1, batch });
        CostRow { mode: Mode::Pipelined, chain: steps as u64, ..step }
    }

    /// A proposal. A drafter that runs a model does one forward of width 1 for each token; a lookup moves nothing to
    /// speak of.
    pub fn proposal(&self, drafter: &str, shape: Option<&ModelShape>, context: u64, length: usize) -> CostRow {
        let forward = Forward { context, width: 1, batch: 1 };
        let (bytes, flops) = shape.map_or((0, 0), |shape| (shape.bytes(forward), shape.flops(forward)));
        CostRow {
            role: Role::Drafter,
            drafter: drafter.to_owned(),
            width: length as u64,
            bytes: length as u64 * bytes,
            flops: length as f64 * flops as f64,
            ..self.forward(forward)
        }
    }

    fn row(&self, shape: &ModelShape, forward: Forward) -> CostRow {
        CostRow {
            machine: self.machine.clone(),
            target: self.target.clone(),
            precision: self.precision.clone(),
            context: forward.context,
            batch: forward.batch,
            width: forward.width,
            launch: self.launch,
            chain: 1,
            bytes: shape.bytes(forward),
            flops: shape.flops(forward) as f64,
            ..CostRow::default()
        }
    }
}

/// The most bytes a second that a sample can need, by how many bytes it reads again and again.
#[derive(Debug, Clone)]
pub struct Limits(BTreeMap<u64, f64>);

impl Limits {
    /// Of these rows: `bandwidth`, in bytes a second, or on a CPU the rate of reading as many bytes repeatedly where that
    /// is measured to be faster.
    pub fn measure(device: DeviceKind, bandwidth: f64, rows: &[CostRow]) -> Limits {
        let mut limits: BTreeMap<u64, f64> = rows.iter().map(|row| (working_set(row), bandwidth)).collect();
        for (bytes, limit) in &mut limits {
            *limit = limit.max(1e9 * reread_gb_s(device, *bytes as usize));
        }
        Limits(limits)
    }

    /// The same bandwidth for whatever is read.
    pub fn flat(bandwidth: f64, rows: &[CostRow]) -> Limits {
        Limits(rows.iter().map(|row| (working_set(row), bandwidth)).collect())
    }

    /// The most bytes a second that a row can have needed. It is one of those that were given.
    pub fn most(&self, row: &CostRow) -> f64 {
        CEILING_TOLERANCE * self.0[&working_set(row)]
    }
}

/// Bytes that a sample reads again and again: those of one forward, or of a round, whose forwards are of two models.
fn working_set(row: &CostRow) -> u64 {
    let forwards = if row.role == Role::Drafter && row.mode == Mode::Sync { row.width.max(1) } else { 1 };
    size_class(row.bytes / forwards)
}

/// A working set in whole sixteenths of what no cache holds.
pub fn size_class(bytes: u64) -> u64 {
    const STEP: u64 = BEYOND_CACHES as u64 / 16;
    bytes.next_multiple_of(STEP).clamp(STEP, BEYOND_CACHES as u64)
}
