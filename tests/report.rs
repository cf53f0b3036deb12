//! `ridgepoint report` and `ridgepoint explain` on committed results: what they say is what the CSVs say.

use assert_cmd::Command;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const FOLDERS: [&str; 6] = [
    "results/linux-cpu-2core/drafters",
    "results/h100-mlx-kernels/quickstart",
    "results/linux-cpu-2core/cost-SmolLM2-135M-Instruct.Q4_1-float32",
    "results/h100-mlx-kernels/cost-mistral-7b-4-bit-64-bfloat16",
    "results/linux-cpu-2core/baseline",
    "results/h100-mlx-kernels/baseline",
];

fn ridgepoint(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("ridgepoint").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    command
}

/// Writes a report on folders of the repository and returns where it is.
fn report(folders: &[&str], more: &[&str]) -> TempDir {
    let out = tempfile::tempdir().unwrap();
    let mut command = ridgepoint(&["report"]);
    command.args(folders).arg("--out").arg(out.path()).args(more);
    command.assert().success();
    out
}

fn text(out: &TempDir, file: &str) -> String {
    fs::read_to_string(out.path().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The rows of a CSV of the repository, each by column.
fn rows(file: impl AsRef<Path>) -> Vec<BTreeMap<String, String>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let mut reader = csv::Reader::from_path(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    reader.deserialize().map(|row| row.unwrap()).collect()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} is '{}'", row[column]))
}

/// Every file below a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(
                files(&entry)
                    .into_iter()
                    .map(|(file, bytes)| (Path::new(entry.file_name().unwrap()).join(file), bytes)),
            ),
            false => drop(found.insert(entry.file_name().unwrap().into(), fs::read(&entry).unwrap())),
        }
    }
    found
}

/// As `results/h200/*` names them: results, folders of results, pages and predictions.
#[test]
fn all_that_lies_in_a_machines_folder_can_be_named() {
    let inside = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/results/h200")).unwrap();
    let mut inside: Vec<String> = inside.map(|entry| entry.unwrap().path().display().to_string()).collect();
    inside.sort();
    let folders: Vec<&str> = inside.iter().map(String::as_str).collect();
    let out = report(&folders, &[]);
    let markdown = text(&out, "report.md");
    for said in ["acceptance is supposed, not measured", "context 16384"] {
        assert!(markdown.contains(said), "{said}");
    }
}

#[test]
fn the_headline_numbers_are_those_of_decision_csv() {
    let out = report(&FOLDERS[..2], &[]);
    let (html, markdown, latex) = (text(&out, "report.html"), text(&out, "report.md"), text(&out, "latex/numbers.tex"));
    let mut confirmed = 0;
    for (folder, name) in [(FOLDERS[0], "LinuxCpuTwoCoreDrafters"), (FOLDERS[1], "HOneZeroZeroMlxKernelsQuickstart")] {
        for row in rows(format!("{folder}/decision.csv")) {
            let drafter = match row["drafter"].as_str() {
                "combined-cost-aware" => "CombinedCostAware",
                "layer-skip-2" => "LayerSkipTwo",
                "prompt-lookup" => "PromptLookup",
                "smollm2-135m-distilled" => "SmollmTwoOneThreeFiveMDistilled",
                "suffix" => "Suffix",
                other => panic!("{other}"),
            };
            let length = if row["draft_length"].is_empty() { "undecided" } else { &row["draft_length"] };
            let define = |what: &str, value: &str| format!("\\newcommand{{\\rp{name}{drafter}{what}}}{{{value}}} %");
            assert!(latex.contains(&define("DraftLength", length)), "{} {length} is not in {latex}", row["drafter"]);
            let set = row["confidence_set"].replace(' ', ", ");
            assert!(latex.contains(&define("ConfidenceSet", &set)), "{set} is not in {latex}");
            assert!(latex.contains(&define("Regime", &row["regime"])));
            if row["speedup_confirmed"].is_empty() {
                assert!(!latex.contains(&format!("rp{name}{drafter}Speedup}}")), "{drafter} has nothing confirmed");
                continue;
            }
            confirmed += 1;
            let [value, low, high] =
                ["speedup_confirmed", "speedup_low", "speedup_high"].map(|column| number(&row, column));
            let sentence = format!(
                "{value:.3} times as fast as plain decoding (95 % interval {low:.3} to {high:.3}), confirmed on 64"
            );
            assert!(html.contains(&sentence) && markdown.contains(&sentence), "{sentence}");
            // Half an interval is 0.1 to 0.2: two digits of that are hundredths, and the ends are rounded outwards.
            assert!((0.1..1.0).contains(&((high - low) / 2.0)));
            let [low, high] = [(100.0 * low).floor() / 100.0, (100.0 * high).ceil() / 100.0];
            let rounded = [format!("{value:.2}"), format!("{low:.2} to {high:.2}")];
            assert!(
                latex.contains(&define("Speedup", &rounded[0]))
                    && latex.contains(&define("SpeedupInterval", &rounded[1]))
            );
            assert!(html.contains(&format!(
                "<td class=\"number\">{}</td><td class=\"number\">{}</td>",
                rounded[0], rounded[1]
            )));
            assert!(markdown.contains(&format!("| {} | {} |", rounded[0], rounded[1])));
            let table = text(&out, "latex/decisions.tex");
            assert!(table.contains(&format!("& {} & {} &", rounded[0], rounded[1])), "{table}");
        }
    }
    assert_eq!(confirmed, 2);
}

