//! `ridgepoint analyze` on a results folder and on a CSV of another program.

use assert_cmd::Command;
use ridgepoint::results::{Control, CostRow, Identity, Mode, PromptRow, ResultsDir, Role, RunRow, TraceRow};
use ridgepoint::scenario::{Scenario, load};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const PROMPTS: usize = 24;
const FRESH: usize = 16;
const TOKENS: u64 = 48;

fn analyze(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("ridgepoint").unwrap();
    command.arg("analyze").args(arguments);
    command
}

fn json_lines(arguments: &[&str]) -> Vec<Value> {
    let output = analyze(arguments).arg("--json").assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A number between -1 and 1 that looks random and is the same everywhere.
fn noise(a: usize, b: u64) -> f64 {
    let mixed = (a as u64 * 1000 + b).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / (1u64 << 23) as f64 - 1.0
}

fn scenario() -> Scenario {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/quickstart.toml")).unwrap().scenario
}

/// Seconds of an arm: `lookup` is best at γ=2 (20 % faster than plain) and `skip` always slower.
fn seconds(prompt: usize, drafter: &str, draft_length: u64) -> f64 {
    let factor = match (drafter, draft_length) {
        (_, 0) => 1.0,
        ("lookup", 2) => 0.8,
        ("lookup", _) => 0.9,
        _ => 1.3,
    };
    2.0 * factor
        * (1.0 + 0.2 * noise(prompt, 0))
        * (1.0 + 0.01 * noise(prompt, 17 * draft_length + drafter.len() as u64))
}

fn block(prompt: usize) -> Vec<RunRow> {
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
        seconds: Some(seconds(prompt, drafter, *draft_length)),
        rounds: TOKENS / (1 + draft_length / 2),
        ..RunRow::default()
    };
    arms.iter().enumerate().map(row).collect()
}

fn cost(role: Role, drafter: &str, mode: Mode, width: u64, time_ms: f64, pass: u64) -> CostRow {
    CostRow {
        role,
        drafter: drafter.to_string(),
        mode,
        width,
        pass,
        time_ms: Some(time_ms),
        precision: "float32".to_string(),
        context: 128,
        batch: 1,
        bytes: 500_000_000,
        flops: 250e6 * width as f64,
        ..CostRow::default()
    }
}

/// A folder as a finished job leaves it, but for the derived files.
fn finished(folder: &Path) {
    let identity = Identity { scenario: "quickstart".into(), machine: "made-up".into(), ..Identity::default() };
    let ceilings = json!({ "ceilings": { "bandwidth_bytes_per_s": 12e9, "matrix_flops_per_s": 1e11 } });
    let results = ResultsDir::open(folder, &identity, &scenario(), ceilings).unwrap();
    let mut prompts = results.table::<PromptRow>().unwrap();
    let mut traces = results.table::<TraceRow>().unwrap();
    let mut costs = results.table::<CostRow>().unwrap();
    let mut runs = results.table::<RunRow>().unwrap();
    for prompt in 0..PROMPTS + FRESH {
        let split = if prompt < PROMPTS { "tune" } else { "confirm" }.to_string();
        prompts.append(PromptRow { prompt: format!("p{prompt}"), split, ..PromptRow::default() }).unwrap();
        block(prompt).into_iter().for_each(|row| runs.append(row).unwrap());
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
        costs.append(cost(Role::Target, "", Mode::Pipelined, 1, 40.0, pass)).unwrap();
        for width in 1..=5 {
            costs.append(cost(Role::Target, "", Mode::Sync, width, 42.0 + width as f64, pass)).unwrap();
            costs.append(cost(Role::Drafter, "lookup", Mode::Sync, width, 0.01, pass)).unwrap();
        }
    }
}

fn derived_files(folder: &Path) -> Vec<Vec<u8>> {
    ["predictions.csv", "acceptance.csv", "arms.csv", "decision.csv", "sensitivity.csv"]
        .map(|file| fs::read(folder.join(file)).unwrap())
        .to_vec()
}

#[test]
fn derived_files_are_rebuilt_byte_for_byte() {
    let root = tempfile::tempdir().unwrap();
    finished(root.path());
    ridgepoint::analysis::derive(root.path(), false).unwrap().write(root.path()).unwrap();
    let first = derived_files(root.path());
    fs::remove_file(root.path().join("decision.csv")).unwrap();
    fs::write(root.path().join("predictions.csv"), "spoiled").unwrap();
    analyze(&[root.path().to_str().unwrap()]).assert().success();
    assert_eq!(derived_files(root.path()), first);
}

