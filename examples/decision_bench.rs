//! How long a whole decision takes, and a sweep of many of them.
//!
//!     cargo run --release --no-default-features --example decision_bench [REPEATS [REGIMES]]
//!
//! The decision is that of a publication: 100,000 max-t draws and 10,000 BCa resamples, for 17 arms on 100 prompts unless
//! the line says otherwise; the sensitivity block is timed by itself. The median over the repeats is printed.
//! scripts/peers/stats_peer.py times the same through scipy and arch.

use ridgepoint::stats::bootstrap::RESAMPLES;
use ridgepoint::stats::decision::{DRAWS, Input, decide};
use ridgepoint::stats::sensitivity::sensitivity;
use std::hint::black_box;
use std::time::Instant;

/// Lengths 0 to `arms` - 1 with a flat minimum, two per cent of noise.
fn input(arms: usize, prompts: usize, seed: u64) -> Input {
    let noise = |prompt: usize, arm: usize| {
        let mixed = (seed * 1_000_003 + prompt as u64 * 1009 + arm as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    };
    let cost = |arm: usize| 1.0 - 0.25 * (1.0 - (-(arm as f64) / 3.0).exp()) + 0.004 * arm as f64;
    let row = |prompt| (0..arms).map(|arm| cost(arm) * (1.0 + 0.03 * noise(prompt, arm))).collect();
    Input {
        draft_lengths: (0..arms as u32).collect(),
        seconds: (0..prompts).map(row).collect(),
        tokens: vec![vec![128; arms]; prompts],
        confidence: 0.95,
        margin: 0.02,
        seed,
        method: None,
        draws: DRAWS,
        resamples: RESAMPLES,
    }
}

/// Median seconds of a piece of work.
fn median_s(repeats: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..repeats)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let argument = |place: usize, default: usize| {
        std::env::args().nth(place).map_or(default, |text| text.parse().expect("a whole number"))
    };
    let (repeats, regimes) = (argument(1, 9), argument(2, 0));
    println!("{:34} {:>10}", "", "seconds");
    for (arms, prompts) in [(17, 100), (17, 50), (8, 100), (17, 200), (34, 100), (17, 12)] {
        let input = input(arms, prompts, 1);
        let seconds = median_s(repeats, || drop(black_box(decide(black_box(&input)).expect("good data"))));
        println!("{:34} {seconds:>10.4}", format!("decision, {arms} arms x {prompts} prompts"));
    }
    let input = input(17, 100, 1);
    let decision = decide(&input).expect("good data");
    let seconds =
        median_s(repeats, || drop(black_box(sensitivity(black_box(&input), &decision, &[]).expect("good data"))));
    println!("{:34} {seconds:>10.4}", "sensitivity block, 17 x 100");
    if regimes > 0 {
        let started = Instant::now();
        for seed in 0..regimes as u64 {
            black_box(decide(&self::input(17, 100, seed)).expect("good data"));
        }
        println!("{:34} {:>10.2}", format!("{regimes} decisions, one after another"), started.elapsed().as_secs_f64());
    }
}
