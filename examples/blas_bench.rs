//! Few-row products with our BLAS and the system's, taken in turn, next to what a plain read of memory reaches.
//!
//!     cargo run --release --example blas_bench [ROUNDS]
//!
//! GB/s counts each weight once; the ratio is the median over the rounds of the system's time by ours. OpenBLAS's
//! threads keep spinning for a while after a product, so each measurement waits until they sleep.

#[cfg(all(feature = "mlx", target_os = "linux"))]
mod bench {
    use ridgepoint::blas::{self, Choice};
    use ridgepoint::machine::bandwidth::{BEYOND_CACHES, streaming_read_gb_s};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    /// Name, columns of C, depth, different matrices in a row.
    const SHAPES: [(&str, usize, usize, usize); 4] = [
        ("1536x576, 60 of them", 1536, 576, 60),
        ("576x1536, 60 of them", 576, 1536, 60),
        ("576x576, 60 of them", 576, 576, 60),
        ("49152x576", 49152, 576, 1),
    ];
    const ROWS: [usize; 9] = [1, 2, 4, 8, 12, 16, 32, 64, 128];
    const SETTLE: Duration = Duration::from_millis(80);

    pub fn run(rounds: usize) {
        let description = blas::describe();
        let read = streaming_read_gb_s(BEYOND_CACHES, description.threads, 2.0);
        println!("{description:?}");
        println!("reading memory with {} threads: {read:.1} GB/s", description.threads);
        println!("{:22} {:>5} {:>10} {:>10} {:>8} {:>8}", "weights", "rows", "ours GB/s", "of read", "system", "ratio");
        let most = SHAPES.map(|(_, columns, depth, count)| columns * depth * count).into_iter().max().unwrap_or(0);
        let weights = values(most);
        blas::pages::use_huge_pages([weights.as_slice()]);
        for (name, columns, depth, count) in SHAPES {
            for rows in ROWS {
                let job = Job { rows, columns, depth, count, a: values(rows * depth), weights: &weights };
                let pairs: Vec<(f64, f64)> =
                    (0..rounds).map(|_| (job.time(Choice::Ours), job.time(Choice::System))).collect();
                let rate = |time: f64| (count * columns * depth * size_of::<f32>()) as f64 / time / 1e9;
                let ours = rate(median(pairs.iter().map(|pair| pair.0)));
                let system = rate(median(pairs.iter().map(|pair| pair.1)));
                let ratio = median(pairs.iter().map(|(ours, system)| system / ours));
                println!("{name:22} {rows:5} {ours:10.1} {:9.0}% {system:8.1} {ratio:8.2}", 100.0 * ours / read);
            }
        }
    }

    /// The same rows times `count` weight matrices that lie one after the other.
    struct Job<'a> {
        rows: usize,
        columns: usize,
        depth: usize,
        count: usize,
        a: Vec<f32>,
        weights: &'a [f32],
    }

    impl Job<'_> {
        /// Seconds for all matrices.
        fn time(&self, choice: Choice) -> f64 {
            blas::configure(choice, None);
            let mut c = vec![0.0; self.rows * self.columns];
            let (m, n, k) = (self.rows as i32, self.columns as i32, self.depth as i32);
            sleep(SETTLE);
            let start = Instant::now();
            for matrix in self.weights.chunks_exact(self.columns * self.depth).take(self.count) {
                let (a, b, c) = (self.a.as_ptr(), matrix.as_ptr(), c.as_mut_ptr());
                // SAFETY: row-major, A as it is, B transposed; all three hold what the sizes say.
                unsafe { blas::cblas::cblas_sgemm(101, 111, 112, m, n, k, 1.0, a, k, b, k, 0.0, c, n) };
            }
            start.elapsed().as_secs_f64()
        }
    }

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i.wrapping_mul(2654435761) % 2048) as f32 / 1024.0 - 1.0).collect()
    }

    fn median(values: impl Iterator<Item = f64>) -> f64 {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

fn main() {
    #[cfg(all(feature = "mlx", target_os = "linux"))]
    bench::run(std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(9));
    #[cfg(not(all(feature = "mlx", target_os = "linux")))]
    eprintln!("blas_bench: our BLAS is built on Linux with the feature `mlx` only");
}
