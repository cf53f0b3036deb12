//! Few-row products with our BLAS and the system's, taken in turn, next to what a plain read of memory reaches.
//!
//!     cargo run --release --example blas_bench [ROUNDS] [ROWS]
//!
//! GB/s counts each weight once; a ratio is the median over the rounds of one side's time by the other's, the last one of
//! float32 in groups by 8 bits in groups. OpenBLAS's
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

    pub fn run(rounds: usize, rows: Option<Vec<usize>>) {
        let all_rows = rows.unwrap_or(ROWS.to_vec());
        let description = blas::describe();
        let read = streaming_read_gb_s(BEYOND_CACHES, description.threads, 2.0);
        println!("{description:?}");
        println!("reading memory with {} threads: {read:.1} GB/s", description.threads);
        println!(
            "{:22} {:>5} {:>10} {:>8} {:>10} {:>8} {:>8} {:>8} {:>14}",
            "weights",
            "rows",
            "in groups",
            "of read",
            "in rows",
            "system",
            "groups/system",
            "rows/system",
            "8 bits/groups"
        );
        let most = SHAPES.map(|(_, columns, depth, count)| columns * depth * count).into_iter().max().unwrap_or(0);
        let weights = values(most);
        blas::pages::use_huge_pages([weights.as_slice()]);
        for (name, columns, depth, count) in SHAPES {
            for &rows in &all_rows {
                let job = Job { rows, columns, depth, count, a: values(rows * depth), weights: &weights };
                let round = || [job.grouped(), job.time(Choice::Ours), job.time(Choice::System), job.bytes()];
                let times: Vec<[f64; 4]> = (0..rounds).map(|_| round()).collect();
                let rate = |side: usize| {
                    let time = median(times.iter().map(|times| times[side]));
                    (count * columns * depth * size_of::<f32>()) as f64 / time / 1e9
                };
                let ratio = |by: usize, of: usize| median(times.iter().map(|times| times[by] / times[of]));
                println!(
                    "{name:22} {rows:5} {:10.1} {:7.0}% {:10.1} {:8.1} {:8.2} {:8.2} {:14.2}",
                    rate(0),
                    100.0 * rate(0) / read,
                    rate(1),
                    rate(2),
                    ratio(2, 0),
                    ratio(2, 1),
                    ratio(0, 3)
                );
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
        /// Seconds for all matrices, taken to lie in groups.
        fn grouped(&self) -> f64 {
            let mut c = vec![0.0; self.rows * self.columns];
            let sizes = [self.rows, self.columns, self.depth];
            self.second(|matrix| blas::grouped::multiply(&self.a, matrix, &mut c, sizes))
        }

        /// Seconds for all matrices at 8 bits, in groups; the bytes are taken from the same memory.
        fn bytes(&self) -> f64 {
            let (mut c, weights) = (vec![0.0; self.rows * self.columns], self.columns * self.depth);
            let (sizes, block) = ([self.rows, self.columns, self.depth], 64);
            let scales = values(2 * weights / block);
            // SAFETY: any byte is a weight, and floats have no gaps between them.
            let bytes = unsafe { std::slice::from_raw_parts(self.weights.as_ptr().cast::<u8>(), weights * self.count) };
            sleep(SETTLE);
            let mut pass = || {
                let start = Instant::now();
                for matrix in bytes.chunks_exact(weights) {
                    blas::bytes::multiply(&self.a, (matrix, &scales), block, &mut c, sizes);
                }
                start.elapsed().as_secs_f64()
            };
            pass();
            pass()
        }

        /// Seconds for all matrices, which lie in rows.
        fn time(&self, choice: Choice) -> f64 {
            blas::configure(choice, None);
            let mut c = vec![0.0; self.rows * self.columns];
            let (m, n, k) = (self.rows as i32, self.columns as i32, self.depth as i32);
            self.second(|matrix| {
                let (a, b, c) = (self.a.as_ptr(), matrix.as_ptr(), c.as_mut_ptr());
                // SAFETY: row-major, A as it is, B transposed; all three hold what the sizes say.
                unsafe { blas::cblas::cblas_sgemm(101, 111, 112, m, n, k, 1.0, a, k, b, k, 0.0, c, n) };
            })
        }

        /// Seconds of the second pass over all matrices: in the first one threads wake up and find their cores.
        fn second(&self, mut multiply: impl FnMut(&[f32])) -> f64 {
            sleep(SETTLE);
            let mut pass = || {
                let start = Instant::now();
                self.weights.chunks_exact(self.columns * self.depth).take(self.count).for_each(&mut multiply);
                start.elapsed().as_secs_f64()
            };
            pass();
            pass()
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
    {
        let mut arguments = std::env::args().skip(1);
        let rounds = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(9);
        let rows = arguments.next().map(|rows| rows.split(',').filter_map(|rows| rows.parse().ok()).collect());
        bench::run(rounds, rows);
    }
    #[cfg(not(all(feature = "mlx", target_os = "linux")))]
    eprintln!("blas_bench: our BLAS is built on Linux with the feature `mlx` only");
}
