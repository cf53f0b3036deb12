//! `ridgepoint analyze` on a results folder and on a CSV of another program.

use crate::results_folder::{FRESH, Folder, PROMPTS, finished, seconds};
use assert_cmd::Command;
use ridgepoint::results::{Design, PredictionRow, read};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn analyze(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("ridgepoint").unwrap();
    command.arg("analyze").args(arguments);
    command
}

fn json_lines(arguments: &[&str]) -> Vec<Value> {
    let output = analyze(arguments).arg("--json").assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn derived_files(folder: &Path) -> Vec<Vec<u8>> {
    ["predictions.csv", "acceptance.csv", "arms.csv", "decision.csv", "sensitivity.csv"]
        .map(|file| fs::read(folder.join(file)).unwrap())
        .to_vec()
}

#[test]
fn derived_files_are_rebuilt_byte_for_byte() {
    let root = tempfile::tempdir().unwrap();
    finished(root.path());
    ridgepoint::analysis::derive(root.path(), false).unwrap().write(root.path()).unwrap();
    let first = derived_files(root.path());
    fs::remove_file(root.path().join("decision.csv")).unwrap();
    fs::write(root.path().join("predictions.csv"), "spoiled").unwrap();
    analyze(&[root.path().to_str().unwrap()]).assert().success();
    assert_eq!(derived_files(root.path()), first);
}

#[test]
fn a_folder_gives_its_decisions_as_text_and_json() {
    let root = tempfile::tempdir().unwrap();
    finished(root.path());
    let folder = root.path().to_str().unwrap();
    let text = String::from_utf8(analyze(&[folder]).assert().success().get_output().stdout.clone()).unwrap();
    assert!(text.contains("Draft 2 tokens a round with lookup: 1.2"), "{text}");
    assert!(text.contains("confirmed on 16 prompts that had no part in the choice, because a round yields"), "{text}");
    assert!(text.contains("Do not draft with skip"), "{text}");
    // Tokens a round over its time is the predicted speed-up, whatever widths the rounds had.
    let number = |after: &str| -> f64 {
        let number = text.split(after).nth(1).unwrap().split_whitespace().next().unwrap();
        number.parse().unwrap()
    };
    let predictions: Vec<PredictionRow> = read(root.path()).unwrap();
    let predicted = |length: u64| {
        let row =
            predictions.iter().find(|row| (row.drafter.as_str(), row.draft_length) == ("lookup", length)).unwrap();
        row.replay_tok_per_s.unwrap()
    };
    let explained = number("because a round yields ") / number("tokens for the time of ");
    assert!((explained / (predicted(2) / predicted(0)) - 1.0).abs() < 0.01, "{text}");

    assert!(text.contains("Model Confidence Set γ=2; they agree with the decision"), "{text}");
    assert!(text.contains("plain runs in time: drift"), "{text}");
    let decisions = json_lines(&[folder]);
    let lookup = &decisions[0];
    assert_eq!((&lookup["drafter"], &lookup["recommended"]), (&json!("lookup"), &json!(2)));
    assert_eq!(lookup["confidence_set"], json!([2]));
    assert_eq!((&lookup["practically_best"], &lookup["more_prompts"]), (&json!([2]), &Value::Null));
    let bounds = lookup["loss_bound"].as_object().unwrap();
    assert_eq!(bounds.keys().collect::<Vec<_>>(), ["0", "2", "4"]);
    assert!(bounds["4"].as_f64().unwrap() > 0.1 && bounds["2"] == json!(0.0), "{bounds:?}");
    let versus_plain = &lookup["versus_plain"][0];
    for (field, least, most) in [("speedup", 1.2, 1.3), ("low", 1.2, 1.25), ("high", 1.25, 1.3), ("p_holm", 0.0, 1e-9)]
    {
        let found = versus_plain[field].as_f64().unwrap();
        assert!((least..=most).contains(&found), "{field} = {found}");
    }
    assert!(lookup["warnings"].is_array() && lookup["looks"] == json!([]));
    let opinions = &lookup["sensitivity"];
    assert_eq!((&opinions["model_confidence_set"], &opinions["disagreements"]), (&json!([2]), &json!([])));
    assert!(opinions["friedman"]["p"].as_f64().unwrap() < 1e-6 && lookup["validity"]["drift"].is_object());
    // Σ plain seconds over Σ arm seconds of the fresh prompts, the controls averaged: both are equal here.
    let total = |length: u64| {
        (PROMPTS..PROMPTS + FRESH)
            .map(|prompt| seconds(prompt, if length > 0 { "lookup" } else { "" }, length))
            .sum::<f64>()
    };
    let speedup = lookup["confirmed"]["speedup"].as_f64().unwrap();
    assert!((speedup - total(0) / total(2)).abs() < 1e-12);
    assert!(lookup["confirmed"]["low"].as_f64().unwrap() < speedup);
    assert_eq!(lookup["confirmed"]["prompts"], json!(16));
    assert_eq!(decisions[1]["recommended"], json!(0));

    let decision = fs::read_to_string(root.path().join("decision.csv")).unwrap();
    assert!(
        decision.lines().nth(1).unwrap().starts_with("made-up,,lookup,float32,128,1,memory-bound,2,2,2,1.2"),
        "{decision}"
    );
    let predictions = fs::read_to_string(root.path().join("predictions.csv")).unwrap();
    // The scenario's lengths 0 to 4 that the trace reaches, of the one drafter that was traced.
    assert_eq!(predictions.lines().count(), 1 + 5, "{predictions}");
}

#[test]
fn an_unfinished_folder_says_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    finished(root.path());
    let path = root.path().join("runs.csv");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&path, lines[..9].join("\n") + "\n").unwrap();
    let assert = analyze(&[root.path().to_str().unwrap()]).assert().success();
    let warnings = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(warnings.contains("lookup: 1 complete prompts (p1: "), "{warnings}");
    let (first, second) = (lines[1], lines[2].replace(",1.0,48,", ",-1.0,48,"));
    fs::write(&path, format!("{}\n{first}\n{second}\n", lines[0])).unwrap();
    let assert = analyze(&[root.path().to_str().unwrap()]).assert().code(1);
    let error = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(error.contains("runs.csv: line 3: started_s: -1 s comes after 0 s in launch 0"), "{error}");
    fs::remove_file(root.path().join("environment.json")).unwrap();
    analyze(&[root.path().to_str().unwrap()]).assert().code(1);
}

