//! `ridgepoint sweep` as a program on a made-up machine: what it writes, that kills change nothing, and what fails.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ridgepoint::results::{CellRow, CellState, CostRow, Mode, Role, RunRow, TraceRow, read, read_raw};
use ridgepoint::scenario::load;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Two targets, one of which reads no long text, at two precisions and two contexts: eight cells, two of which cannot be.
const SCENARIO: &str = r#"
name = "small"
drafts = ["d"]
draft_lengths = "1-4"
tune_prompts = 8
confirm_prompts = 4
max_tokens = 16
arms = 2
seed = 7
[target]
model = "large"
[sweep]
targets = ["large", "short"]
precisions = ["bfloat16", "4:64 bfloat16"]
contexts = "64, 1000"
[simulated]
bandwidth_gb_s = 100
matrix_tflop_s = 5
noise = { prompt_sd = 0.1, timing_sd = 0.02, autocorrelation = 0.4, drift = 0.05, hiccup_chance = 0.02, hiccup_size = 0.5 }
[simulated.targets.large]
parameters_g = 4.0
cache_bytes_per_token = 100000
overhead_ms = 1.0
growth = { shape = "kink", kink = 4, token_ms = 0.5 }
[simulated.targets.short]
parameters_g = 0.5
overhead_ms = 3.0
wait_ms = 0.5
growth = { shape = "linear", token_ms = 0.5 }
max_context = 500
[simulated.drafters.d]
token_ms = 0.2
acceptance = [0.8, 0.7]
"#;
const CELLS: usize = 8;
const KILLS: usize = 50;

struct Place(tempfile::TempDir);

