//! Results folders as a finished job leaves them, but for the derived files; made up, with a known truth.
#![allow(dead_code, reason = "each test file uses its part")]

use ridgepoint::results::{Control, CostRow, Design, Identity, Mode, PromptRow, ResultsDir, Role, RunRow, TraceRow};
use ridgepoint::scenario::{Scenario, load};
use serde_json::json;
use std::path::Path;

pub const PROMPTS: usize = 24;
pub const FRESH: usize = 16;
pub const TOKENS: u64 = 48;

/// What may differ between two folders.
pub struct Folder {
    pub machine: &'static str,
    pub precision: &'static str,
    /// The best length of `lookup`, which takes 20 % less time than plain decoding; the other of 2 and 4 takes 10 % less.
    pub best: u64,
    pub design: Design,
}

impl Default for Folder {
    fn default() -> Self {
        Folder { machine: "made-up", precision: "float32", best: 2, design: Design::Blocks }
    }
}

/// A number between -1 and 1 that looks random and is the same everywhere.
fn noise(a: usize, b: u64) -> f64 {
    let mixed = (a as u64 * 1000 + b).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / (1u64 << 23) as f64 - 1.0
}

fn scenario() -> Scenario {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/quickstart.toml")).unwrap().scenario
}

/// Seconds of an arm with γ=2 the best of `lookup`; `skip` is always slower than plain decoding.
pub fn seconds(prompt: usize, drafter: &str, draft_length: u64) -> f64 {
    seconds_with(2, prompt, drafter, draft_length)
}

fn seconds_with(best: u64, prompt: usize, drafter: &str, draft_length: u64) -> f64 {
    let factor = match (drafter, draft_length) {
        (_, 0) => 1.0,
        ("lookup", length) if length == best => 0.8,
        ("lookup", _) => 0.9,
        _ => 1.3,
    };
    2.0 * factor
        * (1.0 + 0.2 * noise(prompt, 0))
        * (1.0 + 0.01 * noise(prompt, 17 * draft_length + drafter.len() as u64))
}

fn block(best: u64, prompt: usize) -> Vec<RunRow> {
    let arms = [("", 0), ("lookup", 2), ("lookup", 4), ("skip", 1), ("", 0)];
    let row = |(order, (drafter, draft_length)): (usize, &(&str, u64))| RunRow {
        prompt: format!("p{prompt}"),
        category: "made up".to_string(),
        split: if prompt < PROMPTS { "tune" } else { "confirm" }.to_string(),
        drafter: drafter.to_string(),
        draft_length: *draft_length,
        block: prompt as u64,
        order: order as u64,
        control: [Control::First, Control::No, Control::No, Control::No, Control::Last][order],
        tokens: TOKENS,
        seconds: Some(seconds_with(best, prompt, drafter, *draft_length)),
        started_s: (10 * prompt + order) as f64,
        rounds: TOKENS / (1 + draft_length / 2),
        ..RunRow::default()
    };
    arms.iter().enumerate().map(row).collect()
}

fn cost(precision: &str, role: Role, drafter: &str, mode: Mode, width: u64, time_ms: f64, pass: u64) -> CostRow {
    CostRow {
        role,
        drafter: drafter.to_string(),
        mode,
        width,
        pass,
        time_ms: Some(time_ms),
        precision: precision.to_string(),
        context: 128,
        batch: 1,
        bytes: 500_000_000,
        flops: 250e6 * width as f64,
        ..CostRow::default()
    }
}

/// A folder with the usual content.
pub fn finished(folder: &Path) {
    Folder::default().write(folder);
}

impl Folder {
    /// Writes the raw files.
    pub fn write(&self, folder: &Path) {
        let (machine, best) = (self.machine.to_string(), self.best);
        let identity = Identity { scenario: "quickstart".into(), machine, design: self.design, ..Identity::default() };
        let ceilings = json!({ "bandwidth_bytes_per_s": 12e9, "matrix_flops_per_s": 1e11 });
        let mut results = ResultsDir::open(folder, &identity, &scenario()).unwrap();
        results.begin_launch(json!({ "ceilings": ceilings })).unwrap();
        let mut prompts = results.table::<PromptRow>().unwrap();
        let mut traces = results.table::<TraceRow>().unwrap();
        let mut costs = results.table::<CostRow>().unwrap();
        let mut runs = results.table::<RunRow>().unwrap();
        for prompt in 0..PROMPTS + FRESH {
            let split = if prompt < PROMPTS { "tune" } else { "confirm" }.to_string();
            prompts.append(PromptRow { prompt: format!("p{prompt}"), split, ..PromptRow::default() }).unwrap();
            block(best, prompt).into_iter().for_each(|row| runs.append(row).unwrap());
        }
        for prompt in 0..PROMPTS {
            let row = |position: u64| TraceRow {
                prompt: format!("p{prompt}"),
                drafter: "lookup".to_string(),
                position,
                draft_length_max: 4,
                drafted: 4,
                matched: (position + prompt as u64) % 5,
                ..TraceRow::default()
            };
            traces.complete((0..TOKENS).map(row).collect()).unwrap();
        }
        for pass in 0..3 {
            costs.append(cost(self.precision, Role::Target, "", Mode::Pipelined, 1, 40.0, pass)).unwrap();
            for width in 1..=5 {
                costs
                    .append(cost(self.precision, Role::Target, "", Mode::Sync, width, 42.0 + width as f64, pass))
                    .unwrap();
                costs.append(cost(self.precision, Role::Drafter, "lookup", Mode::Sync, width, 0.01, pass)).unwrap();
            }
        }
    }
}
