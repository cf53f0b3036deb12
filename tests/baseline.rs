//! `ridgepoint baseline`, on a tiny model.
#![cfg(feature = "mlx")]

use assert_cmd::Command;
use std::fs;
use std::path::Path;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/models/llama");

fn ridgepoint() -> Command {
    Command::cargo_bin("ridgepoint").unwrap()
}

fn column(folder: &Path, file: &str, name: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_path(folder.join(file)).unwrap();
    let place = reader.headers().unwrap().iter().position(|header| header == name).unwrap();
    reader.records().map(|record| record.unwrap()[place].to_string()).collect()
}

#[test]
fn experiments_run_resume_and_are_analysed_again_byte_for_byte() {
    let root = tempfile::tempdir().unwrap();
    let mut command = ridgepoint();
    command.args(["--device", "cpu", "baseline", "granularity", "9", "--model", MODEL, "--dtype", "float32"]);
    command.args(["--budget", "2s", "--machine", "m", "--quiet", "--json", "--results"]).arg(root.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verdicts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdicts["hypotheses"].as_array().unwrap().len(), 9, "{verdicts}");

    let folder = root.path().join("m/baseline");
    for (file, cases) in [("02-granularity.csv", 4), ("09-ablation.csv", 4)] {
        let timed = column(&folder, file, "time_ms").iter().filter(|time| !time.is_empty()).count();
        assert!(timed >= 7 * cases && timed % cases == 0, "{file}: {timed} samples");
    }
    // Here rotary embedding is a part of the fused attention on Linux, which is said in a row.
    if cfg!(target_os = "linux") {
        let errors: Vec<String> = column(&folder, "09-ablation.csv", "error");
        assert_eq!(errors.iter().filter(|error| error.contains("cannot be left out alone")).count(), 1, "{errors:?}");
    }
    let files = ["points.csv", "hypotheses.csv"].map(|file| folder.join(file));
    let before = files.clone().map(|file| fs::read(file).unwrap());
    files.iter().for_each(|file| fs::remove_file(file).unwrap());
    ridgepoint().arg("analyze").arg(&folder).assert().success();
    assert_eq!(files.map(|file| fs::read(file).unwrap()), before);

    // A second call finds every sample of its passes there.
    let rows = column(&folder, "02-granularity.csv", "pass").len();
    command.assert().success();
    assert!(column(&folder, "02-granularity.csv", "pass").len() >= rows);
    let keys =
        column(&folder, "02-granularity.csv", "pass").into_iter().zip(column(&folder, "02-granularity.csv", "subject"));
    let all: Vec<_> = keys.collect();
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
}

#[test]
fn what_cannot_be_asked_for_is_one_line() {
    for (arguments, expected) in [
        (&["baseline", "13"][..], "no baseline experiment '13'"),
        (&["baseline", "1", "--machine", "../x"], "--machine '../x'"),
        (&["baseline", "1", "--quantize", "4"], "--model"),
        (&["baseline", "3", "--model", "no-such-model"], "no-such-model"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let output = ridgepoint().args(arguments).args(["--results"]).arg(root.path()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.lines().last().unwrap_or_default().contains(expected), "{error}");
    }
    let list = ridgepoint().args(["baseline", "--list"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&list.stdout).lines().count(), 12);
}
