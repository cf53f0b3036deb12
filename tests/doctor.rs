//! `ridgepoint doctor` as a program.
#![cfg(feature = "mlx")]

use assert_cmd::Command;
use serde_json::Value;

#[test]
fn the_report_is_complete_and_names_what_to_run() {
    let (home, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut doctor = Command::cargo_bin("ridgepoint").unwrap();
    doctor.current_dir(work.path()).env("HF_HOME", home.path()).env_remove("HF_HUB_CACHE");
    let output = doctor.args(["doctor", "--json", "--device", "cpu"]).assert().success().get_output().clone();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let environment = &report["environment"];
    assert_eq!(environment["device"], "cpu");
    assert!(environment["machine"].as_str().unwrap().contains("-cpu-"));
    assert!(report["copy_bandwidth"]["best_gb_s"].as_f64().unwrap() > 0.0);
    if cfg!(target_os = "linux") {
        let rate = |name: &str| report["reading"][name].as_f64().unwrap();
        assert!(rate("plain_gb_s") > 0.0 && rate("products_gb_s") > 0.0);
    }
    assert!(report["models"].is_array());
    for finding in report["findings"].as_array().unwrap() {
        assert!(!finding["problem"].as_str().unwrap().is_empty() && !finding["fix"].as_str().unwrap().is_empty());
    }
}

#[test]
fn an_unknown_device_is_a_usage_error() {
    Command::cargo_bin("ridgepoint").unwrap().args(["doctor", "--device", "tpu"]).assert().code(2);
}
