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
mod figures {
    use super::*;
    use std::process;

    /// Runs a program of the system if it is there.
    fn there(program: &str) -> bool {
        let found = process::Command::new(program).arg("-v").output().is_ok();
        if !found {
            eprintln!("{program} is not installed: what needs it is not checked here");
        }
        found
    }

    fn figures(out: &TempDir, ending: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(out.path().join("figures")).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
        found.sort();
        found
    }

    #[test]
    fn every_figure_has_four_files_of_its_width() {
        let out = report(&FOLDERS, &["--width", "6.75in"]);
        let stems = |ending: &str| -> Vec<String> {
            figures(&out, ending).iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
        };
        let names = stems("svg");
        for kind in ["cost", "regimes", "regime-map", "throughput-", "speedup-", "acceptance-", "roofline-", "round-"] {
            assert!(names.iter().any(|name| name.starts_with(kind)), "no figure {kind} in {names:?}");
        }
        for ending in ["pdf", "png", "csv"] {
            assert_eq!(stems(ending), names, "{ending}");
        }
        for file in figures(&out, "svg") {
            let svg = fs::read_to_string(&file).unwrap();
            let tree = roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert_eq!(tree.root_element().attribute("width"), Some("6.7500in"), "{}", file.display());
            let view: Vec<f64> = tree
                .root_element()
                .attribute("viewBox")
                .unwrap()
                .split(' ')
                .map(|part| part.parse().unwrap())
                .collect();
            // Nothing is written outside of the drawing.
            for text in tree.descendants().filter(|node| node.has_tag_name("text")) {
                let shown = text.text().unwrap_or_default();
                let end = text.attribute("x").and_then(|x| x.parse::<f64>().ok()).unwrap_or(0.0)
                    + 0.45
                        * text.attribute("font-size").and_then(|size| size.parse::<f64>().ok()).unwrap_or(0.0)
                        * shown.chars().count() as f64;
                let from_its_start = text.attribute("text-anchor").is_none_or(|anchor| anchor == "start");
                assert!(!from_its_start || end <= view[2], "{}: '{shown}' is cut off", file.display());
                for (axis, size) in [("x", view[2]), ("y", view[3])] {
                    let Some(place) = text.attribute(axis) else { continue };
                    let place: f64 = place.parse().unwrap();
                    let shown = text.text().unwrap_or_default();
                    assert!(
                        (0.0..=size).contains(&place),
                        "{}: '{shown}' is at {axis} = {place} of {size}",
                        file.display()
                    );
                }
            }
        }
    }

    #[test]
    fn a_pdf_is_of_its_width_and_its_text_is_text_in_embedded_fonts() {
        if !there("pdffonts") || !there("pdftotext") || !there("pdfinfo") {
            return;
        }
        let out = report(&FOLDERS[..1], &["--width", "3.25in"]);
        let said = |program: &str, file: &Path| {
            let output =
                process::Command::new(program).arg(file).args((program == "pdftotext").then_some("-")).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        for file in figures(&out, "pdf") {
            let shown = file.display();
            let fonts = said("pdffonts", &file);
            let fonts: Vec<&str> = fonts.lines().skip(2).collect();
            assert!(!fonts.is_empty(), "{shown} has no fonts");
            for font in fonts {
                // Columns from the right: object (two), Unicode map, subset, embedded.
                let columns: Vec<&str> = font.split_whitespace().rev().collect();
                assert_eq!(&columns[2..5], ["yes", "yes", "yes"], "{shown}: {font}");
            }
            assert!(said("pdfinfo", &file).contains("Page size:       234 x"), "{shown}");
        }
        let speedup = out.path().join("figures/speedup-linux-cpu-2core-drafters-prompt-lookup.pdf");
        assert!(said("pdftotext", &speedup).contains("draft length γ"));
    }

    #[test]
    fn the_data_beside_a_figure_are_those_of_the_results() {
        let out = report(&FOLDERS[..4], &[]);
        let figures = out.path().join("figures");
        let drawn = rows(figures.join("speedup-linux-cpu-2core-drafters-prompt-lookup.csv"));
        let arms = rows(format!("{}/arms.csv", FOLDERS[0]));
        for row in drawn.iter().filter(|row| row["on"] == "tuning") {
            let of = |arm: &&BTreeMap<String, String>| {
                arm["drafter"] == row["drafter"] && arm["draft_length"] == row["draft_length"]
            };
            let arm = arms.iter().find(of).unwrap();
            for column in ["speedup", "speedup_low", "speedup_high", "may_be_best", "recommended"] {
                assert_eq!(row[column], arm[column], "{column}");
            }
        }
        let decision = rows(format!("{}/decision.csv", FOLDERS[0])).remove(1);
        let confirmed = drawn.iter().find(|row| row["on"] == "confirmation").expect("the confirmation is drawn");
        assert_eq!(confirmed["speedup"], decision["speedup_confirmed"]);

        let cost = rows(figures.join("cost.csv"));
        for (folder, machine) in [(FOLDERS[2], "linux-cpu-2core"), (FOLDERS[3], "h100-mlx-kernels")] {
            let widths = rows(format!("{folder}/cost_widths.csv"));
            let widths: Vec<_> = widths.iter().filter(|row| row["role"] == "target" && row["mode"] == "sync").collect();
            let one = number(widths[0], "time_ms");
            let drawn: Vec<_> = cost.iter().filter(|row| row["machine"] == machine).collect();
            assert_eq!(drawn.len(), widths.len());
            for (drawn, width) in drawn.iter().zip(widths) {
                assert_eq!((&drawn["width"], &drawn["time_ms"]), (&width["width"], &width["time_ms"]));
                assert_eq!(number(drawn, "relative"), number(width, "time_ms") / one);
            }
        }
    }

    #[test]
    fn a_paper_that_takes_in_the_figures_tables_and_numbers_compiles() {
        if !there("pdflatex") {
            return;
        }
        let out = report(&FOLDERS, &[]);
        let mut paper = String::from(
            "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\input{latex/numbers}\n\\begin{document}\n",
        );
        for line in text(&out, "latex/numbers.tex").lines() {
            paper += &format!("{}. ", line.split(['{', '}']).nth(1).unwrap());
        }
        let mut tables: Vec<PathBuf> =
            fs::read_dir(out.path().join("latex")).unwrap().map(|entry| entry.unwrap().path()).collect();
        tables.sort();
        for table in tables.iter().filter(|path| !path.ends_with("numbers.tex")) {
            paper += &format!("\n\n\\input{{latex/{}}}", table.file_name().unwrap().to_string_lossy());
        }
        for figure in figures(&out, "pdf") {
            paper += &format!("\n\n\\includegraphics{{figures/{}}}", figure.file_name().unwrap().to_string_lossy());
        }
        fs::write(out.path().join("paper.tex"), paper + "\n\\end{document}\n").unwrap();
        let run = process::Command::new("pdflatex")
            .args(["-interaction=nonstopmode", "-halt-on-error", "paper.tex"])
            .current_dir(out.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && out.path().join("paper.pdf").exists(), "{said}");
        assert!(!said.contains("Missing character"), "{said}");
    }
}
