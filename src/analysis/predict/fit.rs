//! How many times as long as at the ceilings a machine's forwards take for their bytes and FLOPs, as far as its curves tell.
//!
//! One curve tells of bytes nothing: over its widths they hardly change, so what is a launch and what is traffic looks the
//! same. Curves of several targets with as many layers (so with as many launches), at one precision, context and batch,
//! differ in bytes and FLOPs alone. Where there are none, the point prediction lets the bytes take what they take at the
//! measured ceiling, the least possible, and the interval holds whatever the ceilings allow.

use super::source::{Samples, SourceCurve};
use crate::roofline::{Ceilings, Decomposition, Floor, Rest};
use crate::stats::bootstrap::RESAMPLES;
use crate::stats::summary::quantile;
use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Bytes that change no time by this share on the average tell nothing.
const TELLING: f64 = 0.02;
/// A ceiling explains a growth with width that is at most so many times what it needs, as in the regimes.
const EXPLAINS: f64 = 2.0;
/// A bootstrap of medians needs no more digits than these give.
const DRAWS: usize = RESAMPLES / 10;

/// The multipliers of one precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// None where the curves do not tell: then 1 is taken.
    pub memory: Option<Multiplier>,
    /// Of the FLOPs, from the growth with width: 1 where that is not explained by the matrix rate.
    pub compute: f64,
}

/// An estimate with its percentile interval over passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Multiplier {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Fit {
    /// The decomposition of the point prediction.
    pub fn point(&self) -> Decomposition {
        let memory = self.memory.map_or(1.0, |memory| memory.value);
        Decomposition { memory, compute: self.compute, rest: Rest::Stays }
    }

    /// Every extreme way to take a time apart that the fit allows. The interval of a prediction reaches from the smallest to
    /// the largest that any of them gives.
    pub fn extremes(&self) -> Vec<Decomposition> {
        let (memories, rests) = match self.memory {
            Some(memory) => (vec![memory.low, memory.high], vec![Rest::Stays, Rest::IsCompute]),
            None => (vec![0.0, 1.0], vec![Rest::Stays, Rest::IsMemory, Rest::IsCompute]),
        };
        let mut extremes = vec![self.point()];
        for &memory in &memories {
            for &compute in &[0.0, self.compute] {
                extremes.extend(rests.iter().map(|&rest| Decomposition { memory, compute, rest }));
            }
        }
        extremes
    }
}

/// Fits the curves of one machine and precision.
pub fn fit(curves: &[&SourceCurve], ceilings: &Ceilings, confidence: f64, seed: u64) -> Result<Fit> {
    let compute = compute_multiplier(curves, ceilings);
    let medians = |_: &SourceCurve, samples: &Samples| Some(samples.median_s());
    let Some(value) = memory_multiplier(curves, ceilings, compute, &mut { medians }) else {
        return Ok(Fit { memory: None, compute });
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        let passes: Vec<Vec<u64>> = curves.iter().map(|curve| resample(&curve.passes(), &mut rng)).collect();
        let mut resampled = |curve: &SourceCurve, samples: &Samples| {
            let place = curves.iter().position(|other| std::ptr::eq(*other, curve))?;
            median_of(samples, &passes[place])
        };
        drawn.extend(memory_multiplier(curves, ceilings, compute, &mut resampled));
    }
    let tail = (1.0 - confidence) / 2.0;
    // Bytes hidden behind something else cost nothing; less than nothing they cannot.
    let end = |level: f64| Ok::<_, anyhow::Error>(quantile(&drawn, level)?.max(0.0));
    let memory = Multiplier { value: value.max(0.0), low: end(tail)?, high: end(1.0 - tail)? };
    Ok(Fit { memory: Some(memory), compute })
}

/// Passes drawn with replacement, as many as there are.
pub fn resample(passes: &[u64], rng: &mut ChaCha8Rng) -> Vec<u64> {
    passes.iter().map(|_| passes[rng.random_range(0..passes.len())]).collect()
}

/// The median over drawn passes; none if the shape was timed in none of them.
pub fn median_of(samples: &Samples, passes: &[u64]) -> Option<f64> {
    let mut times: Vec<f64> = passes.iter().filter_map(|pass| samples.passes.get(pass).copied()).collect();
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    match times.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(times[middle]),
        _ => Some((times[middle - 1] + times[middle]) / 2.0),
    }
}

/// The middle one of the curves' slopes of time over what FLOPs take at the ceiling, by least squares of relative errors;
/// 1 where that is below 1 or more than the matrix rate explains.
fn compute_multiplier(curves: &[&SourceCurve], ceilings: &Ceilings) -> f64 {
    let mut slopes: Vec<f64> = curves.iter().filter_map(|curve| slope(curve, ceilings)).collect();
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().filter(|slope| (1.0..=EXPLAINS).contains(slope)).unwrap_or(1.0)
}

