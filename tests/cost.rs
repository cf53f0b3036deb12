//! `ridgepoint cost` as a program on a tiny checkpoint, and its measurement with a slow width put in.
#![cfg(feature = "mlx")]

#[path = "support/tiny.rs"]
mod tiny;

use ridgepoint::analysis::cost::derive_cost;
use ridgepoint::measure::cost::ForwardTimer;
use ridgepoint::measure::passes::{Passes, Sample, Sampler};
use ridgepoint::measure::samples::Subject;
use ridgepoint::results::{CostCurveRow, CostRow, Identity, Kind, Mode, ResultsDir, Role, Stamp, read};
use ridgepoint::roofline::Forward;
use ridgepoint::scenario::CostPlan;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tiny::Workplace;

const COST: [&str; 9] = ["cost", "tiny", "--contexts", "64", "--results", "r", "--machine", "m", "--quiet"];
const FOLDER: &str = "r/m/cost-tiny-float32";

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn every_width_has_its_samples_and_analyze_rebuilds_what_follows() {
    let place = Workplace::new();
    let more = ["--widths", "1-8", "--draft", "lookup.toml", "--draft", "skip.toml", "--json"];
    let cost = [&COST[..], &more].concat();
    let first = place.run(&cost);
    assert!(first.status.success(), "{first:?}");
    let folder = place.path(FOLDER);
    let rows = read::<CostRow>(&folder).unwrap();
    // Seven passes over eight widths, the pipelined step and sixteen proposals of each of two drafters.
    assert_eq!(rows.len(), 7 * (8 + 1 + 2 * 16));
    let mut passes: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
    for row in &rows {
        assert!(row.time_ms.is_some_and(|time| time > 0.0) && row.error.is_empty(), "{row:?}");
        assert_eq!((row.context, row.batch, row.machine.as_str(), row.target.as_str()), (64, 1, "m", "tiny"));
        let key = (row.role == Role::Drafter, row.drafter.clone(), row.mode == Mode::Pipelined, row.width);
        assert!(passes.entry(key).or_default().insert(row.pass), "{row:?} is there twice");
    }
    assert!(passes.values().all(|passes| *passes == (0..7).collect()));
    let widths: Vec<u64> = passes.keys().filter(|key| !key.0 && !key.2).map(|key| key.3).collect();
    assert_eq!(widths, (1..=8).collect::<Vec<_>>());

    let text = String::from_utf8(first.stdout.clone()).unwrap();
    let curves: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let drafters: Vec<&str> = curves.iter().map(|curve| curve["curve"]["drafter"].as_str().unwrap()).collect();
    assert_eq!(drafters, ["", "lookup", "skip"]);
    assert_eq!(curves[0]["widths"].as_array().unwrap().len(), 9);

    let files = contents(&folder);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let mut expected = vec![".lock", "cost.csv"];
    expected.extend([
        "cost_changes.csv",
        "cost_curves.csv",
        "cost_models.csv",
        "cost_stretches.csv",
        "cost_widths.csv",
    ]);
    expected.push("environment.json");
    if cfg!(feature = "plot") {
        expected.extend(["cost.svg", "cost_drafters.svg"]);
    }
    expected.sort_unstable();
    assert_eq!(names, expected);
    for name in names.iter().filter(|name| name.contains('_') || name.ends_with("svg")) {
        fs::remove_file(folder.join(name)).unwrap();
    }
    let analyzed = place.run(&["analyze", FOLDER, "--json"]);
    assert_eq!(analyzed.stdout, first.stdout);
    assert_eq!(contents(&folder), files);
    // Nothing is measured again.
    let second = place.run(&cost);
    assert!(String::from_utf8_lossy(&second.stderr).contains("complete; remove it"), "{second:?}");
    assert_eq!((second.stdout, contents(&folder)), (first.stdout, files));
    assert_eq!(Stamp::read(&folder).unwrap().unwrap().launches.len(), 1);
}

