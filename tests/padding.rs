//! Padding verifications to a cheaper width, on made-up machines: it pays where t(b) falls, and changes nothing where it
//! does not.

use ridgepoint::results::{ArmRow, DecisionRow, read, write_text};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The decision and the arms of a simulated scenario.
fn sweep(scenario: &str, name: &str) -> (DecisionRow, Vec<ArmRow>) {
    let place = tempfile::tempdir().unwrap();
    write_text(place.path(), "s.toml", scenario).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_ridgepoint"));
    program.args(["sweep", "s.toml", "--results", "r", "--quiet"]).current_dir(place.path());
    let output = program.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let folder = place.path().join("r/simulated").join(name);
    let cells: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let cell = cells.iter().find(|path| path.is_dir()).unwrap();
    (read(cell).unwrap().remove(0), read(cell).unwrap())
}

fn scenario() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/padding-simulated.toml")).unwrap()
}

fn without_padding(scenario: &str) -> String {
    assert!(scenario.contains("\npad = true\n"));
    scenario.replace("\npad = true\n", "\n")
}

#[test]
fn padding_pays_on_a_curve_that_falls() {
    let (padded, padded_arms) = sweep(&scenario(), "padding-simulated");
    let (plain, _) = sweep(&without_padding(&scenario()), "padding-simulated");
    let speedup = |row: &DecisionRow| row.speedup_confirmed.unwrap_or(1.0);
    assert!(
        padded.speedup_low.unwrap() > 1.05 && speedup(&padded) > 1.1 * speedup(&plain),
        "padded {} at {:?}, not padded {} at {:?}",
        speedup(&padded),
        padded.draft_length,
        speedup(&plain),
        plain.draft_length
    );
    // The runs take what the padded curve predicts.
    let errors: Vec<f64> = padded_arms.iter().filter_map(|arm| arm.prediction_error).collect();
    assert!(errors.len() > 2 && errors.iter().all(|error| error.abs() < 0.15), "{errors:?}");
}

/// Where rounds take less than their parts one after the other, they are timed, and predictions are as good as where they do not.
#[test]
fn rounds_that_overlap_are_timed_and_foretold() {
    let errors = |overlap: &str| -> BTreeMap<u64, f64> {
        let scenario = scenario().replace("token_ms = 0.0\n", &format!("token_ms = 1.2\n{overlap}"));
        assert!(scenario.contains("token_ms = 1.2"));
        let (_, arms) = sweep(&scenario, "padding-simulated");
        arms.iter().filter_map(|arm| Some((arm.draft_length, arm.prediction_error?))).collect()
    };
    let (apart, together) = (errors(""), errors("overlap_ms = 1.1\n"));
    // Of rounds of 20 ms or more.
    let off: Vec<f64> = together.iter().filter_map(|(length, error)| Some(error - apart.get(length)?)).collect();
    assert!(off.len() > 2 && off.iter().all(|off| off.abs() < 0.015), "{apart:?} {together:?}");
}

#[test]
fn padding_changes_nothing_where_the_curve_rises() {
    let falling = scenario();
    let start = falling.find("[simulated.targets.mistral-7b.growth]").unwrap();
    let end = falling.find("# What it finds").unwrap();
    let growth = "[simulated.targets.mistral-7b.growth]\nshape = \"linear\"\ntoken_ms = 0.4\n\n";
    let rising = [&falling[..start], growth, &falling[end..]].concat();
    let (padded, arms) = sweep(&rising, "padding-simulated");
    let (plain, plain_arms) = sweep(&without_padding(&rising), "padding-simulated");
    assert_eq!((padded, arms), (plain, plain_arms));
}