#[test]
fn a_folder_gives_its_decisions_as_text_and_json() {
    let root = tempfile::tempdir().unwrap();
    finished(root.path());
    let folder = root.path().to_str().unwrap();
    let text = String::from_utf8(analyze(&[folder]).assert().success().get_output().stdout.clone()).unwrap();
    assert!(text.contains("Draft 2 tokens a round with lookup: 1.2"), "{text}");
    assert!(text.contains("confirmed on 16 prompts that had no part in the choice, because a round yields"), "{text}");
    assert!(text.contains("Do not draft with skip"), "{text}");

    let decisions = json_lines(&[folder]);
    let lookup = &decisions[0];
    assert_eq!((&lookup["drafter"], &lookup["recommended"]), (&json!("lookup"), &json!(2)));
    assert_eq!(lookup["confidence_set"], json!([2]));
    // Σ plain seconds over Σ arm seconds of the fresh prompts, the controls averaged: both are equal here.
    let total = |length: u64| {
        (PROMPTS..PROMPTS + FRESH)
            .map(|prompt| seconds(prompt, if length > 0 { "lookup" } else { "" }, length))
            .sum::<f64>()
    };
    let speedup = lookup["confirmed"]["speedup"].as_f64().unwrap();
    assert!((speedup - total(0) / total(2)).abs() < 1e-12);
    assert!(lookup["confirmed"]["low"].as_f64().unwrap() < speedup);
    assert_eq!(lookup["confirmed"]["prompts"], json!(16));
    assert_eq!(decisions[1]["recommended"], json!(0));

    let decision = fs::read_to_string(root.path().join("decision.csv")).unwrap();
    assert!(
        decision.lines().nth(1).unwrap().starts_with("made-up,,lookup,float32,128,1,memory-bound,2,2,2,1.2"),
        "{decision}"
    );
    let predictions = fs::read_to_string(root.path().join("predictions.csv")).unwrap();
    // The scenario's lengths 0 to 4 that the trace reaches, of the one drafter that was traced.
    assert_eq!(predictions.lines().count(), 1 + 5, "{predictions}");
}

#[test]
fn an_unfinished_folder_says_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    finished(root.path());
    let path = root.path().join("runs.csv");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&path, lines[..9].join("\n") + "\n").unwrap();
    let assert = analyze(&[root.path().to_str().unwrap()]).assert().success();
    let warnings = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(warnings.contains("lookup: 1 complete prompts (p1: "), "{warnings}");
    let (first, second) = (lines[1], lines[2].replace(",0.0,48,", ",-1.0,48,"));
    fs::write(&path, format!("{}\n{first}\n{second}\n", lines[0])).unwrap();
    let assert = analyze(&[root.path().to_str().unwrap()]).assert().code(1);
    let error = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(error.contains("runs.csv: line 3: started_s: -1 s comes after 0 s in launch 0"), "{error}");
    fs::remove_file(root.path().join("environment.json")).unwrap();
    analyze(&[root.path().to_str().unwrap()]).assert().code(1);
}

#[test]
fn any_csv_with_four_columns_is_decided_on() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("mine.csv");
    let mut text = "prompt,arm,seconds,tokens\n".to_string();
    for prompt in 0..PROMPTS {
        for length in [0, 2, 4] {
            text += &format!("q{prompt},{length},{},48\n", seconds(prompt, "lookup", length));
        }
    }
    fs::write(&path, &text).unwrap();
    let path = path.to_str().unwrap();
    let decisions = json_lines(&[path]);
    assert_eq!((decisions.len(), &decisions[0]["recommended"], &decisions[0]["prompts"]), (1, &json!(2), &json!(24)));
    assert_eq!(decisions[0]["versus_plain"][0]["draft_length"], json!(2));
    analyze(&[path, "--confidence", "1.5"]).assert().failure();

    fs::write(path, text.replace(",48\n", "\n")).unwrap();
    let output = analyze(&[path]).assert().code(2).get_output().stderr.clone();
    assert_eq!(String::from_utf8(output).unwrap().lines().count(), 1);
    analyze(&["no-such.csv"]).assert().code(2);
}