/// What MLX reads from the environment changes times unseen.
#[test]
fn variables_of_the_user_are_recorded_and_stay_in_a_folder() {
    let place = Workplace::new();
    let cost = |graphs: Option<&str>| {
        let mut command = place.command(&[&COST[..], &["--widths", "1-2", "--passes", "1"]].concat());
        command.env_remove("MLX_CUDA_GRAPH_CACHE_SIZE").env_remove("MLX_CUDA_SDPA_CACHE_SIZE");
        command.envs(graphs.map(|graphs| ("MLX_CUDA_GRAPH_CACHE_SIZE", graphs))).output().unwrap()
    };
    assert!(cost(Some("7")).status.success());
    let stamp = Stamp::read(&place.path(FOLDER)).unwrap().unwrap();
    let variables = &stamp.launches[0]["variables"];
    // Not those that the program sets for an NVIDIA GPU.
    assert_eq!(
        (&variables["MLX_CUDA_GRAPH_CACHE_SIZE"], variables.get("MLX_CUDA_SDPA_CACHE_SIZE")),
        (&"7".into(), None)
    );
    // As if it had been cut off before its last sample.
    let rows = fs::read_to_string(place.path(FOLDER).join("cost.csv")).unwrap();
    let kept: String = rows.split_inclusive('\n').take(3).collect();
    place.write(&format!("{FOLDER}/cost.csv"), &kept);
    for other in [Some("8"), None] {
        let refused = cost(other);
        let error = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(1) && error.contains("variables is"), "{refused:?}");
    }
    assert!(cost(Some("7")).status.success());
}

#[test]
fn the_text_has_the_table_the_curve_and_a_sentence() {
    let place = Workplace::new();
    let output = place.run(&[&COST[..], &["--widths", "1-8", "--batches", "1,2", "--spec", "sheet.toml"]].concat());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    place.write(
        "sheet.toml",
        "description = \"d\"\nsource = \"s\"\nbandwidth_gb_s = 1.0\n[matrix_tflop_s]\nfloat32 = 0.064",
    );
    let output = place.run(&[&COST[..], &["--widths", "1-8", "--batches", "1,2", "--spec", "sheet.toml"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "tiny float32, context 64, batch 1: 8 widths, 63 samples",
        "tiny float32, context 64, batch 2: 8 widths, 63 samples",
        "ms a further token",
        "cliffs (95 % together)",
        "shape: ",
        "data sheet of sheet: 64.0 FLOP/byte (1.00 GB/s, 64.0 GFLOP/s), beyond the widths measured",
        "A forward of 8 tokens takes ",
    ] {
        assert!(text.contains(part), "'{part}' is not in {text}");
    }
    let curves = read::<CostCurveRow>(&place.path(FOLDER)).unwrap();
    assert_eq!(curves.iter().map(|row| row.batch).collect::<Vec<_>>(), [1, 2]);
    assert!(curves.iter().all(|row| row.pipelined_ms.is_some() && row.spec == "sheet" && row.matrix_gflop_s.is_some()));
}

#[test]
fn a_killed_run_resumes_without_loss_or_repetition() {
    let place = Workplace::new();
    let cost = [&COST[..], &["--widths", "1-32", "--passes", "40", "--draft", "skip.toml"]].concat();
    let rows = 40 * (32 + 1 + 16);
    let mut cut = 0;
    for round in 0..5 {
        let mut child = place.command(&cost).stdout(std::process::Stdio::null()).spawn().unwrap();
        // The ceilings take two seconds or more.
        let deadline = Instant::now() + Duration::from_secs(60);
        let before = read::<CostRow>(&place.path(FOLDER)).map_or(0, |rows| rows.len());
        let lines = || {
            fs::read(place.path(FOLDER).join("cost.csv")).map_or(0, |text| text.iter().filter(|b| **b == b'\n').count())
        };
        while child.try_wait().unwrap().is_none() && lines() <= before + 100 * (round + 1) && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            cut += 1;
        }
        child.wait().unwrap();
    }
    assert!(cut >= 3, "only {cut} of 5 were killed");
    let last = place.run(&cost);
    assert!(last.status.success(), "{last:?}");
    let found = read::<CostRow>(&place.path(FOLDER)).unwrap();
    let key = |row: &CostRow| (row.role == Role::Drafter, row.mode == Mode::Pipelined, row.width, row.pass);
    let keys: BTreeSet<_> = found.iter().map(key).collect();
    assert_eq!((found.len(), keys.len()), (rows, rows));
    assert!(found.iter().map(|row| row.launch).collect::<BTreeSet<_>>().len() > 3);
}

#[test]
fn a_short_budget_stops_in_time_and_says_so() {
    let place = Workplace::new();
    let started = Instant::now();
    let output = place.run(&[&COST[..], &["--widths", "1-16", "--passes", "10000", "--budget", "6s"]].concat());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{message}");
    assert!(message.contains("note: the time budget ended in pass ") && message.contains(" of 10000;"), "{message}");
    // Far less than all the passes take; a test machine may be busy.
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    let passes = read::<CostRow>(&place.path(FOLDER)).unwrap().iter().map(|row| row.pass).max().unwrap();
    assert!(passes < 9999, "{passes}");
}

fn plan(widths: &str) -> CostPlan {
    let range = |text: &str| text.parse().unwrap();
    CostPlan {
        model: "tiny".to_string(),
        widths: range(widths),
        contexts: range("32"),
        batches: range("1"),
        passes: 7,
        drafters: BTreeMap::new(),
        draft_lengths: range("1-16"),
        seed: 3,
        confidence: 0.95,
        smallest_change: 0.05,
        spec: None,
    }
}

const SLOW: u64 = 21;
/// Seconds that every width takes as well; nobody waits for them. A forward of this model alone is too short to be steady, and
/// a hiccup of a busy machine is shorter than these.
const STEADY: f64 = 1.0;

struct Dear<'a>(ForwardTimer<'a>);
impl Sampler for Dear<'_> {
    fn time(&mut self, row: &CostRow, _: Option<usize>) -> anyhow::Result<Sample> {
        let seconds = self.0.forward(row.width as usize)?;
        Ok(Ok(seconds + if row.width == SLOW { 2.0 * STEADY } else { STEADY }))
    }
    fn go_on(&mut self, _: u64) -> anyhow::Result<bool> {
        Ok(true)
    }
    fn most_bandwidth(&self, _: &CostRow) -> f64 {
        f64::INFINITY
    }
}