#[test]
fn every_section_is_there_in_order_and_says_what_the_files_say() {
    let out = report(&FOLDERS, &[]);
    let (html, markdown) = (text(&out, "report.html"), text(&out, "report.md"));
    let mut sections = vec!["Decision", "Regimes", "What verification costs", "Predicted and measured throughput"];
    sections.push("Acceptance by place and category");
    if cfg!(feature = "plot") {
        sections.push("Roofline");
    }
    sections.extend(["Where a round's time goes", "Second opinions", "Baseline experiments", "Warnings"]);
    sections.extend(["Environment", "Rebuilding this report"]);
    let in_markdown: Vec<&str> = markdown.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(in_markdown, sections);
    let places: Vec<Option<usize>> = sections.iter().map(|section| html.find(&format!("\">{section}</h2>"))).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");

    // A fall, a prediction's error, an acceptance count, a verdict, a warning, a version.
    let fall = &rows(format!("{}/cost_changes.csv", FOLDERS[3]))[0];
    let fall = format!("{}→{} {:+.0} %", fall["from_width"], fall["to_width"], 100.0 * number(fall, "relative"));
    let arm = rows(format!("{}/arms.csv", FOLDERS[1])).into_iter().find(|row| row["draft_length"] == "2").unwrap();
    let error = format!("{:+.1} %", 100.0 * number(&arm, "prediction_error"));
    let place = rows(format!("{}/acceptance.csv", FOLDERS[0])).into_iter().find(|row| row["accepted"] != "0").unwrap();
    let place = format!("{}/{}", place["accepted"], place["reached"]);
    let warned = rows(format!("{}/decision.csv", FOLDERS[1])).remove(1);
    let warning = warned["warnings"].split(" | ").next().unwrap().to_string();
    assert!(warning.contains("drifted"), "{warning}");
    for part in [fall, error, place, warning, "0.32.2 cuda".to_string(), "NVIDIA H100 80GB HBM3".to_string()] {
        assert!(html.contains(&part) && markdown.contains(&part), "{part} is missing");
    }
    for row in rows(format!("{}/hypotheses.csv", FOLDERS[5])) {
        let cells = format!("<td>{}</td><td>{}</td>", row["hypothesis"].replace('"', "&quot;"), row["verdict"]);
        assert!(html.contains(&cells), "{cells}");
    }
    let command = format!("ridgepoint report {} --out", FOLDERS.join(" "));
    assert!(html.contains(&command) && markdown.contains(&command));
}

