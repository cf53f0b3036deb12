use ridgepoint::blas::{self, Choice};
use std::time::Instant;
fn main() {
    let args: Vec<usize> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let threads = args[0];
    blas::configure(Choice::Ours, Some(threads));
    let n = 49152 * 576 * 6;
    let w: Vec<f32> = (0..n).map(|i: usize| (i.wrapping_mul(2654435761) % 2048) as f32 / 1024.0 - 1.0).collect();
    blas::pages::use_huge_pages([w.as_slice()]);
    println!(
        "read {:.1} {:.1}",
        ridgepoint::machine::bandwidth::streaming_read_gb_s(threads, 1.0),
        ridgepoint::machine::bandwidth::streaming_read_gb_s(threads, 1.0)
    );
    for (columns, depth) in [(3072usize, 576usize), (576, 1536), (576, 576), (960, 576), (49152, 576)] {
        for &rows in &args[1..] {
            let a: Vec<f32> = w[..rows * depth].to_vec();
            let mut c = vec![0.0f32; rows * columns];
            let mut times = vec![];
            for _ in 0..5 {
                let t = Instant::now();
                let mut count = 0;
                for m in w.chunks_exact(columns * depth) {
                    unsafe {
                        blas::cblas::cblas_sgemm(
                            101,
                            111,
                            112,
                            rows as i32,
                            columns as i32,
                            depth as i32,
                            1.0,
                            a.as_ptr(),
                            depth as i32,
                            m.as_ptr(),
                            depth as i32,
                            0.0,
                            c.as_mut_ptr(),
                            columns as i32,
                        )
                    };
                    count += 1;
                }
                times.push((count * columns * depth * 4) as f64 / t.elapsed().as_secs_f64() / 1e9);
            }
            times.sort_by(f64::total_cmp);
            println!(
                "{columns}x{depth} rows {rows:3}: min {:5.1} median {:5.1} max {:5.1} GB/s  {:6.1} GFLOP/s",
                times[0],
                times[2],
                times[4],
                times[2] * rows as f64 / 2.0
            );
        }
    }
}
