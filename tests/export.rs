//! `ridgepoint export` on committed results: Parquet as another reader sees it, and llama-bench's tests, which `analyze` reads.

use assert_cmd::Command;
use std::fs;

const FOLDER: &str = "results/linux-cpu-2core/cost-SmolLM2-135M-Instruct.Q4_1-float32";

fn ridgepoint(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("ridgepoint").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    command
}

#[test]
fn a_cost_curve_comes_back_from_llama_benchs_format() {
    let out = tempfile::tempdir().unwrap();
    let place = out.path().to_str().unwrap();
    ridgepoint(&["export", FOLDER, "--format", "llama-bench", "--out", place]).assert().success();
    let file = out.path().join("llama-bench.json");
    let tests: Vec<serde_json::Value> = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    // Every width, and plain decoding.
    assert_eq!(tests.len(), 129);
    let found = ridgepoint(&["analyze", file.to_str().unwrap(), "--json"]).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let own = ridgepoint(&["analyze", FOLDER, "--json"]).output().unwrap();
    let times = |bytes: &[u8]| -> Vec<(u64, f64)> {
        let curve: serde_json::Value =
            serde_json::from_str(std::str::from_utf8(bytes).unwrap().lines().next().unwrap()).unwrap();
        let widths = curve["widths"].as_array().unwrap();
        let sync = widths.iter().filter(|row| row["mode"] == "sync" && row["role"] == "target");
        sync.map(|row| (row["width"].as_u64().unwrap(), row["time_ms"].as_f64().unwrap())).collect()
    };
    let (found, own) = (times(&found.stdout), times(&own.stdout));
    assert_eq!(found.len(), 128);
    for ((width, time), (own_width, own_time)) in found.iter().zip(&own) {
        assert!(width == own_width && (time / own_time - 1.0).abs() < 1e-12, "{width} {time} {own_time}");
    }
}

/// As pyarrow reads it, where the environment of the notebooks is; else what is written is only known to be a Parquet file.
#[cfg(feature = "parquet")]
#[test]
fn every_csv_becomes_parquet_with_the_types_of_its_columns() {
    let out = tempfile::tempdir().unwrap();
    let place = out.path().to_str().unwrap();
    for folder in [FOLDER, "results/linux-cpu-2core/baseline", "results/linux-cpu-2core/drafters"] {
        ridgepoint(&["export", folder, "--format", "parquet", "--out", place]).assert().success();
    }
    for name in ["cost", "cost_widths", "decision", "runs", "01-bandwidth", "points", "stop_rules"] {
        let bytes = fs::read(out.path().join(format!("{name}.parquet"))).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "{name}");
    }
    let python = std::env::var("RIDGEPOINT_PYTHON").unwrap_or(".venv/bin/python".to_string());
    let read = |code: &str| {
        std::process::Command::new(&python).current_dir(env!("CARGO_MANIFEST_DIR")).args(["-c", code, place]).output()
    };
    if !read("import polars").is_ok_and(|output| output.status.success()) {
        eprintln!("left out: {python} has no polars");
        return;
    }
    let output = read(
        "import sys, polars as pl\n\
         from pathlib import Path\n\
         root = Path('results/linux-cpu-2core')\n\
         for folder, name in [('drafters', 'decision'), ('drafters', 'runs'), ('baseline', '01-bandwidth')]:\n\
         \x20   ours = pl.read_parquet(f'{sys.argv[1]}/{name}.parquet')\n\
         \x20   theirs = pl.read_csv(root / folder / f'{name}.csv', schema=ours.schema)\n\
         \x20   assert ours.height > 3 and ours.equals(theirs), name\n\
         runs = pl.read_parquet(f'{sys.argv[1]}/runs.parquet').schema\n\
         print(runs['seconds'], runs['tokens'], runs['prompt'], runs['first_divergence'])\n\
         print(pl.read_parquet(f'{sys.argv[1]}/01-bandwidth.parquet').schema['invalid'])\n",
    )
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Float64 Int64 String Int64\nBoolean\n");
}

#[test]
fn what_cannot_be_exported_is_one_line() {
    let out = tempfile::tempdir().unwrap();
    let place = out.path().join("out");
    let bad = out.path().join("bad");
    fs::create_dir(&bad).unwrap();
    let runs = fs::read_to_string("results/linux-cpu-2core/drafters/runs.csv").unwrap();
    // No file of ours, and no place to cut its name at.
    fs::write(bad.join("aé.csv"), "").unwrap();
    fs::write(bad.join("runs.csv"), runs.replacen(",tune,,0,", ",tune,,x,", 1)).unwrap();
    let bad = bad.to_str().unwrap();
    for (folder, format, expected) in [
        ("results/none", "parquet", "results/none: cannot be read"),
        ("scenarios", "parquet", "scenarios: has no CSV of results"),
        ("results/linux-cpu-2core/baseline", "llama-bench", "has no cost.csv with forwards of one sequence"),
        (bad, "parquet", "runs.csv:2: draft_length: 'x' is no integer"),
    ] {
        let run =
            ridgepoint(&["export", folder, "--format", format, "--out", place.to_str().unwrap()]).output().unwrap();
        let message = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2), "{message}");
        assert!(message.contains(expected) && message.lines().count() == 1, "{message}");
        assert!(!place.exists());
    }
}
