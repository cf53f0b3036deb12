//! `ridgepoint analyze` on several results folders.

use crate::results_folder::Folder;
use assert_cmd::Command;
use ridgepoint::results::{ContrastRow, RegimeRow, read};
use serde_json::{Value, json};
use std::path::Path;

fn analyze(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("ridgepoint").unwrap();
    command.current_dir(root).arg("analyze").args(arguments);
    command
}

/// One target in two precisions with different best lengths, and a second machine with the best of the first.
fn folders() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    Folder { precision: "4bit", best: 2, ..Folder::default() }.write(&root.path().join("a"));
    Folder { precision: "8bit", best: 4, ..Folder::default() }.write(&root.path().join("b"));
    Folder { precision: "4bit", best: 2, machine: "another", ..Folder::default() }.write(&root.path().join("c"));
    root
}

#[test]
fn the_map_has_a_row_a_regime_and_a_tested_contrast_a_pair() {
    let root = folders();
    let output = analyze(root.path(), &["a", "b", "c", "--out", "map"]).assert().success().get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("4bit against 8bit (lookup): γ* differs, fastest are γ=2 and γ=4, p = less than 0.001"),
        "{text}"
    );
    assert!(text.contains("another against made-up (lookup): γ* is not shown to differ"), "{text}");

    let regimes: Vec<RegimeRow> = read(&root.path().join("map")).unwrap();
    let lookup: Vec<&RegimeRow> = regimes.iter().filter(|row| row.drafter == "lookup").collect();
    assert_eq!((regimes.len(), lookup.len()), (6, 3));
    let lengths: Vec<_> = lookup.iter().map(|row| (row.folder.as_str(), row.draft_length, row.confirmed)).collect();
    assert_eq!(lengths, [("c", Some(2), true), ("a", Some(2), true), ("b", Some(4), true)]);
    assert_eq!((lookup[0].bandwidth_gb_s, lookup[0].bytes_per_token), (Some(12.0), Some(500e6)));

    let contrasts: Vec<ContrastRow> = read(&root.path().join("map")).unwrap();
    let precision = contrasts.iter().find(|row| row.drafter == "lookup" && row.factor == "model").unwrap();
    assert!(precision.paired && precision.prompts_first == 24 && precision.p_holm < 0.001);
    // Nine tenths of plain decoding's time where eight tenths would do.
    assert!((precision.loss_of_first_in_second - 0.125).abs() < 0.01, "{precision:?}");
    let interval = precision.loss_of_first_in_second_low..precision.loss_of_first_in_second_high;
    assert!(interval.contains(&0.125), "{interval:?}");
    assert!(contrasts.iter().all(|row| row.factor == "model" || row.p_holm > 0.05), "{contrasts:?}");

    let output = analyze(root.path(), &["a", "b", "--json"]).assert().success().get_output().stdout.clone();
    let map: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!((map["regimes"].as_array().unwrap().len(), &map["contrasts"][0]["best_second"]), (4, &json!(4)));
}

#[test]
fn what_is_no_set_of_folders_is_a_usage_error_of_one_line() {
    let root = folders();
    for (arguments, says) in [
        (&["a", "a"][..], "a: is given twice"),
        (&["a", "none"], "none: is no folder"),
        (&["a", "--out", "map"], "--out: the map of regimes needs several"),
    ] {
        let output = analyze(root.path(), arguments).assert().code(2).get_output().stderr.clone();
        let message = String::from_utf8(output).unwrap();
        assert!(message.contains(says) && message.lines().count() == 1, "{message}");
        assert!(!root.path().join("map").exists());
    }
    std::fs::create_dir(root.path().join("empty")).unwrap();
    let output = analyze(root.path(), &["a", "empty"]).assert().code(1).get_output().stderr.clone();
    assert!(String::from_utf8(output).unwrap().contains("empty: has no environment.json"));
}
