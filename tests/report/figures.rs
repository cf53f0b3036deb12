//! The figures of a report and the data beside them.

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
        let view: Vec<f64> =
            tree.root_element().attribute("viewBox").unwrap().split(' ').map(|part| part.parse().unwrap()).collect();
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
        let output = process::Command::new(program).arg(file).args((program == "pdftotext").then_some("-")).output();
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
