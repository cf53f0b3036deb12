//! `ridgepoint tune` and `ridgepoint generate` as programs, on a tiny checkpoint: what they write and print, and that a
//! killed run resumes.
#![cfg(feature = "mlx")]

#[path = "support/tiny.rs"]
mod tiny;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ridgepoint::results::{Control, CostRow, DraftTraceRow, LookRow, PromptRow, RunRow, Stamp, TraceRow, read};
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

/// Drafters with the draft lengths of a block, plain decoding left out, in the order of the blocks.
fn arms_of_blocks(folder: &Path, split: &str) -> Vec<BTreeSet<(String, u64)>> {
    let mut blocks: BTreeMap<u64, BTreeSet<(String, u64)>> = BTreeMap::new();
    for run in read::<RunRow>(folder).unwrap().into_iter().filter(|run| run.split == split) {
        let arms = blocks.entry(run.block).or_default();
        if run.draft_length > 0 {
            arms.insert((run.drafter, run.draft_length));
        }
    }
    blocks.into_values().collect()
}

#[test]
fn a_race_looks_when_it_was_declared_to_and_only_drops_lengths() {
    let place = Workplace::new();
    place.change_scenario(
        "tune_prompts = 3\nconfirm_prompts = 3\nmax_tokens = 8",
        "tune_prompts = 6\nmax_tokens = 40\nlooks = [3, 5, 6]",
    );
    let race = ["tune", "changed.toml", "--results", "r", "--machine", "m", "--race", "--json", "--budget", "2m"];
    let first = place.run(&race);
    assert!(first.status.success(), "{first:?}");
    let folder = place.path(FOLDER);
    let looks: Vec<_> = read::<LookRow>(&folder).unwrap().iter().map(|row| (row.look, row.blocks)).collect();
    assert_eq!(looks, [(1, 3), (2, 5), (3, 6)]);
    let blocks = arms_of_blocks(&folder, "tune");
    let entrants: BTreeSet<_> =
        ["lookup", "skip"].iter().flat_map(|name| (1..4).map(|l| (name.to_string(), l))).collect();
    assert!(blocks[..3].iter().all(|arms| *arms == entrants), "{blocks:?}");
    for (place, pair) in blocks.windows(2).enumerate() {
        assert!(pair[1].is_subset(&pair[0]), "{blocks:?}");
        assert!(pair[1] == pair[0] || [3, 5].contains(&(place + 1)), "only a look drops lengths: {blocks:?}");
    }
    for decision in json_lines(&first.stdout) {
        let taken = decision["looks"].as_array().unwrap();
        assert!(!taken.is_empty() && taken.len() <= 3, "{decision}");
        let last = taken.last().unwrap();
        assert_eq!(decision["recommended"], last["decision"]["recommended"]);
        assert_eq!(last["finished"], true, "{decision}");
        // A third of the error rate at each look.
        let confidence = last["decision"]["confidence"].as_f64().unwrap();
        assert!((confidence - (1.0 - 0.05 / 3.0)).abs() < 1e-12);
    }
    let analysed = place.run(&["analyze", FOLDER, "--json"]);
    assert_eq!(String::from_utf8(analysed.stdout).unwrap(), String::from_utf8(first.stdout).unwrap());
}

#[test]
fn anytime_may_be_interrupted_and_goes_on_from_there() {
    let place = Workplace::new();
    place
        .change_scenario("tune_prompts = 3\nconfirm_prompts = 3\nmax_tokens = 8", "tune_prompts = 6\nmax_tokens = 220");
    place.write("p.jsonl", &fs::read_to_string(place.path("p.jsonl")).unwrap().replace("one two ", ""));
    let anytime =
        ["tune", "changed.toml", "--results", "r", "--machine", "m", "--anytime", "--json", "--budget", "20m"];
    let folder = place.path(FOLDER);
    let mut command = place.command(&anytime);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // Interrupted in the middle of the third block.
    let closed =
        || read::<RunRow>(&folder).map_or(0, |runs| runs.iter().filter(|run| run.control == Control::Last).count());
    let started = Instant::now();
    while closed() < 2 {
        assert!(started.elapsed() < Duration::from_secs(600), "no two blocks in ten minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let interrupted = child.wait_with_output().unwrap();
    assert!(interrupted.status.success(), "{interrupted:?}");
    let before = read::<RunRow>(&folder).unwrap();
    assert!(closed() < 6, "it ended before it was interrupted");
    assert!(before.iter().all(|run| run.seconds.is_some()));
    let decisions = json_lines(&interrupted.stdout);
    assert_eq!(decisions.len(), 2);
    for decision in &decisions {
        assert_eq!(decision["method"], "any_time", "{decision}");
        assert_eq!(decision["prompts"].as_u64().unwrap(), closed() as u64);
    }
    let again = place.run(&anytime);
    assert!(again.status.success(), "{again:?}");
    let after = read::<RunRow>(&folder).unwrap();
    assert_eq!(after[..before.len()], before, "nothing is lost or repeated");
    assert_eq!(closed(), 6);
    assert!(json_lines(&again.stdout).iter().all(|decision| decision["prompts"] == 6));
}

#[test]
fn sampled_texts_are_tuned_on_with_several_a_prompt() {
    let place = Workplace::new();
    place.change_scenario("max_tokens = 8", "max_tokens = 40\ntemperature = 0.4\ntexts_per_prompt = 2\nseed = 3");
    let tune = ["tune", "changed.toml", "--results", "r", "--machine", "m", "--json", "--budget", "2m"];
    let first = place.run(&tune);
    assert!(first.status.success(), "{first:?}");
    let folder = place.path(FOLDER);
    let runs = read::<RunRow>(&folder).unwrap();
    let mut blocks: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for run in &runs {
        assert!(run.error.is_empty() && run.first_divergence.is_none(), "{run:?}");
        assert_eq!(run.accepted + run.rounds - run.cut_off, 40, "{run:?}");
        blocks.entry(&run.prompt).or_default().insert(run.block);
    }
    assert!(blocks.values().all(|blocks| blocks.len() == 2), "{blocks:?}");
    let chances = read::<DraftTraceRow>(&folder).unwrap();
    assert!(chances.iter().all(|row| row.acceptance_probability > 0.0 && row.acceptance_probability <= 1.0));
    let of = |name: &'static str| chances.iter().filter(move |row| row.drafter == name);
    assert!(of("lookup").all(|row| row.acceptance_probability == 1.0), "nothing of a lookup is left to chance");
    assert!(of("skip").any(|row| row.acceptance_probability < 1.0) && of("skip").any(|row| row.draft_position == 3));
    // The traces are of the texts of each prompt's first block, which plain decoding commits: a text is one thing.
    let traces = read::<TraceRow>(&folder).unwrap();
    let text = |drafter: &str| -> Vec<u32> {
        traces.iter().filter(|row| row.drafter == drafter).map(|row| row.token).collect()
    };
    assert_eq!(text("lookup"), text("skip"));
    let decisions = json_lines(&first.stdout);
    assert!(decisions.iter().all(|decision| decision["prompts"] == 3));
    assert_eq!(place.run(&["analyze", FOLDER, "--json"]).stdout, first.stdout);
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