#[test]
fn any_csv_with_four_columns_is_decided_on() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("mine.csv");
    let mut text = "prompt,arm,seconds,tokens\n".to_string();
    for prompt in 0..PROMPTS {
        for length in [0, 2, 4] {
            text += &format!("q{prompt},{length},{},48\n", seconds(prompt, "lookup", length));
        }
    }
    fs::write(&path, &text).unwrap();
    let path = path.to_str().unwrap();
    let decisions = json_lines(&[path]);
    assert_eq!((decisions.len(), &decisions[0]["recommended"], &decisions[0]["prompts"]), (1, &json!(2), &json!(24)));
    assert_eq!(decisions[0]["versus_plain"][0]["draft_length"], json!(2));
    analyze(&[path, "--confidence", "1.5"]).assert().failure();

    for (change, code, expected) in [
        (text.replacen(",48\n", ",0\n", 1), 1, "tokens"),
        (text.replacen("q3,2,", "q3,2,-", 1), 1, "prompt q3"),
        (text.replacen("q3,2,", "q3,2,0.0;", 1), 2, "line"),
        (text.clone() + text.lines().last().unwrap(), 2, "are the same row"),
        (text.lines().filter(|line| !line.contains(",0,")).map(kept).collect(), 1, "plain"),
    ] {
        fs::write(path, change).unwrap();
        let output = analyze(&[path]).assert().code(code).get_output().stderr.clone();
        let message = String::from_utf8(output).unwrap();
        assert!(message.contains(expected) && message.lines().count() == 1, "{expected}: {message}");
    }
    fs::write(path, text.replace(",48\n", "\n")).unwrap();
    let output = analyze(&[path]).assert().code(2).get_output().stderr.clone();
    assert_eq!(String::from_utf8(output).unwrap().lines().count(), 1);
    analyze(&["no-such.csv"]).assert().code(2);
}

/// `runs.csv` with every line after the header changed; a line that becomes empty is left out.
fn change_runs(folder: &Path, change: impl Fn(usize, &str) -> String) {
    let path = folder.join("runs.csv");
    let text = fs::read_to_string(&path).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    let rows: String = rows.lines().enumerate().map(|(place, line)| change(place, line)).collect();
    fs::write(path, format!("{header}\n{rows}")).unwrap();
}

fn kept(line: &str) -> String {
    format!("{line}\n")
}

/// Standard error of an analysis that must end with this code, one line for a refusal.
fn says(folder: &Path, arguments: &[&str], code: i32) -> String {
    let assert = analyze(&[folder.to_str().unwrap()]).args(arguments).assert().code(code);
    let text = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(code == 0 || text.lines().count() == 1, "{text}");
    text
}

#[test]
fn prompts_that_lack_an_arm_are_left_out_and_named() {
    let root = tempfile::tempdir().unwrap();
    finished(root.path());
    // The third of the five runs of p3 is that of lookup γ=4.
    change_runs(root.path(), |place, line| if place == 5 * 3 + 2 { String::new() } else { kept(line) });
    let decisions = json_lines(&[root.path().to_str().unwrap()]);
    assert_eq!((&decisions[0]["prompts"], &decisions[1]["prompts"]), (&json!(23), &json!(24)));
    let warnings = decisions[0]["warnings"].to_string();
    assert!(warnings.contains("left out p3: not timed (lookup γ=4)"), "{warnings}");
}

