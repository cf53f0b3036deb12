//! Bad input of `tune`, as somebody meets it on the command line: one line that names the file and the field and says
//! what to do, the right exit code, and nothing left behind.
#![cfg(feature = "mlx")]

use crate::tiny::{Workplace, check_refusal};
use std::fs::{self, File};

#[test]
fn fields_of_a_scenario() {
    let place = Workplace::new();
    for (from, to, parts) in [
        ("max_tokens = 8", "max_token = 8", &["line 7", "unknown field `max_token`"][..]),
        ("max_tokens = 8", "max_tokens = \"8\"", &["line 7: max_tokens: invalid type: string"]),
        ("max_tokens = 8", "max_tokens = 0", &["max_tokens: must be 2 to"]),
        ("max_tokens = 8", "max_tokens = -8", &["max_tokens"]),
        ("max_tokens = 8", "max_tokens = 300", &["prompt 'p0'", "context of 256", "lower the number of tokens"]),
        (
            "max_tokens = 8",
            "max_tokens = 8\ncontext = 500",
            &["changed.toml: context", "504 tokens", "its context of 256"],
        ),
        ("max_tokens = 8", "max_tokens = 8\nwidths = \"0-4\"", &["widths: must be 1 to 128, got 0"]),
        ("max_tokens = 8", "max_tokens = 8\ntemperature = 1e-5", &["temperature: must be 0.0001 to 10", "0 is greedy"]),
        ("max_tokens = 8", "max_tokens = 8\ntemperature = -1", &["temperature: must be 0.0001 to 10"]),
        ("max_tokens = 8", "max_tokens = 8\ntexts_per_prompt = 2", &["texts_per_prompt: greedy decoding has one text"]),
        (
            "max_tokens = 8",
            "max_tokens = 8\ntemperature = 1\ntexts_per_prompt = 0",
            &["texts_per_prompt: must be 1 to 1000"],
        ),
        ("\"1-3\"", "\"3-1\"", &["draft_lengths: '3-1' runs backwards; write the smaller end first"]),
        ("\"1-3\"", "\"1..3\"", &["draft_lengths: '1..3' is not a range; write a range such as"]),
        ("\"1-3\"", "true", &["draft_lengths", "a range such as"]),
        ("\"1-3\"", "\"1-200\"", &["draft_lengths: must be 1 to 127, got 200"]),
        ("tune_prompts = 3", "tune_prompts = 2", &["tune_prompts: must be 3 to"]),
        ("tune_prompts = 3", "tune_prompts = 4", &["tune_prompts + confirm_prompts = 7, but 'p.jsonl' has 6"]),
        ("p.jsonl", "q.jsonl", &["prompts: 'q.jsonl' is neither beside this file"]),
        ("skip.toml", "jump.toml", &["drafts[1]: 'jump.toml' is neither beside this file"]),
        ("\"tiny\"", "\"huge\"", &["target.model: there is no model 'huge'; fetch it"]),
        ("\"tiny\"", "\"hf://org/name\"", &["hf://org/name", "run: ridgepoint fetch hf://org/name"]),
        ("\"tiny\"", "\"tiny\"\ndtype = \"float8\"", &["target.dtype: unknown variant `float8`"]),
        ("\"10s\"", "\"soon\"", &["time_budget: 'soon' is not a time"]),
        ("[target]", "[target", &["line 9"]),
    ] {
        place.change_scenario(from, to);
        place.refused(&["tune", "changed.toml"], 2, parts);
    }
    place.refused(&["tune", "absent.toml"], 2, &["absent.toml: cannot read this scenario", "check the path"]);
    place.refused(&["tune", "tiny"], 2, &["tiny: is a folder"]);
    place.refused(&["tune"], 2, &["<SCENARIO>"]);
}

#[test]
fn flags_of_tune() {
    let place = Workplace::new();
    for (flags, parts) in [
        (["--budget", "0s"], &["--budget", "'0s' is out of range"][..]),
        (["--budget", "abc"], &["--budget", "'abc' is not a time; write a time from 1s"]),
        (["--budget", "-5m"], &["unexpected argument '-5'"]),
        (["--machine", "../x"], &["--machine '../x'"]),
        (["--draft-length", "3"], &["'--draft-length'"]),
    ] {
        place.refused(&[&["tune", "small.toml"][..], &flags].concat(), 2, parts);
    }
}