fn slope(curve: &SourceCurve, ceilings: &Ceilings) -> Option<f64> {
    if curve.forwards.len() < 3 {
        return None;
    }
    let points: Vec<(f64, f64)> =
        curve.forwards.values().map(|samples| (samples.floor(ceilings).compute_s, samples.median_s())).collect();
    // Weights 1 / time².
    let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|&(x, time)| of(x, time) / (time * time)).sum::<f64>();
    let total = sum(&|_, _| 1.0);
    let (mean_x, mean_time) = (sum(&|x, _| x) / total, sum(&|_, time| time) / total);
    let spread = sum(&|x, _| (x - mean_x).powi(2));
    (spread > 0.0).then(|| sum(&|x, time| (x - mean_x) * (time - mean_time)) / spread)
}

/// Of targets that launch as much, at one context and batch and width: how far time follows bytes, FLOPs taken out. Least
/// squares of deviations from each group's mean, relative to its mean time. None where bytes are too alike.
fn memory_multiplier(
    curves: &[&SourceCurve],
    ceilings: &Ceilings,
    compute: f64,
    time: &mut dyn FnMut(&SourceCurve, &Samples) -> Option<f64>,
) -> Option<f64> {
    // By layers, context, batch and width.
    let mut groups: BTreeMap<[u64; 4], Vec<(Floor, f64)>> = BTreeMap::new();
    for curve in curves {
        let Some(layers) = curve.layers else { continue };
        for (&width, samples) in &curve.forwards {
            let Some(seconds) = time(curve, samples) else { continue };
            let group = groups.entry([layers, curve.context, curve.batch, width]).or_default();
            group.push((samples.floor(ceilings), seconds));
        }
    }
    let (mut shared, mut spread, mut count) = (0.0, 0.0, 0);
    for group in groups.values().filter(|group| group.len() > 1) {
        let mean = |of: &dyn Fn(&(Floor, f64)) -> f64| group.iter().map(of).sum::<f64>() / group.len() as f64;
        let mean_time = mean(&|(_, time)| *time);
        let rest = |(floor, time): &(Floor, f64)| time - compute * floor.compute_s;
        let (mean_memory, mean_rest) = (mean(&|(floor, _)| floor.memory_s), mean(&rest));
        for member in group {
            let memory = (member.0.memory_s - mean_memory) / mean_time;
            shared += memory * (rest(member) - mean_rest) / mean_time;
            spread += memory * memory;
            count += 1;
        }
    }
    (count > 0 && (spread / f64::from(count)).sqrt() >= TELLING).then(|| shared / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CEILINGS: Ceilings =
        Ceilings { bandwidth_bytes_per_s: 1e9, read_bytes_per_s: None, matrix_flops_per_s: 1e12 };

    /// t(b) = 5 ms + `memory` x bytes at the ceiling + 1.5 x FLOPs at the ceiling, each pass 1 % faster or slower.
    fn curve(target: &str, gigabytes: f64, memory: f64) -> SourceCurve {
        let forwards = (1..=32).map(|width| {
            let (bytes, flops) = ((1e9 * gigabytes) as u64, 1e9 * gigabytes * width as f64);
            let floor = Samples { bytes, flops, ..Samples::default() }.floor(&CEILINGS);
            let time = 5e-3 + memory * floor.memory_s + 1.5 * floor.compute_s;
            let passes = (0..7).map(|pass| (pass, time * (0.97 + 0.01 * ((pass * 3 + width) % 7) as f64))).collect();
            (width, Samples { passes, bytes, flops, there: None })
        });
        SourceCurve {
            target: target.into(),
            layers: Some(36),
            forwards: forwards.collect(),
            batch: 1,
            ..Default::default()
        }
    }

    #[test]
    fn targets_of_two_sizes_tell_launches_from_bytes() {
        for memory in [0.0, 1.0, 1.3] {
            let (small, large) = (curve("s", 0.004, memory), curve("l", 0.008, memory));
            let found = fit(&[&small, &large], &CEILINGS, 0.95, 0).unwrap();
            assert!((found.compute - 1.5).abs() < 0.4, "{found:?}");
            let multiplier = found.memory.unwrap();
            assert!((multiplier.value - memory).abs() < 0.1, "{memory} {found:?}");
            assert!(multiplier.low - 0.05 <= memory && memory <= multiplier.high + 0.05, "{memory} {found:?}");
        }
    }

    #[test]
    fn one_curve_or_other_launches_tell_nothing_of_bytes() {
        let (small, large) = (curve("s", 0.004, 1.3), curve("l", 0.008, 1.3));
        assert_eq!(fit(&[&small], &CEILINGS, 0.95, 0).unwrap().memory, None);
        let deeper = SourceCurve { layers: Some(28), ..large.clone() };
        assert_eq!(fit(&[&small, &deeper], &CEILINGS, 0.95, 0).unwrap().memory, None);
        let unknown = SourceCurve { layers: None, ..large };
        assert_eq!(fit(&[&small, &unknown], &CEILINGS, 0.95, 0).unwrap().memory, None);
    }
}
