//! `ridgepoint tune` and `ridgepoint generate` as programs, on a tiny checkpoint: what they write and print, and that a
//! killed run resumes.
#![cfg(feature = "mlx")]

#[path = "support/tiny.rs"]
mod tiny;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ridgepoint::results::{CostRow, PromptRow, RunRow, Stamp, TraceRow, read};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tiny::Workplace;

const TUNE: [&str; 6] = ["tune", "small.toml", "--results", "r", "--machine", "m"];
const FOLDER: &str = "r/m/small";

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn json_lines(text: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn tune_writes_every_file_and_a_second_call_only_analyses() {
    let place = Workplace::new();
    let started = Instant::now();
    let first = place.run(&[&TUNE[..], &["--budget", "2m", "--json"]].concat());
    let measured = started.elapsed();
    assert!(first.status.success(), "{first:?}");
    let folder = place.path(FOLDER);
    let files = contents(&folder);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected = [
        ".lock",
        "acceptance.csv",
        "arms.csv",
        "categories.csv",
        "cost.csv",
        "decision.csv",
        "environment.json",
        "predictions.csv",
        "prompts.csv",
        "runs.csv",
        "sensitivity.csv",
        "trace.csv",
    ];
    assert_eq!(names, expected);

    let decisions = json_lines(&first.stdout);
    let drafters: Vec<&str> = decisions.iter().map(|decision| decision["drafter"].as_str().unwrap()).collect();
    assert_eq!(drafters, ["lookup", "skip"]);
    for decision in &decisions {
        let keys =
            ["verdict", "recommended", "confidence_set", "practically_best", "confirmed", "versus_plain", "warnings"];
        assert!(keys.iter().all(|key| decision.get(key).is_some()), "{decision}");
        let verdict = decision["verdict"].as_str().unwrap();
        assert_eq!(decision["recommended"].is_null(), verdict == "undecided", "{decision}");
    }

    let started = Instant::now();
    let second = place.run(&[&TUNE[..], &["--json"]].concat());
    assert_eq!(second.stdout, first.stdout);
    assert!(started.elapsed() < measured, "nothing is measured again");
    assert_eq!(contents(&folder), files);
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(message.contains("r/m/small: complete"), "{message}");
    let text = String::from_utf8(place.run(&TUNE).stdout).unwrap();
    assert!(text.contains("predicted tok/s") && text.contains("γ"), "{text}");
}

#[test]
fn a_short_budget_says_what_it_leaves_out() {
    let place = Workplace::new();
    place.change_scenario("tune_prompts = 3\nconfirm_prompts = 3", "tune_prompts = 6");
    let scenario = fs::read_to_string(place.path("changed.toml")).unwrap();
    place.write("small.toml", &scenario.replace("max_tokens = 8", "max_tokens = 240").replace("\"1-3\"", "\"1\""));
    place.write("p.jsonl", &fs::read_to_string(place.path("p.jsonl")).unwrap().replace("one two ", ""));
    let output = place.run(&[&TUNE[..], &["--budget", "1s"]].concat());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{message}");
    assert!(message.contains("note: the time budget allows about 3 of 6 tuning prompts"), "{message}");
    // Resumed with more time it keeps to the prompts, and so to the draft lengths, that it began with.
    let before = fs::read(place.path(FOLDER).join("trace.csv")).unwrap();
    assert!(place.run(&[&TUNE[..], &["--budget", "60s"]].concat()).status.success());
    assert_eq!(fs::read(place.path(FOLDER).join("trace.csv")).unwrap(), before);
    assert_eq!(blocks(&place.path(FOLDER)).len(), 3);
}

/// The draft lengths and drafters of each block, after looking at its form.
fn blocks(folder: &Path) -> Vec<BTreeSet<(String, u64)>> {
    let mut blocks: BTreeMap<u64, Vec<RunRow>> = BTreeMap::new();
    for run in read::<RunRow>(folder).unwrap() {
        blocks.entry(run.block).or_default().push(run);
    }
    let arms = |runs: Vec<RunRow>| {
        let orders: Vec<u64> = runs.iter().map(|run| run.order).collect();
        assert_eq!(orders, (0..runs.len() as u64).collect::<Vec<_>>(), "none lost, none repeated, in the order taken");
        let (first, last) = (&runs[0], &runs[runs.len() - 1]);
        assert_eq!((first.draft_length, last.draft_length), (0, 0));
        let between: BTreeSet<_> =
            runs[1..runs.len() - 1].iter().map(|run| (run.drafter.clone(), run.draft_length)).collect();
        assert_eq!(between.len() + 2, runs.len(), "every arm once");
        assert!(runs.iter().all(|run| run.error.is_empty() && run.first_divergence.is_none()));
        between
    };
    blocks.into_values().map(arms).collect()
}

#[test]
fn a_killed_run_resumes_without_loss_or_repetition() {
    let place = Workplace::new();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let folder = place.path(FOLDER);
    let tune = [&TUNE[..], &["--quiet"]].concat();
    let mut kills = 0;
    // Later and later, so that every stage is met.
    for round in 0..6 {
        let mut child = place.command(&tune).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(200 * round + rng.random_range(0..500)));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
        }
    }
    assert!(kills >= 2, "only {kills} of 6 were killed");
    let last = place.run(&tune);
    assert!(last.status.success(), "{last:?}");

    let leftover = |path: &PathBuf| path.to_string_lossy().ends_with(".new");
    assert!(!place.files().iter().any(leftover), "{:?}", place.files());
    assert_eq!(read::<PromptRow>(&folder).unwrap().len(), 6);
    // Five passes over four widths, the pipelined step, and three proposals of each of two drafters.
    let costs = read::<CostRow>(&folder).unwrap();
    let keys: BTreeSet<String> = costs
        .iter()
        .map(|row| format!("{:?} {} {} {:?} {}", row.role, row.drafter, row.width, row.mode, row.pass))
        .collect();
    assert_eq!((costs.len(), keys.len()), (5 * (4 + 1 + 6), 5 * (4 + 1 + 6)));
    let traces = read::<TraceRow>(&folder).unwrap();
    let keys: BTreeSet<_> = traces.iter().map(|row| (&row.prompt, &row.drafter, row.position)).collect();
    assert_eq!((traces.len(), keys.len()), (3 * 2 * 8, 3 * 2 * 8));
    let blocks = blocks(&folder);
    assert!(blocks.len() == 3 || blocks.len() == 6, "{blocks:?}");
    assert!(blocks[..3].iter().all(|arms| arms == &blocks[0]), "{blocks:?}");
    let launches = Stamp::read(&folder).unwrap().unwrap().launches;
    assert!(launches.len() <= 7 && launches.iter().all(|launch| launch["ceilings"].is_object()));
}