/// Real forwards, one of which takes a second more: it is found as a cliff with the right size, as a fall after it, and padded.
#[test]
fn a_dear_width_is_found_as_a_cliff_and_padded() {
    mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
    let place = Workplace::new();
    let (_, model) = ridgepoint::model::load(&place.path("tiny"), &Default::default()).unwrap();
    let plan = plan("1-40");
    let identity =
        Identity { machine: "m".to_string(), target: "tiny".to_string(), kind: Kind::Cost, ..Identity::default() };
    let results = ResultsDir::open(&place.path("slow"), &identity, &plan).unwrap();
    let subject = Subject {
        machine: "m".to_string(),
        target: "tiny".to_string(),
        precision: model.precision(),
        shape: model.shape(),
        launch: 0,
    };
    let rows: Vec<CostRow> = plan
        .widths
        .values()
        .iter()
        .map(|width| subject.forward(Forward { context: 32, width: *width as u64, batch: 1 }))
        .collect();
    let mut sampler = Dear(ForwardTimer::new(&model, &[1, 2, 3], 32, 40, 1).unwrap());
    let passes = Passes { rows: &rows, passes: 7, seed: plan.seed };
    passes.run(&mut results.table().unwrap(), &mut sampler, &mut ()).unwrap();

    let derived = derive_cost(&place.path("slow"), false).unwrap();
    let curve = &derived.curves[0];
    let found: Vec<_> = curve.changes.iter().map(|row| (row.kind.as_str(), row.from_width, row.to_width)).collect();
    assert_eq!(found, [("cliff", SLOW - 1, SLOW), ("fall", SLOW, SLOW + 1)]);
    let cliff = &curve.changes[0];
    assert!(cliff.low <= cliff.relative && cliff.relative <= cliff.high && cliff.p_holm < 0.05, "{cliff:?}");
    assert!((0.8..1.1).contains(&cliff.relative), "{cliff:?}");
    let slow = curve.widths.iter().find(|row| row.width == SLOW).unwrap();
    assert!(slow.pad_to.is_some_and(|width| width > SLOW) && slow.pad_saving.unwrap() > 0.3, "{slow:?}");
    assert_eq!(curve.row.cliffs, Some(1));
}

