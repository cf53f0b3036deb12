//! How fast the processor reads memory: the ceiling of a product whose weights are read once.

#[cfg(target_os = "linux")]
use anyhow::Result;
#[cfg(target_os = "linux")]
use mlx_rs::{
    Dtype,
    ops::{matmul, ones_dtype},
    transforms::eval,
};
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes well above the last-level cache of most processors.
pub const BEYOND_CACHES: usize = 512 << 20;
/// Passes at least.
const PASSES: usize = 3;

/// The best rate at which `threads` threads together read the same `bytes` front to back, each its own part, in 10^9
/// bytes a second. Fewer than [`BEYOND_CACHES`] may come out of a cache. Reads for about `seconds`, at least three times.
pub fn streaming_read_gb_s(bytes: usize, threads: usize, seconds: f64) -> f64 {
    let mut reader = Reader::new(bytes, threads);
    let start = Instant::now();
    let mut fastest = Duration::MAX;
    let mut passes = 0;
    while passes < PASSES || start.elapsed().as_secs_f64() < seconds {
        fastest = fastest.min(reader.pass());
        passes += 1;
    }
    reader.bytes() as f64 / fastest.as_secs_f64() / 1e9
}

/// Memory that is read front to back by several threads, each its own part. On Linux it is in huge pages where the kernel
/// has them, as a model's weights are.
pub struct Reader(Vec<Vec<u64>>);

impl Reader {
    pub fn new(bytes: usize, threads: usize) -> Reader {
        let words = bytes / size_of::<u64>() / threads.max(1);
        // Each part is written by a thread of its own, so that a system with several memories spreads them.
        let parts: Vec<Vec<u64>> = thread::scope(|scope| {
            let writers: Vec<_> =
                (0..threads.max(1)).map(|_| scope.spawn(move || (0..words as u64).collect())).collect();
            writers.into_iter().filter_map(|writer| writer.join().ok()).collect()
        });
        #[cfg(target_os = "linux")]
        crate::blas::pages::use_huge_pages(parts.iter().map(Vec::as_slice));
        Reader(parts)
    }

    /// How long reading it once takes.
    pub fn pass(&mut self) -> Duration {
        pass(&self.0)
    }

    pub fn bytes(&self) -> usize {
        self.0.iter().map(|part| size_of_val(part.as_slice())).sum()
    }
}

/// The best rate at which MLX's float32 products of one row read their weights, in 10^9 bytes a second: 512 MiB of
/// matrices of a small model's size, one after the other in one evaluation, for about `budget` and at least three times.
#[cfg(target_os = "linux")]
pub fn products_gb_s(budget: Duration) -> Result<f64> {
    const OUTPUTS: i32 = 3072;
    const INPUTS: i32 = 576;
    let matrix_bytes = size_of::<f32>() * (OUTPUTS * INPUTS) as usize;
    let count = BEYOND_CACHES / matrix_bytes;
    // In huge pages, as a model's weights are.
    let _heap = crate::blas::pages::LoadingHeap::grow(BEYOND_CACHES);
    let one = || ones_dtype(&[OUTPUTS, INPUTS], Dtype::Float32);
    let weights = (0..count).map(|_| one()).collect::<Result<Vec<_>, _>>()?;
    eval(&weights)?;
    let row = ones_dtype(&[1, INPUTS], Dtype::Float32)?;
    eval([&row])?;
    let start = Instant::now();
    let (mut fastest, mut passes) = (Duration::MAX, 0);
    while passes < PASSES || start.elapsed() < budget {
        let products = weights.iter().map(|weight| matmul(&row, weight.t())).collect::<Result<Vec<_>, _>>()?;
        let pass = Instant::now();
        eval(&products)?;
        fastest = fastest.min(pass.elapsed());
        passes += 1;
    }
    Ok((count * matrix_bytes) as f64 / fastest.as_secs_f64() / 1e9)
}

/// Time in which one thread a part reads them all.
fn pass(parts: &[Vec<u64>]) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        for part in parts {
            scope.spawn(|| black_box(sum(black_box(part))));
        }
    });
    start.elapsed()
}

/// The sum in eight lanes, which compilers turn into vector loads; adding is faster than reading.
fn sum(words: &[u64]) -> u64 {
    let mut lanes = [0u64; 8];
    for chunk in words.as_chunks::<8>().0 {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.into_iter().fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_at_a_finite_rate() {
        let rate = streaming_read_gb_s(1 << 20, 2, 0.0);
        assert!(rate > 0.0 && rate.is_finite(), "{rate}");
    }

    #[test]
    fn sums_every_whole_chunk() {
        assert_eq!(sum(&(0..64).collect::<Vec<u64>>()), 63 * 64 / 2);
    }
}
