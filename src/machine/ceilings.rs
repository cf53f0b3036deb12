//! Measured ceilings of the chosen device: how many bytes and how many floating-point operations a second MLX gets
//! out of it. They bound every time that is measured later.

use super::bandwidth::BEYOND_CACHES;
use super::device::DeviceKind;
use crate::roofline::Ceilings;
use anyhow::Result;
use mlx_rs::{Array, Device, Dtype, Stream, ops, random, transforms, with_stream};
use serde::Serialize;
use std::time::{Duration, Instant};

/// The best of several timed samples of one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CopySample {
    /// Bytes read and written in one sample.
    pub moved_bytes: u64,
    /// The shortest sample.
    pub time_ms: f64,
    /// `moved_bytes` over `time_ms`.
    pub bandwidth_gb_s: f64,
}

/// Copy bandwidth of the device: elementwise operations over arrays far larger than its caches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CopyBandwidth {
    /// The best over all sizes, read plus write, in 10^9 bytes a second.
    pub best_gb_s: f64,
    /// Operations that ran side by side: the CPU backend runs an elementwise operation on one thread.
    pub streams: usize,
    /// One entry a size, in the order measured.
    pub sizes: Vec<CopySample>,
}

/// How long the plain read is measured.
const READ_SECONDS: f64 = 0.5;

/// What bounds a forward on a device of `kind`: a copy or, on the CPU, a plain read with all threads if that is faster, and
/// the best matrix rate.
pub fn ceilings(kind: DeviceKind, copy: &CopyBandwidth, rate: &MatrixRate) -> Ceilings {
    let read = || 1e9 * super::bandwidth::streaming_read_gb_s(BEYOND_CACHES, cpu_threads(), READ_SECONDS);
    let read_bytes_per_s = (kind == DeviceKind::Cpu).then(read);
    Ceilings {
        bandwidth_bytes_per_s: read_bytes_per_s.unwrap_or(0.0).max(1e9 * copy.best_gb_s),
        read_bytes_per_s,
        matrix_flops_per_s: 1e9 * rate.best_gflop_s,
    }
}

/// What bounds the rate at which a forward reads the same `bytes` again and again, in 10^9 bytes a second: on a CPU a
/// small model may stay in a cache. 0 on a GPU, where a copy's rate is the bound.
pub fn reread_gb_s(kind: DeviceKind, bytes: usize) -> f64 {
    match kind {
        DeviceKind::Cpu => super::bandwidth::streaming_read_gb_s(bytes, cpu_threads(), READ_SECONDS / 2.0),
        DeviceKind::Gpu => 0.0,
    }
}

/// Threads that read memory together.
pub fn cpu_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Rate of a large square matrix product.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MatrixRate {
    /// The best rate, in 10^9 floating-point operations a second (2 n³ for a product).
    pub best_gflop_s: f64,
    /// Rows and columns of the square factors that reached it.
    pub n: i32,
    /// The shortest product, in ms.
    pub time_ms: f64,
}

/// Bytes of all arrays together, smallest size: well above the last-level cache of current CPUs and GPUs.
const SMALLEST_BYTES: u64 = 256 << 20;
/// Sizes tried, each twice the one before.
const SIZES: u32 = 3;
/// Dependent operations in one evaluation on a GPU, so that the cost of an evaluation does not count.
const GPU_CHAIN: usize = 8;

/// Measures copy bandwidth for about `budget` on the default device, which is of `kind`. At most a quarter of
/// `memory_bytes` is used, except that the smallest size is always tried.
pub fn copy_bandwidth(kind: DeviceKind, memory_bytes: u64, budget: Duration) -> Result<CopyBandwidth> {
    let deadline = Instant::now() + budget;
    let mut sizes: Vec<CopySample> = Vec::new();
    for step in 0..SIZES {
        let bytes = SMALLEST_BYTES << step;
        let remaining = deadline.saturating_duration_since(Instant::now());
        if step > 0 && (remaining.is_zero() || bytes > memory_bytes / 4) {
            break;
        }
        sizes.push(copy_sample(Copier::new(kind, bytes)?, remaining / (SIZES - step))?);
    }
    mlx_rs::memory::clear_cache()?;
    let best_gb_s = sizes.iter().map(|sample| sample.bandwidth_gb_s).fold(0.0, f64::max);
    Ok(CopyBandwidth { best_gb_s, streams: lanes(kind).len(), sizes })
}

/// The streams that copy side by side: one a core on the CPU, whose streams are threads; one on a GPU.
fn lanes(kind: DeviceKind) -> Vec<Stream> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match kind {
        DeviceKind::Cpu => (0..cores.min(16)).map(|_| Stream::new_with_device(&Device::cpu())).collect(),
        DeviceKind::Gpu => vec![Stream::gpu()],
    }
}

/// Adds a constant to every element, again and again: each pass reads and writes every byte once, and depends on the
/// pass before, so none can be left out.
pub struct Copier {
    lanes: Vec<Stream>,
    arrays: Vec<Array>,
    one: Array,
    chain: usize,
}

impl Copier {
    /// Arrays of `bytes` together on the default device, which is of `kind`.
    pub fn new(kind: DeviceKind, bytes: u64) -> Result<Copier> {
        Copier::on(lanes(kind), bytes, if kind == DeviceKind::Gpu { GPU_CHAIN } else { 1 })
    }

