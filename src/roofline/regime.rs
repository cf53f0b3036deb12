//! The machine's measured ceilings, the ridge, and what binds a measured point.

use super::shape::{Forward, ModelShape};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a machine was measured to reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Bytes read and written a second by a large copy.
    pub bandwidth_bytes_per_s: f64,
    /// Bytes a second of a plain read where that was measured: what is only read cannot come faster, although a copy, which
    /// counts what it writes as well, may move more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes_per_s: Option<f64>,
    /// Floating-point operations a second of a large matrix product in the model's type.
    pub matrix_flops_per_s: f64,
}

impl Ceilings {
    /// The higher of each.
    pub fn best(self, other: Ceilings) -> Ceilings {
        Ceilings {
            bandwidth_bytes_per_s: self.bandwidth_bytes_per_s.max(other.bandwidth_bytes_per_s),
            read_bytes_per_s: self.read_bytes_per_s.into_iter().chain(other.read_bytes_per_s).reduce(f64::max),
            matrix_flops_per_s: self.matrix_flops_per_s.max(other.matrix_flops_per_s),
        }
    }

    /// The arithmetic intensity, FLOPs a byte, from which on the matrix rate binds
    /// (Williams, Waterman and Patterson 2009, Roofline).
    pub fn ridge_flops_per_byte(&self) -> f64 {
        self.matrix_flops_per_s / self.forward_bytes_per_s()
    }

    /// Bytes a second at which a forward can take in its weights and its cache.
    pub fn forward_bytes_per_s(&self) -> f64 {
        self.read_bytes_per_s.unwrap_or(self.bandwidth_bytes_per_s)
    }

    /// The smallest width whose FLOPs take at least as long as its bytes, if it is at most `widest`.
    pub fn ridge_width(&self, shape: &ModelShape, context: u64, batch: u64, widest: u64) -> Option<u64> {
        (1..=widest).find(|&width| {
            let forward = Forward { context, width, batch };
            self.compute_s(shape.flops(forward)) >= self.memory_s(shape.bytes(forward))
        })
    }

    /// Seconds to read these bytes.
    pub fn memory_s(&self, bytes: u64) -> f64 {
        bytes as f64 / self.forward_bytes_per_s()
    }

    /// Seconds for these FLOPs.
    pub fn compute_s(&self, flops: u64) -> f64 {
        flops as f64 / self.matrix_flops_per_s
    }
}

/// What binds a forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Regime {
    /// Time follows neither bytes nor FLOPs and hardly grows with the width.
    OverheadBound,
    /// The bytes at the measured bandwidth explain the time.
    MemoryBound,
    /// Each further token costs what its FLOPs cost at the measured matrix rate.
    ComputeBound,
    /// Time grows with the width but neither ceiling explains it.
    Unexplained,
}

impl fmt::Display for Regime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Regime::OverheadBound => "overhead-bound",
            Regime::MemoryBound => "memory-bound",
            Regime::ComputeBound => "compute-bound",
            Regime::Unexplained => "unexplained",
        })
    }
}

/// A ceiling explains a time that is at most twice what the ceiling needs.
const EXPLAINS: f64 = 0.5;
/// A curve is flat where the width's own part, slope times width, is at most a quarter of the time.
const FLAT: f64 = 0.25;

/// A measured point of t(b) with what the ceilings say about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegimePoint {
    pub time_s: f64,
    /// Time a further token costs near this width: the slope of t(b).
    pub slope_s: f64,
    /// What the bytes need at the measured bandwidth.
    pub memory_s: f64,
    /// What the FLOPs need at the measured matrix rate.
    pub compute_s: f64,
    pub width: u64,
}

/// Of the time, where FLOPs are to bind: on a plateau the slope is small by chance.
const LEAST_COMPUTE: f64 = 0.25;

impl RegimePoint {
    pub fn regime(&self) -> Regime {
        let compute_slope_s = self.compute_s / self.width as f64;
        let slope_explained = self.slope_s >= EXPLAINS * compute_slope_s && self.slope_s <= compute_slope_s / EXPLAINS;
        let flat = self.slope_s * self.width as f64 <= FLAT * self.time_s;
        let weighs = self.compute_s >= self.memory_s.max(LEAST_COMPUTE * self.time_s);
        if weighs && slope_explained {
            Regime::ComputeBound
        } else if self.memory_s >= EXPLAINS * self.time_s {
            Regime::MemoryBound
        } else if flat {
            Regime::OverheadBound
        } else {
            Regime::Unexplained
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::WeightFormat;
    use super::*;

    #[test]
    fn each_regime_is_recognised() {
        let point = RegimePoint { time_s: 10.0, slope_s: 0.1, memory_s: 8.0, compute_s: 1.0, width: 4 };
        assert_eq!(point.regime(), Regime::MemoryBound);
        assert_eq!(RegimePoint { memory_s: 1.0, ..point }.regime(), Regime::OverheadBound);
        assert_eq!(RegimePoint { memory_s: 1.0, slope_s: 2.0, ..point }.regime(), Regime::Unexplained);
        // 64 tokens of 0.14 s each: the matrix rate; with a slope of a tenth of that it is not.
        let wide = RegimePoint { time_s: 10.0, slope_s: 0.15, memory_s: 2.0, compute_s: 9.0, width: 64 };
        assert_eq!(wide.regime(), Regime::ComputeBound);
        assert_eq!(RegimePoint { slope_s: 0.015, ..wide }.regime(), Regime::OverheadBound);
        // FLOPs that take a twelfth of the time bind nothing, even if the slope happens to be theirs.
        let plateau = RegimePoint { slope_s: 0.0125, memory_s: 0.7, compute_s: 0.8, ..wide };
        assert_eq!(plateau.regime(), Regime::OverheadBound);
    }

    /// Without a cache and attention, FLOPs a byte are 2·width/4 in float32, so a ridge of 10 lies at width 20.
    #[test]
    fn the_ridge_of_float32_weights() {
        let shape = ModelShape {
            layers: 1,
            hidden: 1000,
            intermediate: 1000,
            heads: 1,
            kv_heads: 1,
            head_dim: 1,
            vocab: 1000,
            weights: WeightFormat::Float { bytes: 4 },
            head: WeightFormat::Float { bytes: 4 },
            activation_bytes: 0,
            kv_bytes: 0,
        };
        let ceilings = Ceilings { bandwidth_bytes_per_s: 1e9, read_bytes_per_s: None, matrix_flops_per_s: 1e10 };
        assert_eq!(ceilings.ridge_flops_per_byte(), 10.0);
        assert_eq!(ceilings.ridge_width(&shape, 0, 1, 128), Some(20));
        assert_eq!(ceilings.ridge_width(&shape, 0, 2, 128), Some(10));
        assert_eq!(ceilings.ridge_width(&shape, 0, 1, 19), None);
    }
}
