//! A sweep in parts, and folders that cannot be written to: nothing is lost, and what is wrong is said in one line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Four operating points with two drafters: eight cells.
const SCENARIO: &str = r#"
name = "small"
drafts = ["d", "e"]
draft_lengths = "1-4"
tune_prompts = 8
confirm_prompts = 4
max_tokens = 16
arms = 2
seed = 7
[target]
model = "large"
[sweep]
precisions = ["bfloat16", "4:64 bfloat16"]
contexts = "64, 1000"
[simulated]
bandwidth_gb_s = 100
matrix_tflop_s = 5
noise = { prompt_sd = 0.1, timing_sd = 0.02, autocorrelation = 0.4 }
[simulated.targets.large]
parameters_g = 4.0
cache_bytes_per_token = 100000
overhead_ms = 1.0
growth = { shape = "kink", kink = 4, token_ms = 0.5 }
[simulated.drafters.d]
token_ms = 0.2
acceptance = [0.8, 0.7]
[simulated.drafters.e]
token_ms = 0.0
acceptance = [0.4]
"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::write(place.path("small.toml"), SCENARIO).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ridgepoint")).current_dir(self.0.path()).args(arguments).output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> Output {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        output
    }

    fn shard(&self, shard: &str) {
        self.done(&["sweep", "small.toml", "--quiet", "--shard", shard]);
    }

    /// Refused with this exit code in one line that has all the parts.
    fn refused(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let output = self.run(arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        parts.iter().for_each(|part| assert!(message.contains(part), "'{part}' is not in {message}"));
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Every file below a folder but hidden ones.
fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.file_name().unwrap().to_string_lossy().starts_with('.') {
                found.insert(path.strip_prefix(root).unwrap().to_path_buf(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn same(found: &Path, expected: &Path) {
    let (found, expected) = (contents(found), contents(expected));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, bytes) in &expected {
        assert!(found[path] == *bytes, "{}: {}", path.display(), String::from_utf8_lossy(&found[path]));
    }
}

fn parts(of: usize) -> Vec<String> {
    (1..=of).map(|index| format!("runs/simulated/small-shard-{index}-of-{of}")).collect()
}

#[test]
fn parts_together_are_the_whole_sweep() {
    let whole = Place::new();
    whole.done(&["sweep", "small.toml", "--quiet"]);
    for of in [1, 3, 8] {
        let place = Place::new();
        // In any order.
        (1..=of).rev().for_each(|index| place.shard(&format!("{index}/{of}")));
        let shards = parts(of);
        let arguments: Vec<&str> = ["merge"].into_iter().chain(shards.iter().map(String::as_str)).collect();
        place.done(&arguments);
        same(&place.path("runs/simulated/small"), &whole.path("runs/simulated/small"));
        // The whole goes on as if it had been one.
        place.done(&["sweep", "small.toml", "--quiet"]);
        same(&place.path("runs/simulated/small"), &whole.path("runs/simulated/small"));
    }
}

#[test]
fn a_part_has_its_own_cells_only() {
    let place = Place::new();
    let plan = place.done(&["sweep", "small.toml", "--shard", "2/3", "--dry-run"]);
    let plan = text(&plan.stdout);
    assert!(plan.contains("small: 3 cells, 0 done, 3 to run"), "{plan}");
    for (cell, there) in [("001-", false), ("002-", true), ("003-", false), ("005-", true), ("008-", true)] {
        assert_eq!(plan.contains(cell), there, "{cell}: {plan}");
    }
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let place = Place::new();
    (1..=3).for_each(|index| place.shard(&format!("{index}/3")));
    place.shard("1/2");
    let shards = parts(3);
    let [a, b, c] = [0, 1, 2].map(|place| shards[place].as_str());
    place.refused(&["merge", a, c], 1, &["cell 2 of 8 was not run; run sweep --shard 2/3 to its end"]);
    place.refused(&["merge", a, b, b], 1, &[b, "part 2/3 is given twice"]);
    place.refused(&["merge", a, "runs/simulated/small-shard-1-of-2"], 1, &["is part 1/2 of 8 cells, not of 3 parts"]);
    place.refused(&["merge", a, "runs/simulated"], 2, &["is no part of a sweep; name folders of sweep --shard"]);
    place.refused(&["merge", a, "none"], 2, &["none: is no part of a sweep"]);
    place.refused(&["sweep", "small.toml", "--shard", "4/3"], 2, &["'4/3' is no part; write 1/4"]);

    let stamp = place.path(b).join("environment.json");
    let original = fs::read_to_string(&stamp).unwrap();
    for (from, to, expected) in [
        ("\"mlx\": \"simulated\"", "\"mlx\": \"0.32.2 cpu\"", "mlx is '0.32.2 cpu', that of"),
        ("\"machine\": \"simulated\"", "\"machine\": \"other\"", "machine is 'other', that of"),
        ("\"simulated\": true", "\"simulated\": true, \"ridgepoint_version\": \"9\"", ""),
    ] {
        assert!(original.contains(from), "{original}");
        fs::write(&stamp, original.replace(from, to)).unwrap();
        if expected.is_empty() {
            // One version alone differs from nothing; two do.
            let other = place.path(c).join("environment.json");
            let text = fs::read_to_string(&other).unwrap();
            fs::write(
                &other,
                text.replace("\"simulated\": true", "\"simulated\": true, \"ridgepoint_version\": \"8\""),
            )
            .unwrap();
            place.refused(&["merge", a, b, c], 1, &["several machines or versions (ridgepoint_version is \"9\""]);
            fs::write(&other, text).unwrap();
        } else {
            place.refused(&["merge", a, b, c], 1, &[expected, "merge parts of one sweep, machine and version"]);
        }
    }
    fs::write(&stamp, original).unwrap();
    assert!(!place.path("runs/simulated/small").exists());

    place.done(&["merge", a, b, c]);
    let before = contents(&place.path("runs/simulated/small"));
    place.refused(&["merge", a, b, c], 1, &["runs/simulated/small: is there already"]);
    assert_eq!(contents(&place.path("runs/simulated/small")), before);
    place.done(&["merge", c, a, b, "--out", "elsewhere"]);
}

#[test]
fn a_second_process_on_a_folder_is_refused_and_a_dead_one_keeps_nobody_out() {
    let place = Place::new();
    place.shard("1/3");
    let folder = "runs/simulated/small-shard-1-of-3";
    let lock = fs::File::options().write(true).open(place.path(folder).join(".lock")).unwrap();
    lock.lock().unwrap();
    let before = contents(&place.path(folder));
    let says = "another ridgepoint is writing to this results folder; wait for it or name another with --results";
    place.refused(&["sweep", "small.toml", "--quiet", "--shard", "1/3"], 1, &[folder, says]);
    place.refused(&["merge", folder], 1, &[folder, says]);
    assert_eq!(contents(&place.path(folder)), before);
    // The file stays, the lock goes with whoever held it.
    drop(lock);
    assert!(place.path(folder).join(".lock").exists());
    place.shard("1/3");
}

/// A limit on file sizes stands for a full disk: writing fails at any byte, and goes on when there is room again.
#[cfg(unix)]
#[test]
fn a_sweep_that_runs_out_of_disk_goes_on_where_it_was() {
    let whole = Place::new();
    whole.done(&["sweep", "small.toml", "--quiet"]);
    let place = Place::new();
    let mut stopped = 0;
    // In blocks of 1024 bytes; the largest file has some 15 kB.
    for blocks in [1, 2, 3, 4, 5, 6, 8, 10] {
        let limited = format!("ulimit -f {blocks}; exec \"$0\" sweep small.toml --quiet");
        let output = Command::new("bash")
            .args(["-c", &limited, env!("CARGO_BIN_EXE_ridgepoint")])
            .current_dir(place.0.path())
            .output()
            .unwrap();
        let message = text(&output.stderr);
        if !output.status.success() {
            assert_eq!(output.status.code(), Some(1), "{message}");
            assert!(message.lines().count() == 1 && message.contains("cannot write"), "{message}");
            assert!(message.contains("free some disk space") || message.contains("free space"), "{message}");
            stopped += 1;
        }
    }
    assert!(stopped >= 3, "{stopped}");
    place.done(&["sweep", "small.toml", "--quiet"]);
    same(&place.path("runs"), &whole.path("runs"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_made_or_written_is_one_line() {
    let place = Place::new();
    place.refused(
        &["sweep", "small.toml", "--quiet", "--results", "/proc/ridgepoint"],
        1,
        &["cannot create the results folder /proc/ridgepoint/simulated/small"],
    );
    fs::write(place.path("file"), "").unwrap();
    place.refused(
        &["sweep", "small.toml", "--quiet", "--results", "file"],
        1,
        &["cannot create the results folder file/"],
    );
    // Whoever may write anywhere is not kept out by permissions.
    let id = Command::new("id").arg("-u").output().unwrap();
    if text(&id.stdout).trim() != "0" {
        use std::os::unix::fs::PermissionsExt;
        place.done(&["sweep", "small.toml", "--quiet"]);
        let folder = place.path("runs/simulated/small");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
        place.refused(&["sweep", "small.toml", "--quiet"], 1, &["cannot write"]);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
}