    fn on(lanes: Vec<Stream>, bytes: u64, chain: usize) -> Result<Copier> {
        let elements = (bytes / 4 / lanes.len() as u64) as i32;
        let zeros = |lane| with_stream(lane, || ops::zeros_dtype(&[elements], Dtype::Float32));
        let arrays = lanes.iter().map(zeros).collect::<Result<Vec<_>, _>>()?;
        Ok(Copier { lanes, arrays, one: Array::from_f32(1.0), chain })
    }

    /// Seconds of one sample: `chain` copies.
    pub fn pass(&mut self) -> Result<f64> {
        let start = Instant::now();
        for (lane, array) in self.lanes.iter().zip(&mut self.arrays) {
            for _ in 0..self.chain {
                *array = with_stream(lane, || ops::add(&*array, &self.one))?;
            }
        }
        transforms::eval(&self.arrays)?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Copies in a sample.
    pub fn chain(&self) -> usize {
        self.chain
    }

    /// Bytes read and written in one sample.
    pub fn moved_bytes(&self) -> u64 {
        let elements: usize = self.arrays.iter().map(Array::size).sum();
        2 * 4 * (elements * self.chain) as u64
    }
}

/// The best sample of one size until `budget` is spent.
fn copy_sample(mut copier: Copier, budget: Duration) -> Result<CopySample> {
    let deadline = Instant::now() + budget;
    let best_s = best_of(&mut || copier.pass(), deadline)?;
    let moved_bytes = copier.moved_bytes();
    Ok(CopySample { moved_bytes, time_ms: best_s * 1e3, bandwidth_gb_s: moved_bytes as f64 / best_s / 1e9 })
}

/// Measures the rate of a large product of two square matrices of `dtype` on the default device, a sixth of `budget` a
/// size. The size doubles from 256 while three products of the next one stay inside the budget, to at most 8192.
pub fn matrix_rate(dtype: Dtype, budget: Duration) -> Result<MatrixRate> {
    let mut n = 256;
    // The first product of a process loads libraries and is no measure of the next.
    matrix_sample(dtype, n, Duration::ZERO)?;
    let mut best = matrix_sample(dtype, n, budget / 6)?;
    let mut last = best;
    // The next size takes eight times as long, and is run at least three times.
    while n < 8192 && 8.0 * 3.0 * last.time_ms / 1e3 < budget.as_secs_f64() {
        n *= 2;
        last = matrix_sample(dtype, n, budget / 6)?;
        if last.best_gflop_s > best.best_gflop_s {
            best = last;
        }
    }
    Ok(best)
}

fn matrix_sample(dtype: Dtype, n: i32, budget: Duration) -> Result<MatrixRate> {
    let deadline = Instant::now() + budget;
    // Entries of this size keep the product of a product near its factors: no overflow along the chain.
    let scale = Array::from_f32(1.0 / (n as f32).sqrt());
    let factor = ops::multiply(random::normal::<f32>(&[n, n], None, None, None)?, &scale)?.as_dtype(dtype)?;
    let mut product = factor.clone();
    transforms::eval([&factor])?;
    let mut pass = || -> Result<f64> {
        let start = Instant::now();
        product = ops::matmul(&product, &factor)?;
        transforms::eval([&product])?;
        Ok(start.elapsed().as_secs_f64())
    };
    let best_s = best_of(&mut pass, deadline)?;
    Ok(MatrixRate { best_gflop_s: 2.0 * f64::from(n).powi(3) / best_s / 1e9, n, time_ms: best_s * 1e3 })
}

/// The shortest of at least two passes until the deadline, after one that warms up and is not counted.
fn best_of(pass: &mut dyn FnMut() -> Result<f64>, deadline: Instant) -> Result<f64> {
    pass()?;
    let mut best = pass()?.min(pass()?);
    while Instant::now() < deadline {
        best = best.min(pass()?);
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pass_is_not_counted_and_the_shortest_of_the_others_is_taken() {
        let mut times = [0.001, 3.0, 2.0, 9.0].into_iter();
        let mut pass = || Ok(times.next().expect("no pass after the deadline"));
        assert_eq!(best_of(&mut pass, Instant::now()).unwrap(), 2.0);
    }

    #[test]
    fn bytes_and_operations_are_counted_as_stated() {
        crate::machine::device::select(Some(DeviceKind::Cpu)).unwrap();
        let sample =
            copy_sample(Copier::on(vec![Stream::cpu(), Stream::cpu()], 1 << 20, 3).unwrap(), Duration::ZERO).unwrap();
        // 2^20 bytes in two arrays, each read and written three times.
        assert_eq!(sample.moved_bytes, 6 << 20);
        assert!((sample.bandwidth_gb_s * sample.time_ms / 1e3 * 1e9 - sample.moved_bytes as f64).abs() < 1.0);
        let rate = matrix_rate(Dtype::Float32, Duration::ZERO).unwrap();
        assert_eq!(rate.n, 256);
        assert!((rate.best_gflop_s * rate.time_ms / 1e3 * 1e9 - 2.0 * 256f64.powi(3)).abs() < 1.0);
    }
}
