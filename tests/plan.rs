//! `ridgepoint plan` as a user runs it.

use assert_cmd::Command;
use ridgepoint::stats::power::{prompts_to_decide, prompts_to_detect};
use serde_json::Value;

const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/quickstart.toml");

fn plan(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("ridgepoint").unwrap();
    command.args(["plan", SCENARIO]).args(arguments);
    command
}

fn planned(arguments: &[&str]) -> Value {
    let output = plan(arguments).arg("--json").assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

#[test]
fn a_declared_spread_gives_prompts_and_minutes() {
    let found = planned(&["--detect", "2%", "--sd", "3 %", "--tok-per-s", "16"]);
    let need = &found["drafters"][0];
    // The scenario has two lengths a drafter, two drafters, 24 tokens a run and seed 1.
    let detect = prompts_to_detect(0.02, 0.03, 2, 0.95, 0.8).unwrap();
    let decide = prompts_to_decide(0.02, 0.03, 3, 0.95, 0.8, 1).unwrap();
    assert_eq!(need["prompts_to_detect"], detect);
    assert_eq!(need["prompts_to_decide"], decide);
    let minutes = detect as f64 * 7.0 * (24.0 / 16.0) / 60.0;
    assert!((need["minutes_to_detect"].as_f64().unwrap() - minutes).abs() < 1e-9);
    let text = plan(&["--detect", "0.02", "--sd", "0.03"]).assert().success().get_output().stdout.clone();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(&format!("with a chance of 80 %: {detect} prompts\n")), "{text}");
}

#[test]
fn a_pilot_gives_the_spread_and_the_time_of_a_run() {
    let root = tempfile::tempdir().unwrap();
    crate::results_folder::finished(root.path());
    let found = planned(&["--detect", "1%", "--pilot", root.path().to_str().unwrap()]);
    let lookup = &found["drafters"][0];
    assert_eq!((lookup["drafter"].as_str(), lookup["pilot_prompts"].as_u64()), (Some("lookup"), Some(24)));
    // Each run scatters by a uniform 1 %, of standard deviation 1 % / root 3, and two of them differ by root 2 of that.
    let sd = lookup["sd_against_plain"].as_f64().unwrap();
    assert!((sd / (0.01 * (2.0f64 / 3.0).sqrt()) - 1.0).abs() < 0.35, "{sd}");
    // A second from start to start.
    let prompts = lookup["prompts_to_detect"].as_f64().unwrap();
    assert!((lookup["minutes_to_detect"].as_f64().unwrap() - prompts * 7.0 / 60.0).abs() < 1e-9);
}

#[test]
fn what_cannot_be_planned_is_a_usage_error_of_one_line() {
    let root = tempfile::tempdir().unwrap();
    let empty = root.path().to_str().unwrap();
    for (arguments, says) in [
        (&["--detect", "2%", "--pilot", empty][..], "has no environment.json"),
        (&["--detect", "2%", "--sd", "3%", "--tok-per-s", "0"], "--tok-per-s 0: must be above 0"),
        (&["--detect", "0.0001%", "--sd", "99%"], "million prompts"),
    ] {
        let output = plan(arguments).assert().code(2).get_output().stderr.clone();
        let message = String::from_utf8(output).unwrap();
        assert!(message.contains(says) && message.lines().count() == 1, "{message}");
    }
    for arguments in [&["--detect", "2%"][..], &["--detect", "200%", "--sd", "3%"], &["--detect", "two", "--sd", "3%"]]
    {
        plan(arguments).assert().code(2);
    }
}
