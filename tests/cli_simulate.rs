//! `ridgepoint simulate` as a user runs it.

use assert_cmd::Command;

fn simulate(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("ridgepoint").unwrap();
    command.arg("simulate").args(args);
    command
}

const SMALL: [&str; 12] = [
    "--prompts",
    "8,12",
    "--runs",
    "2",
    "--draws",
    "100",
    "--resamples",
    "20",
    "--only",
    "staircase, quiet",
    "--seed",
    "3",
];

#[test]
fn a_table_says_how_often_the_decision_is_wrong() {
    let output = simulate(&SMALL).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("best excluded") && text.contains("sign_flip"), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("staircase, quiet")).count(), 6, "{text}");
}

#[test]
fn json_and_csv_hold_the_same_numbers_and_a_seed_repeats_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder");
    let run = || {
        let output = simulate(&SMALL).arg("--json").arg("--output").arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let (first, csv) = (run(), std::fs::read_to_string(path.join("calibration.csv")).unwrap());
    assert_eq!((run(), std::fs::read_to_string(path.join("calibration.csv")).unwrap()), (first.clone(), csv.clone()));
    let lines: Vec<serde_json::Value> =
        String::from_utf8(first).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows: Vec<csv::StringRecord> = csv::Reader::from_reader(csv.as_bytes()).records().map(Result::unwrap).collect();
    assert_eq!((lines.len(), rows.len()), (6, 6));
    for (line, row) in lines.iter().zip(&rows) {
        assert_eq!(line["name"], row[0]);
        assert_eq!(line["set_size"]["value"].as_f64().unwrap(), row[12].parse::<f64>().unwrap());
    }
}

#[test]
fn what_cannot_be_simulated_is_a_usage_error_of_one_line() {
    for (args, says) in [
        (&["--only", "nothing like this"][..], "--only nothing like this"),
        (&["--prompts", "1", "--only", "staircase, quiet"], "prompts: 1 given"),
        (&["--runs", "1", "--only", "staircase, quiet"], "runs: 1 given"),
        (&["--confidence", "2", "--runs", "2", "--only", "staircase, quiet"], "confidence = 2"),
        (&["--margin", "0", "--runs", "2", "--only", "staircase, quiet"], "margin = 0"),
    ] {
        let output = simulate(args).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), message.trim_end().lines().count()), (Some(2), 1), "{message}");
        assert!(message.contains(says), "{message}");
    }
}
