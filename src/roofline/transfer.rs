//! From a forward's time on one machine to that on another: bytes and FLOPs scale with the ceilings, the rest stays.

/// What a forward's bytes and FLOPs take at a machine's ceilings, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Floor {
    pub memory_s: f64,
    pub compute_s: f64,
}

/// What becomes of the time that is neither bytes nor FLOPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Launches, graph building, waiting: as long on any machine.
    Stays,
    /// Bytes moved more often, or more slowly, than the ceiling says.
    IsMemory,
    /// FLOPs at less than the ceiling's rate.
    IsCompute,
}

/// How a time is taken apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decomposition {
    /// How many times as long as at the ceiling the bytes take: 1 is the least that they can if nothing hides them, 0 if the
    /// rest hides them.
    pub memory: f64,
    /// The same of the FLOPs.
    pub compute: f64,
    pub rest: Rest,
}

impl Decomposition {
    /// Time on the machine where the same forward (or one of other bytes and FLOPs) has the floor `there`. Of a time that is
    /// shorter than its parts the parts are cut in proportion. No time is below its floor.
    pub fn carry(&self, time_s: f64, here: Floor, there: Floor) -> f64 {
        let (memory_s, compute_s) = (self.memory * here.memory_s, self.compute * here.compute_s);
        let parts_s = memory_s + compute_s;
        let cut = if parts_s > time_s { time_s / parts_s } else { 1.0 };
        let rest_s = time_s - cut * parts_s;
        let memory_scale = scale(here.memory_s, there.memory_s);
        let compute_scale = scale(here.compute_s, there.compute_s);
        let rest_scale = match self.rest {
            Rest::Stays => 1.0,
            Rest::IsMemory => memory_scale,
            Rest::IsCompute => compute_scale,
        };
        let carried_s = cut * (memory_s * memory_scale + compute_s * compute_scale) + rest_s * rest_scale;
        carried_s.max(there.memory_s).max(there.compute_s)
    }
}

/// 1 where there is nothing to scale, as the bytes of a lookup.
fn scale(here: f64, there: f64) -> f64 {
    if here > 0.0 { there / here } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: Floor = Floor { memory_s: 4.0, compute_s: 1.0 };
    /// Twice the bandwidth, the same rate.
    const THERE: Floor = Floor { memory_s: 2.0, compute_s: 1.0 };

    #[test]
    fn only_the_bytes_gain_from_bandwidth() {
        let carried = |memory: f64, rest: Rest| Decomposition { memory, compute: 1.0, rest }.carry(10.0, HERE, THERE);
        assert_eq!(carried(1.0, Rest::Stays), 8.0);
        assert_eq!(carried(0.0, Rest::Stays), 10.0);
        assert_eq!(carried(2.0, Rest::Stays), 6.0);
        // All but the second of computing: 9 s of bytes.
        assert_eq!(carried(1.0, Rest::IsMemory), 5.5);
        assert_eq!(carried(1.0, Rest::IsCompute), 8.0);
    }

    #[test]
    fn a_time_is_not_below_its_floor_and_not_shorter_than_its_parts() {
        let all = Decomposition { memory: 1.0, compute: 1.0, rest: Rest::Stays };
        // 3 s hold 2.4 s of bytes and 0.6 s of FLOPs at most: 1.2 + 0.6 is below what the bytes take there.
        assert_eq!(all.carry(3.0, HERE, THERE), 2.0);
        let more_bytes = Floor { memory_s: 30.0, compute_s: 1.0 };
        let hidden = Decomposition { memory: 0.0, ..all };
        assert_eq!(hidden.carry(10.0, HERE, more_bytes), 30.0);
        assert_eq!(hidden.carry(10.0, Floor::default(), Floor::default()), 10.0);
    }

    proptest! {
        /// However a time is taken apart, it scales by no more than the largest and no less than the smallest of 1 and the
        /// two ratios, but for the floor.
        #[test]
        fn a_carried_time_lies_between_the_extremes(
            time in 0.1..50.0f64, memory in 0.0..5.0f64, compute in 0.0..5.0f64, faster in 0.2..5.0f64, rate in 0.2..5.0f64,
            kind in 0..3usize,
        ) {
            let rest = [Rest::Stays, Rest::IsMemory, Rest::IsCompute][kind];
            let there = Floor { memory_s: HERE.memory_s * faster, compute_s: HERE.compute_s * rate };
            let carried = Decomposition { memory, compute, rest }.carry(time, HERE, there);
            let floor = there.memory_s.max(there.compute_s);
            let scales = [1.0, faster, rate];
            let low = scales.iter().copied().fold(f64::INFINITY, f64::min) * time;
            let high = scales.iter().copied().fold(0.0, f64::max) * time;
            prop_assert!(carried >= floor && carried >= low * (1.0 - 1e-12));
            prop_assert!(carried <= high.max(floor) * (1.0 + 1e-12));
        }
    }
}