#[test]
fn the_page_stands_alone() {
    let out = report(&FOLDERS[..4], &[]);
    let html = text(&out, "report.html").replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for outside in
        ["http:", "https:", "//www", "<script", "<link", "<img", "<iframe", "src=", "url(http", "@import", "@font-face"]
    {
        assert!(!html.contains(outside), "the page has {outside}");
    }
    // What links within the page leads somewhere, and no two places have one name.
    let names = |attribute: &str| -> Vec<String> {
        html.split(attribute).skip(1).map(|rest| rest.split(['"', ')']).next().unwrap().to_string()).collect()
    };
    let ids = names(" id=\"");
    let mut distinct = ids.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), ids.len(), "an id is there twice");
    for target in names("href=\"#").into_iter().chain(names("url(#")) {
        assert!(ids.contains(&target), "{target} is nowhere");
    }
}

#[test]
fn the_same_folders_give_the_same_bytes() {
    // Into one folder, since the command that rebuilds the report is in it.
    let out = report(&FOLDERS[..3], &[]);
    let first = files(out.path());
    let mut again = ridgepoint(&["report"]);
    again.args(&FOLDERS[..3]).arg("--out").arg(out.path()).assert().success();
    let second = files(out.path());
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    for (file, bytes) in &first {
        assert!(second[file] == *bytes, "{} differs", file.display());
    }
}

#[test]
fn what_is_no_result_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], part: &str| {
        let assert = ridgepoint(&["report"]).args(arguments).arg("--out").arg(out.path()).assert().code(2);
        let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        assert!(said.contains(part) && said.trim_end().lines().count() == 1, "{said}");
    };
    refused(&["results/nowhere"], "results/nowhere: is not there");
    refused(&["scenarios"], "scenarios: holds no results of tune, cost, baseline or sweep");
    refused(&[FOLDERS[0], FOLDERS[0]], "is given twice");
    refused(&[FOLDERS[0], "--width", "3.25"], "write it as 3.25in");
    let assert = ridgepoint(&["explain", FOLDERS[4]]).assert().code(2);
    assert!(String::from_utf8_lossy(&assert.get_output().stderr).contains("measured by baseline"));
}

#[test]
fn explain_tells_each_step_with_its_numbers() {
    let assert = ridgepoint(&["explain", FOLDERS[0]]).assert().success();
    let said = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    let lookup = said.split("drafted by prompt-lookup").nth(1).expect("a part on prompt-lookup");
    let decision = rows(format!("{}/decision.csv", FOLDERS[0])).remove(1);
    let predictions = rows(format!("{}/predictions.csv", FOLDERS[0]));
    let prediction = predictions.iter().find(|row| row["drafter"] == "prompt-lookup").unwrap();
    let arms = rows(format!("{}/arms.csv", FOLDERS[0]));
    let of = |row: &&BTreeMap<String, String>| row["drafter"] == "prompt-lookup" && row["draft_length"] == "8";
    let arm = arms.iter().find(of).unwrap();
    for part in [
        format!("At {} positions", prediction["positions"]),
        format!("right {} times: α = {:.3}", prediction["first_accepted"], number(prediction, "alpha")),
        format!(
            "γ=8 {:.3} times as fast ({:.3} to {:.3})",
            number(arm, "speedup"),
            number(arm, "speedup_low"),
            number(arm, "speedup_high")
        ),
        format!("the fastest is one of γ={}", decision["confidence_set"].replace(' ', ", ")),
        "Shown to lose less than 2 %: γ=8; the smallest of them that also beats plain decoding is γ=8".to_string(),
        format!(
            "on {} prompts that had no part in choosing: {:.3} times",
            decision["prompts_confirm"],
            number(&decision, "speedup_confirmed")
        ),
    ] {
        assert!(lookup.contains(&part), "{part} is missing in {lookup}");
    }
    let trained = said.split("drafted by smollm2-135m-distilled").nth(1).expect("a part on the trained layers");
    assert!(trained.contains("There is no speed-up to confirm."), "{trained}");
}

#[cfg(feature = "plot")]
mod figures;