#[test]
fn generate_prints_the_text_or_one_json_object() {
    let place = Workplace::new();
    let arguments = ["generate", "tiny", "-p", "one two one", "-n", "20", "--ignore-eos"];
    let plain = place.run(&[&arguments[..], &["--json"]].concat());
    let drafted = place.run(&[&arguments[..], &["--json", "--draft", "lookup.toml", "--draft-length", "3"]].concat());
    let (plain, drafted) = (json_lines(&plain.stdout), json_lines(&drafted.stdout));
    assert_eq!((plain.len(), drafted.len()), (1, 1));
    let (plain, drafted) = (&plain[0], &drafted[0]);
    assert_eq!((&plain["tokens"], &plain["text"]), (&drafted["tokens"], &drafted["text"]));
    let count = |json: &Value, key: &str| json[key].as_u64().unwrap_or_else(|| panic!("{key}: {json}"));
    assert_eq!(plain["tokens"].as_array().unwrap().len(), 20);
    assert_eq!((count(plain, "rounds"), count(plain, "drafted"), count(plain, "accepted")), (20, 0, 0));
    // Fewer rounds by the drafts accepted, less what the last round's end cut off.
    let (rounds, accepted) = (count(drafted, "rounds"), count(drafted, "accepted"));
    assert!(rounds <= 20 && accepted <= count(drafted, "drafted") && (20..=23).contains(&(rounds + accepted)));
    assert!(plain["seconds"].as_f64().unwrap() > 0.0);

    let text = place.run(&arguments);
    assert_eq!(String::from_utf8(text.stdout).unwrap(), format!("{}\n", plain["text"].as_str().unwrap()));
    assert!(String::from_utf8(text.stderr).unwrap().contains("tok/s"));
}