#[test]
fn what_cannot_be_measured_is_one_line() {
    let place = Workplace::new();
    for (flags, parts) in [
        (&["--widths", "0-4"][..], &["--widths: must be 1 to 128, got 0"][..]),
        (&["--widths", "1-129"], &["--widths: must be 1 to 128, got 129"]),
        (&["--widths", "8-1"], &["--widths", "'8-1' runs backwards; write the smaller end first"]),
        (&["--widths", ""], &["--widths"]),
        (&["--contexts", "1..4"], &["--contexts", "is not a range; write a range such as"]),
        (
            &["--contexts", "250"],
            &["tiny: 378 tokens of context and forward exceed its context of 256; lower --contexts"],
        ),
        (&["--batches", "0"], &["--batches: must be 1 to 1024, got 0"]),
        (&["--passes", "0"], &["--passes: must be 1 to 10000, got 0"]),
        (&["--draft-lengths", "0-3"], &["--draft-lengths: must be 1 to 127, got 0"]),
        (&["--confidence", "1.5"], &["--confidence: must be 0.5 to 0.9999, got 1.5"]),
        (&["--spec", "abacus"], &["--spec 'abacus': there is no scenarios/machines/abacus.toml"]),
        (&["--draft", "none.toml"], &["none.toml: cannot read this draft file"]),
        (&["--draft", "skip.toml", "--draft", "skip.toml"], &["--draft skip.toml: a second drafter named 'skip'"]),
        (&["--budget", "soon"], &["--budget", "'soon' is not a time"]),
        (&["--dtype", "int8"], &["--dtype", "'int8' is no dtype"]),
        (&["--quantize", "7"], &["--quantize", "7 bits"]),
        (&["--machine", "../x"], &["--machine '../x'"]),
    ] {
        // The later of two of the same flag would be refused as a repeat.
        let base: &[&str] =
            if flags[0] == "--machine" { &["cost", "tiny"] } else { &["cost", "tiny", "--machine", "m"] };
        place.refused(&[base, flags].concat(), 2, parts);
    }
    place.write("deep.toml", "kind = \"layer-skip\"\nlayers = 9\n");
    place.refused(
        &["cost", "tiny", "--contexts", "64", "--draft", "deep.toml"],
        2,
        &["deep.toml: layers: 9 is not below"],
    );
    place.refused(&["cost", "huge"], 2, &["'huge'"]);
    place.refused(&["cost"], 2, &["<MODEL>"]);
}

#[test]
fn a_folder_of_costs_is_no_other_commands() {
    let place = Workplace::new();
    let cost = [&COST[..], &["--widths", "1-2", "--passes", "2"]].concat();
    assert!(place.run(&cost).status.success());
    place.refused(
        &[&COST[..], &["--widths", "1-2", "--passes", "3"]].concat(),
        1,
        &["holds other results (scenario_sha256"],
    );
    let map = ["analyze", FOLDER, "r"];
    place.refused(&map, 2, &["holds verification costs, not decisions"]);
    let csv = place.path(FOLDER).join("cost.csv");
    let text = fs::read_to_string(&csv).unwrap();
    fs::write(&csv, format!("{text}{}\n", text.lines().last().unwrap())).unwrap();
    place.refused(&["analyze", FOLDER], 1, &["cost.csv: lines ", "are the same sample"]);
}

/// Every derived number that pandas, numpy and scipy can compute on their own.
#[test]
fn pandas_reads_the_files_and_finds_the_same() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let usable = Command::new(&python).args(["-c", "import pandas, scipy"]).output();
    if !usable.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no pandas and scipy in .venv");
        return;
    }
    let place = Workplace::new();
    let cost = [&COST[..], &["--widths", "1-12", "--batches", "1,3", "--draft", "skip.toml"]].concat();
    assert!(place.run(&cost).status.success());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/oracle/cost.py");
    let output = Command::new(&python).args(["-W", "error"]).arg(script).arg(place.path(FOLDER)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "3 curves agree\n");
}
