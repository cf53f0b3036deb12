//! How long a whole decision takes, and a sweep of many of them.
//!
//!     cargo run --release --no-default-features --example decision_bench [REPEATS [REGIMES]]
//!
//! The decision is that of a publication: 100,000 max-t draws and 10,000 BCa resamples, for 17 arms on 100 prompts unless
//! the line says otherwise; the sensitivity block is timed by itself. The median over the repeats is printed.
//! With REGIMES so many results folders are written to the temporary folder, and the time and memory to map them are printed.
//! scripts/peers/stats_peer.py times the same through scipy and arch.

use ridgepoint::analysis::regime_map;
use ridgepoint::results::{Control, CostRow, Identity, Mode, ResultsDir, RunRow};
use ridgepoint::scenario::{Scenario, load};
use ridgepoint::stats::bootstrap::RESAMPLES;
use ridgepoint::stats::decision::{DRAWS, Input, decide};
use ridgepoint::stats::sensitivity::sensitivity;
use std::hint::black_box;
use std::path::{Path, PathBuf};
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
        sweep(regimes);
    }
}

/// Writes so many results folders of 17 arms and 100 prompts, each at its own context, and maps them.
fn sweep(regimes: usize) {
    let root = std::env::temp_dir().join(format!("ridgepoint-sweep-{}", std::process::id()));
    let scenario = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/quickstart.toml")).expect("it loads");
    let folders: Vec<PathBuf> = (0..regimes).map(|regime| root.join(regime.to_string())).collect();
    for (regime, folder) in folders.iter().enumerate() {
        write_folder(folder, &scenario.scenario, regime);
    }
    let started = Instant::now();
    let map = regime_map(&folders, false).expect("good folders");
    let seconds = started.elapsed().as_secs_f64();
    let (rows, contrasts) = (map.regimes.len(), map.contrasts.len());
    println!("{:34} {seconds:>10.2}", format!("{rows} regimes, {contrasts} contrasts"));
    println!("{:34} {:>10}", "most memory, MB", peak_memory_mb().map_or("unknown".into(), |mb| format!("{mb:.0}")));
    std::fs::remove_dir_all(&root).expect("it was written above");
}

fn write_folder(folder: &Path, scenario: &Scenario, regime: usize) {
    let identity = Identity { scenario: scenario.name.clone(), machine: "bench".into(), ..Identity::default() };
    let mut results = ResultsDir::open(folder, &identity, scenario).expect("a fresh folder");
    results.begin_launch(serde_json::json!({})).expect("a fresh folder");
    let input = input(17, 100, regime as u64);
    let mut runs = Vec::new();
    for (prompt, seconds) in input.seconds.iter().enumerate() {
        let cells = seconds.iter().enumerate().chain([(0, &seconds[0])]).enumerate();
        runs.extend(cells.map(|(order, (arm, seconds))| RunRow {
            prompt: format!("p{prompt}"),
            split: "tune".into(),
            drafter: if arm == 0 { "" } else { "lookup" }.into(),
            draft_length: arm as u64,
            block: prompt as u64,
            order: order as u64,
            control: [Control::First, Control::No, Control::Last][usize::from(order > 0) + usize::from(order == 17)],
            started_s: (20 * prompt + order) as f64,
            tokens: 128,
            seconds: Some(*seconds),
            rounds: 64,
            ..RunRow::default()
        }));
    }
    results.table().and_then(|mut table| table.complete(runs)).expect("it can be written");
    let cost = |mode| CostRow {
        machine: "bench".into(),
        context: 64 * (regime as u64 + 1),
        batch: 1,
        width: 1,
        mode,
        time_ms: Some(10.0),
        ..CostRow::default()
    };
    let costs = [Mode::Sync, Mode::Pipelined].map(cost).to_vec();
    results.table().and_then(|mut table| table.complete(costs)).expect("it can be written");
}

/// The largest resident size of this process so far (Linux).
fn peak_memory_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kb| kb / 1e3)
}