#[test]
fn prompts_and_draft_files() {
    let place = Workplace::new();
    for (text, parts) in [
        ("", &["p.jsonl: has no prompts; write one JSON object a line"][..]),
        ("{\"id\":\"a\",\n", &["p.jsonl: line 1"]),
        ("{\"id\":\"a\",\"category\":\"c\",\"prompt\":7}\n", &["p.jsonl: line 1: prompt: invalid type"]),
        ("{\"id\":\"a\",\"category\":\"c\",\"prompt\":\"x\"}\n", &["small.toml: prompts", "but 'p.jsonl' has 1"]),
    ] {
        place.write("p.jsonl", text);
        place.refused(&["tune", "small.toml"], 2, parts);
    }
    let place = Workplace::new();
    let chat = |i: usize| {
        format!("{{\"id\":\"{i}\",\"category\":\"c\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}\n")
    };
    place.write("p.jsonl", &(0..6).map(chat).collect::<String>());
    place.refused(&["tune", "small.toml"], 2, &["tiny: the checkpoint has no chat template"]);

    let place = Workplace::new();
    for (text, parts) in [
        ("kind = \"magic\"", &["skip.toml: kind: there is no kind 'magic'; write \"model\""][..]),
        ("kind = \"layer-skip\"\nlayers = 9", &["skip.toml: layers: 9 is not below the target's 2"]),
        ("kind = \"layer-skip\"\nlayer = 1", &["skip.toml: layer: unknown field `layer`"]),
        ("kind = \"quantized-self\"\nbits = -4", &["skip.toml: bits: -4 bits"]),
        ("kind = \"model\"\npath = \"absent\"", &["skip.toml: path: there is no model 'absent'; fetch it"]),
        ("", &["skip.toml", "missing field `kind`"]),
    ] {
        place.write("skip.toml", text);
        place.refused(&["tune", "small.toml"], 2, parts);
    }
    place.checkpoint("other");
    let tokenizer = fs::read_to_string(place.path("other/tokenizer.json")).unwrap();
    place.write("other/tokenizer.json", &tokenizer.replace("\"~\":126", "\"~~\":126"));
    place.write("skip.toml", "kind = \"model\"\npath = \"other\"");
    let parts = ["skip.toml: path", "id 126 is \"~\" for the target and \"~~\" in", "of the same family"];
    place.refused(&["tune", "small.toml"], 2, &parts);
}

#[test]
fn results_folders_that_cannot_be_used() {
    let place = Workplace::new();
    let tune = ["tune", "small.toml", "--results", "r", "--machine", "m"];
    place.write("r", "a file");
    place.refused(&tune, 1, &["cannot create the results folder r/m/small"]);

    let place = Workplace::new();
    fs::create_dir_all(place.path("r/m/small")).unwrap();
    place.write("r/m/small/runs.csv", "x");
    place.write("r/m/small/.lock", "");
    place.refused(&tune, 1, &["r/m/small: has CSV files but no environment.json", "--results"]);

    // Held as another process would.
    let place = Workplace::new();
    fs::create_dir_all(place.path("r/m/small")).unwrap();
    let lock = File::create(place.path("r/m/small/.lock")).unwrap();
    lock.lock().unwrap();
    place.refused(
        &tune,
        1,
        &["r/m/small: another ridgepoint is writing", "wait for it or name another with --results"],
    );
}

#[test]
fn a_results_folder_of_another_scenario() {
    let place = Workplace::new();
    let tune = |scenario| ["tune", scenario, "--results", "r", "--machine", "m", "--budget", "1s", "--quiet"];
    assert!(place.run(&tune("small.toml")).status.success());
    place.change_scenario("max_tokens = 8", "max_tokens = 9");
    let parts = ["r/m/small: holds other results (scenario_sha256 is", "name another folder with --results"];
    place.refused(&tune("changed.toml"), 1, &parts);
    place.refused(&tune("changed.toml")[..6], 1, &parts);
    fs::remove_file(place.path("r/m/small/decision.csv")).unwrap();
    let weights = fs::read(place.path("tiny/model.safetensors")).unwrap();
    let mut other = weights.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(place.path("tiny/model.safetensors"), other).unwrap();
    place.refused(&tune("small.toml"), 1, &["r/m/small: holds other results (weights_sha256 is"]);
}

/// A limit on the size of files stands for a full disk: it needs no rights, and a write fails in the same place.
#[test]
fn a_full_disk_stops_tune_with_what_was_measured_kept() {
    let place = Workplace::new();
    let tune = "{} tune small.toml --results r --machine m --budget 1s --quiet --device cpu";
    let output = place.shell(&format!("trap '' XFSZ; ulimit -f 5; {tune}"));
    check_refusal("full disk", &output, 1, &["cannot write r/m/small/", "free some disk space and run again"]);
    let temporary = |path: &std::path::PathBuf| path.to_string_lossy().ends_with(".new");
    assert!(!place.files().iter().any(temporary), "{:?}", place.files());
    assert!(place.shell(tune).status.success(), "it goes on where there is room again");
}

/// Needs a mount of its own, so root or user namespaces.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_results_folder() {
    let place = Workplace::new();
    fs::create_dir_all(place.path("r")).unwrap();
    let inside = |line: &str| {
        let mount = "mount -t tmpfs -o ro none r";
        place.shell(&format!("unshare --user --map-root-user --mount sh -c '{mount} && {line}'"))
    };
    let tried = inside("true");
    if !tried.status.success() {
        eprintln!("SKIPPED: no mounts here: {}", String::from_utf8_lossy(&tried.stderr));
        return;
    }
    let output = inside("{} tune small.toml --results r --machine m --device cpu");
    check_refusal("read-only", &output, 1, &["cannot create the results folder r/m/small", "Read-only file system"]);
}