impl Place {
    fn new(scenario: &str) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::write(place.path("small.toml"), scenario).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ridgepoint"));
        command.current_dir(self.0.path()).args(arguments);
        command
    }

    fn sweep(&self, arguments: &[&str]) -> Output {
        self.command(&[&["sweep", "small.toml"], arguments].concat()).output().unwrap()
    }

    fn cells(&self) -> Vec<CellRow> {
        read_raw(&self.path("runs/simulated/small")).unwrap()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Every file below a folder but hidden ones (a lock, what a killed write left).
fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
            if path.is_dir() {
                folders.push(path);
            } else if !hidden {
                found.insert(path.strip_prefix(root).unwrap().to_path_buf(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_sweep_killed_fifty_times_is_an_undisturbed_one() {
    let undisturbed = Place::new(SCENARIO);
    let started = Instant::now();
    assert_eq!(undisturbed.sweep(&["--quiet"]).status.code(), Some(1));
    let whole = started.elapsed();
    let expected = contents(&undisturbed.path("runs"));
    assert_eq!(expected.iter().filter(|(path, _)| path.ends_with("runs.csv")).count(), CELLS - 2);

    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut kills, mut finished) = (0, 0);
    let mut place = Place::new(SCENARIO);
    let check = |place: &Place| {
        let found = contents(&place.path("runs"));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (path, bytes) in &expected {
            assert!(found[path] == *bytes, "{}: {}", path.display(), text(&found[path]));
        }
    };
    while kills < KILLS {
        let mut child = place.command(&["sweep", "small.toml", "--quiet"]);
        let mut child = child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        // Mostly early, so that many kills fall into one sweep.
        std::thread::sleep(whole.mul_f64(rng.random_range(0.0..0.4)).max(Duration::from_micros(200)));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
            child.wait().unwrap();
            continue;
        }
        check(&place);
        finished += 1;
        place = Place::new(SCENARIO);
    }
    assert_eq!(place.sweep(&["--quiet"]).status.code(), Some(1));
    check(&place);
    eprintln!("{kills} kills over {} sweeps", finished + 1);
}

/// What a kill right after the n-th row leaves, for every n, half a row more now and then: kills at random moments seldom fall
/// between two rows, as those of a made-up machine are written within a millisecond.
#[test]
fn a_sweep_stopped_after_any_row_goes_on_with_the_next() {
    let one_cell = SCENARIO
        .lines()
        .filter(|line| !["targets", "precisions", "contexts"].iter().any(|axis| line.starts_with(axis)));
    let one_cell = one_cell.collect::<Vec<_>>().join("\n");
    let place = Place::new(&one_cell);
    assert!(place.sweep(&["--quiet"]).status.success());
    let folder = place.path("runs/simulated/small");
    let expected = contents(&folder);
    // In the order in which they are written.
    let files = ["prompts.csv", "cost.csv", "trace.csv", "runs.csv"].map(|file| PathBuf::from("001").join(file));
    let mut cuts = 0;
    for (stage, file) in files.iter().enumerate() {
        let whole = text(&expected[file]);
        let ends: Vec<usize> = whole.match_indices('\n').map(|(place, _)| place + 1).collect();
        // A prompt's trace is written at once.
        let step = if stage == 2 { 7 } else { 1 };
        for (row, end) in ends.iter().enumerate().step_by(step) {
            fs::remove_dir_all(&folder).unwrap();
            fs::create_dir_all(folder.join("001")).unwrap();
            fs::write(folder.join("environment.json"), &expected[Path::new("environment.json")]).unwrap();
            for name in [&PathBuf::from("001/environment.json")].into_iter().chain(&files[..stage]) {
                fs::write(folder.join(name), &expected[name]).unwrap();
            }
            let torn = if row % 3 == 0 { (end + 9).min(whole.len()) } else { *end };
            fs::write(folder.join(file), &whole[..torn]).unwrap();
            assert!(place.sweep(&["--quiet"]).status.success());
            assert!(contents(&folder) == expected, "{} cut after line {row}", file.display());
            cuts += 1;
        }
    }
    assert!(cuts > 100, "{cuts}");
}

#[test]
fn cells_that_cannot_be_leave_a_row_and_the_others_run() {
    let place = Place::new(SCENARIO);
    let output = place.sweep(&[]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.ends_with("2 of 8 cells failed; see runs/simulated/small/cells.csv\n"), "{message}");
    let rows = place.cells();
    let names: Vec<&str> = rows.iter().map(|row| &*row.cell).collect();
    assert_eq!(names[0], "001-large-bfloat16-context64");
    assert_eq!((names.len(), names[7]), (CELLS, "008-short-4-64-bfloat16-context1000"));
    for row in &rows {
        let impossible = row.target == "short" && row.context == Some(1000);
        assert_eq!(row.state, if impossible { CellState::Failed } else { CellState::Done });
        assert_eq!(row.error.contains("exceed its context of 500"), impossible, "{}", row.error);
        assert_eq!((row.seconds == 0.0, row.attempt), (impossible, 0));
    }
    // The map holds the cells that are done, and contrasts of context, precision and target.
    let folder = place.path("runs/simulated/small");
    let map = fs::read_to_string(folder.join("regimes.csv")).unwrap();
    assert_eq!(map.lines().count(), 1 + CELLS - 2);
    let contrasts = fs::read_to_string(folder.join("contrasts.csv")).unwrap();
    assert!(contrasts.contains("d,context,") && contrasts.contains("d,model,"), "{contrasts}");
    let analyzed = place.command(&["analyze", "runs/simulated/small"]).output().unwrap();
    assert!(analyzed.status.success());
    assert_eq!(text(&analyzed.stdout), text(&output.stdout));

    // Nothing is run again unless asked for, and then only what failed.
    let before = contents(&place.path("runs"));
    assert_eq!(place.sweep(&["--quiet"]).status.code(), Some(1));
    assert_eq!(contents(&place.path("runs")), before);
    assert_eq!(place.sweep(&["--quiet", "--retry"]).status.code(), Some(1));
    let attempts: Vec<u64> = place.cells().iter().map(|row| row.attempt).collect();
    assert_eq!(attempts, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
}

#[test]
fn rows_follow_the_declared_model() {
    let noiseless = SCENARIO.lines().filter(|line| !line.starts_with("noise")).collect::<Vec<_>>().join("\n");
    let noiseless = noiseless.replace(
        "matrix_tflop_s = 5",
        "matrix_tflop_s = 5\nnoise = { prompt_sd = 0, interaction_sd = 0, timing_sd = 0 }",
    );
    // Enough for a recommendation, which is then confirmed.
    let place = Place::new(&noiseless.replace("tune_prompts = 8", "tune_prompts = 40"));
    place.sweep(&["--quiet"]);
    let folder = place.path("runs/simulated/small/003-large-4-64-bfloat16-context64");
    let costs: Vec<CostRow> = read(&folder).unwrap();
    // Widths 1 to 5 and the pipelined step of the target, four proposals, five passes.
    assert_eq!(costs.len(), 5 * (5 + 1 + 4));
    for row in costs.iter().filter(|row| row.role == Role::Target && row.mode == Mode::Sync) {
        // 4 G weights of 4.5 bits and 64 + b tokens of cache at 100 GB/s, 1 ms, and 0.5 ms a token beyond 4.
        let bytes = 4e9 * 4.5 / 8.0 + 1e5 * (64 + row.width) as f64;
        let expected = bytes / 100e6 + 1.0 + 0.5 * row.width.saturating_sub(4) as f64;
        assert!((row.time_ms.unwrap() - expected).abs() < 1e-9, "{row:?} {expected}");
        assert_eq!((row.bytes as f64, row.flops), (bytes, 8e9 * row.width as f64));
    }
    let traced: Vec<TraceRow> = read(&folder).unwrap();
    assert_eq!(traced.len(), 40 * 16);
    // Each round of a run drafts γ and commits what is accepted and one more.
    let runs: Vec<RunRow> = read(&folder).unwrap();
    assert!(runs.iter().any(|run| run.split == "confirm"));
    for run in &runs {
        assert_eq!(run.drafted, run.rounds * run.draft_length);
        assert_eq!(run.accepted + run.rounds - run.cut_off, 16);
        let round_ms = match run.draft_length {
            0 => 22.5 + 0.065 + 1.0,
            length => {
                22.5 + 0.001 * (65 + length) as f64 + 1.0 + 0.2 * length as f64 + if length == 4 { 0.5 } else { 0.0 }
            }
        };
        assert!((1e3 * run.seconds.unwrap() - run.rounds as f64 * round_ms).abs() < 1e-9, "{run:?} {round_ms}");
    }
    for pair in runs.windows(2) {
        assert!((pair[0].started_s + pair[0].seconds.unwrap() - pair[1].started_s).abs() < 1e-9);
    }
}

#[test]
fn a_dry_run_prints_the_cells_and_writes_nothing() {
    let place = Place::new(SCENARIO);
    let output = place.sweep(&["--dry-run"]);
    assert!(output.status.success());
    let plan = text(&output.stdout);
    assert!(plan.contains("small: 8 cells, 0 done, 8 to run: simulated"), "{plan}");
    assert!(plan.contains("006-short-bfloat16-context1000"), "{plan}");
    assert!(!place.path("runs").exists());
    place.sweep(&["--quiet"]);
    let plan = place.sweep(&["--dry-run"]).stdout;
    let plan = text(&plan);
    assert!(plan.contains("8 cells, 6 done, 2 failed (--retry tries again), 0 to run: nothing to run"), "{plan}");
    let retried = place.sweep(&["--dry-run", "--retry"]).stdout;
    assert!(text(&retried).contains("6 done, 2 to run"), "{}", text(&retried));
}

#[test]
fn a_cell_may_be_the_pilot_of_a_plan() {
    let place = Place::new(SCENARIO);
    place.sweep(&["--quiet"]);
    let pilot = "runs/simulated/small/001-large-bfloat16-context64";
    let output = place.command(&["plan", "small.toml", "--detect", "2%", "--pilot", pilot, "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["drafters"][0]["pilot_prompts"], 8);
}

#[test]
fn another_scenario_in_the_same_folder_is_refused() {
    let place = Place::new(SCENARIO);
    place.sweep(&["--quiet"]);
    let before = contents(&place.path("runs"));
    fs::write(place.path("small.toml"), SCENARIO.replace("seed = 7", "seed = 8")).unwrap();
    let output = place.sweep(&["--quiet"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("holds other results (scenario_sha256"), "{}", text(&output.stderr));
    assert_eq!(contents(&place.path("runs")), before);
}

#[test]
fn every_bad_field_is_refused_in_one_line_before_anything_runs() {
    for (from, to, expected) in [
        ("contexts = \"64, 1000\"", "context = \"64\"", "sweep.context: unknown field `context`"),
        ("contexts = \"64, 1000\"", "contexts = \"9-1\"", "sweep.contexts: '9-1' runs backwards"),
        ("contexts = \"64, 1000\"", "batches = 0", "sweep.batches: must be 1 to 1024, got 0"),
        ("\"4:64 bfloat16\"]", "\"int8\"]", "sweep.precisions[1]: 'int8' is no precision"),
        ("\"4:64 bfloat16\"]", "\"bfloat16\"]", "sweep.precisions: has 'bfloat16' twice"),
        ("\"short\"]", "\"tiny\"]", "simulated.targets: has no 'tiny', which is a target"),
        ("\"short\"]", "\"large\"]", "sweep.targets: names 'large' twice"),
        ("drafts = [\"d\"]", "drafts = [\"e\"]", "simulated.drafters: has no 'e', which is among drafts"),
        ("bandwidth_gb_s = 100", "bandwidth_gb_s = 0", "simulated.bandwidth_gb_s: must be above 0, got 0"),
        (
            "acceptance = [0.8, 0.7]",
            "acceptance = [0.8, 1.7]",
            "simulated.drafters.acceptance: must be 0 to 1, got 1.7",
        ),
        ("acceptance = [0.8, 0.7]", "acceptance = []", "simulated.drafters.acceptance: is empty"),
        ("drift = 0.05", "drift = -2", "simulated.noise: drift"),
        ("drift = 0.05", "drifts = 2", "simulated.noise.drifts: unknown field `drifts`"),
        ("shape = \"linear\"", "shape = \"cubic\"", "unknown variant `cubic`"),
        ("wait_ms = 0.5", "wait_ms = nan", "simulated.targets.wait_ms: must be at least 0, got NaN"),
        ("arms = 2", "arms = 2\nprompts = \"p.jsonl\"", "prompts: a [simulated] machine makes up its own"),
        ("arms = 2", "arms = 2\nfill_context = true", "fill_context: needs a context to fill"),
        ("arms = 2", "arms = 2\ntemperature = 0.5", "temperature: tokens are accepted with declared chances"),
    ] {
        assert!(SCENARIO.contains(from), "{from}");
        let place = Place::new(&SCENARIO.replace(from, to));
        let output = place.sweep(&[]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{to}: {message}");
        assert!(message.starts_with("ridgepoint: small.toml:") && message.contains(expected), "{to}: {message}");
        assert!(message.lines().count() == 1 && output.stdout.is_empty() && !place.path("runs").exists(), "{message}");
    }
}

#[test]
fn the_committed_simulated_sweep_runs_whole() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = root.join("scenarios/sweep-simulated.toml");
    let cells = load(&file).unwrap().cells().len();
    let place = Place::new("");
    let output = place.command(&["sweep", file.to_str().unwrap(), "--quiet", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["cells"].as_array().unwrap().len(), cells);
    let regimes = lines[1]["regimes"].as_array().unwrap();
    assert_eq!(regimes.len(), cells);
    let bound: std::collections::BTreeSet<&str> = regimes.iter().map(|row| row["regime"].as_str().unwrap()).collect();
    assert!(
        ["compute-bound", "memory-bound", "overhead-bound"].iter().all(|regime| bound.contains(regime)),
        "{bound:?}"
    );
}

#[cfg(not(feature = "mlx"))]
#[test]
fn without_mlx_a_sweep_of_models_says_what_to_do() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/sweep-cpu.toml");
    let place = Place::new("");
    let output = place.command(&["sweep", file.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("this build cannot run models; build it with MLX"),
        "{}",
        text(&output.stderr)
    );
}