#[test]
fn too_few_prompts_say_what_cannot_be_said() {
    let with = |prompts: usize| {
        let root = tempfile::tempdir().unwrap();
        finished(root.path());
        change_runs(root.path(), |place, line| if place < 5 * prompts { kept(line) } else { String::new() });
        let folder = root.path().to_str().unwrap();
        (json_lines(&[folder]), says(root.path(), &[], 0))
    };
    for prompts in [0, 1] {
        let (decisions, warnings) = with(prompts);
        assert!(
            decisions.is_empty() && (prompts == 0 || warnings.contains("nothing can be said below 2")),
            "{warnings}"
        );
    }
    for prompts in [2, 3, 4] {
        let (decisions, _) = with(prompts);
        assert_eq!((&decisions[0]["recommended"], &decisions[0]["prompts"]), (&Value::Null, &json!(prompts)));
        let warnings = decisions[0]["warnings"].to_string();
        assert!(warnings.contains("cannot exclude any length at 95 % confidence; at least 5 are needed"), "{warnings}");
        assert_eq!(decisions[0]["versus_plain"][0]["low"].is_null(), prompts < 3);
    }
    let (decisions, _) = with(12);
    assert_eq!(decisions[0]["recommended"], json!(2));
    assert!(decisions[0]["warnings"].to_string().contains("only 12 prompts: compared by sign flips"));
}

#[test]
fn rows_that_cannot_be_are_refused_by_line_or_place() {
    let refused = |change: fn(usize, &str) -> String, expected: &str| {
        let root = tempfile::tempdir().unwrap();
        finished(root.path());
        change_runs(root.path(), change);
        let error = says(root.path(), &[], 1);
        assert!(error.contains("runs.csv") && error.contains(expected), "{expected}: {error}");
        assert!(!root.path().join("decision.csv").exists());
    };
    fn with_seconds(place: usize, line: &str, value: &str) -> String {
        let mut fields: Vec<&str> = line.split(',').collect();
        if place == 7 {
            fields[11] = value;
        }
        fields.join(",") + "\n"
    }
    refused(|place, line| if place == 7 { kept(line) + &kept(line) } else { kept(line) }, "same sample");
    refused(|place, line| with_seconds(place, line, "0.0"), "prompt p1, block 1, order 2: seconds: 0 cannot be");
    refused(|place, line| with_seconds(place, line, "-2.5"), "seconds: -2.5 cannot be; a time must be positive");
    refused(|place, line| with_seconds(place, line, "inf"), "seconds");
    refused(|place, line| with_seconds(place, line, "NaN"), "seconds");
    refused(|place, line| with_seconds(place, line, ""), "has neither seconds nor an error");
    // The control that opens p1 and the one that closes it.
    refused(
        |place, line| kept(&if place == 5 { line.replace(",48,", ",47,") } else { line.to_string() }),
        "of 47 and of 48",
    );
}

#[test]
fn a_folder_of_two_machines_or_versions_is_refused_unless_allowed() {
    let root = tempfile::tempdir().unwrap();
    finished(root.path());
    let path = root.path().join("environment.json");
    let mut stamp: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let launch = |version: &str| json!({ "machine": "made-up", "mlx_version": version });
    stamp["launches"] = json!([launch("0.32.1"), launch("0.32.2")]);
    fs::write(&path, stamp.to_string()).unwrap();
    let error = says(root.path(), &[], 1);
    assert!(error.contains("mlx_version is \"0.32.1\" in one launch and \"0.32.2\" in another"), "{error}");
    assert!(error.contains("--allow-mixed") && !root.path().join("decision.csv").exists(), "{error}");
    says(root.path(), &["--allow-mixed"], 0);
    let decision = fs::read_to_string(root.path().join("decision.csv")).unwrap();
    assert!(decision.contains("mixed machines or versions: mlx_version"), "{decision}");

    let root = tempfile::tempdir().unwrap();
    finished(root.path());
    let path = root.path().join("cost.csv");
    let text = fs::read_to_string(&path).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    fs::write(&path, format!("{header}\nother{rows}")).unwrap();
    let error = says(root.path(), &[], 1);
    assert!(error.contains("machine is 'made-up' in environment.json and 'other' in cost.csv"), "{error}");
}

#[test]
fn drift_and_outliers_of_the_plain_runs_are_warned_of() {
    let root = tempfile::tempdir().unwrap();
    finished(root.path());
    // A plain run of p5 is hit by something; all runs slow down by 1 % a prompt.
    change_runs(root.path(), |place, line| {
        let mut fields: Vec<String> = line.split(',').map(str::to_string).collect();
        let hit = if place == 5 * 5 { 3.0 } else { 1.0 };
        let seconds = fields[11].parse::<f64>().unwrap() * hit * (1.0 + 0.03 * (place / 5) as f64);
        fields[11] = seconds.to_string();
        fields.join(",") + "\n"
    });
    let decision = &json_lines(&[root.path().to_str().unwrap()])[0];
    let warnings = decision["warnings"].to_string();
    assert!(warnings.contains("plain decoding drifted by +"), "{warnings}");
    assert!(warnings.contains("outlying controls on p5, kept"), "{warnings}");
    assert_eq!(decision["validity"]["outlying_prompts"], json!([5]));
    assert_eq!(decision["sensitivity"]["recommended_without_outliers"], json!(2));
    analyze(&[root.path().to_str().unwrap()]).assert().success();
    let checks = fs::read_to_string(root.path().join("sensitivity.csv")).unwrap();
    assert!(checks.contains("lookup,without-outliers,2,1.0,,"), "{checks}");
}

#[test]
fn a_run_that_could_stop_at_any_time_is_decided_on_by_wider_bounds() {
    let root = tempfile::tempdir().unwrap();
    let folders = [Design::Blocks, Design::AnyTime].map(|design| {
        let folder = root.path().join(format!("{design:?}"));
        Folder { design, ..Folder::default() }.write(&folder);
        folder.to_str().unwrap().to_string()
    });
    let [once, any_time] = folders.each_ref().map(|folder| json_lines(&[folder]).remove(0));
    assert_eq!((&once["method"], &any_time["method"]), (&json!("max_t"), &json!("any_time")));
    assert_eq!((&once["recommended"], &any_time["recommended"]), (&json!(2), &json!(2)));
    let width = |decision: &Value| {
        let confirmed = &decision["confirmed"];
        confirmed["high"].as_f64().unwrap() - confirmed["low"].as_f64().unwrap()
    };
    assert!((1.3..3.0).contains(&(width(&any_time) / width(&once))), "{once} {any_time}");

    // Stopped in the middle of the eighth block: seven count.
    change_runs(Path::new(&folders[1]), |place, line| if place < 5 * 7 + 3 { kept(line) } else { String::new() });
    let stopped = &json_lines(&[&folders[1]])[0];
    assert_eq!((&stopped["prompts"], &stopped["recommended"]), (&json!(7), &Value::Null));
    let warnings = stopped["warnings"].to_string();
    assert!(warnings.contains("at least 10 are needed") && warnings.contains("left out p7"), "{warnings}");

    // A race that has not looked yet says so, and contrasts need runs that did not stop by their own data.
    Folder { design: Design::Race, ..Folder::default() }.write(&root.path().join("race"));
    fs::write(root.path().join("race/looks.csv"), "look,blocks\n1,50\n").unwrap();
    let warnings = says(&root.path().join("race"), &[], 0);
    assert!(warnings.contains("lookup: the race has not reached its first look"), "{warnings}");
    let warnings = says(Path::new(&folders[0]), &[&folders[1]], 0);
    assert!(
        warnings.contains("not contrasted, as a race or an any-time run stops where its own data say"),
        "{warnings}"
    );
}

#[test]
fn what_vllm_measured_is_decided_on() {
    let root = tempfile::tempdir().unwrap();
    let requests = 24;
    let bench = |draft_length: usize, token_s: f64| {
        // Sixteen tokens behind the first one, of requests of different speed.
        let times = |request: usize| vec![token_s * (1.0 + 0.01 * (request % 5) as f64); 16];
        let itls: Vec<Vec<f64>> = (0..requests).map(times).collect();
        let file = json!({ "input_lens": vec![9; requests], "output_lens": vec![17; requests], "itls": itls,
                           "errors": vec![""; requests], "max_concurrency": 1,
                           "spec_decode_per_position_acceptance_rates": vec![0.5; draft_length] });
        let path = root.path().join(format!("{draft_length}.json"));
        fs::write(&path, file.to_string()).unwrap();
        path.to_str().unwrap().to_string()
    };
    let files = [bench(0, 0.01), bench(2, 0.005), bench(4, 0.006)];
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let output = analyze(&files).assert().success().get_output().clone();
    let (text, notes) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(text.contains("Draft 2 tokens a round with vllm: 2.000 times as fast as plain decoding"), "{text}");
    assert!(notes.contains("ridgepoint: note: each file was measured in one go"), "{notes}");
    let decisions = json_lines(&files);
    assert_eq!(decisions[0]["recommended"], json!(2));
}
