//! The scripts that read the CSVs from other languages run, agree with each other and say what the derived files say.
//! Those whose language or library is not installed are left out, and named.

use std::collections::BTreeMap;
use std::process::Command;

const TUNE: &str = "results/linux-cpu-2core/quickstart";
const COST: &str = "results/linux-cpu-2core/cost-SmolLM2-135M-Instruct.Q4_1-float32";

fn rows(file: String) -> Vec<BTreeMap<String, String>> {
    csv::Reader::from_path(file).unwrap().deserialize().map(|row| row.unwrap()).collect()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap()
}

/// What every script prints, from the derived files.
fn expected() -> String {
    let mut lines = Vec::new();
    for row in rows(format!("{TUNE}/decision.csv")) {
        let speedup = match row["speedup_confirmed"].as_str() {
            "" => "unconfirmed".to_string(),
            speedup => format!("{:.3}", number(speedup)),
        };
        let length = Some(row["draft_length"].as_str()).filter(|length| !length.is_empty()).unwrap_or("undecided");
        lines.push(format!("decision {} {length} {speedup}", row["drafter"]));
    }
    let widths = rows(format!("{COST}/cost_widths.csv"));
    let time = |width: &str| {
        let of =
            |row: &&BTreeMap<String, String>| row["role"] == "target" && row["mode"] == "sync" && row["width"] == width;
        number(&widths.iter().find(of).unwrap()["time_ms"])
    };
    lines.extend(["2", "8", "32", "128"].map(|width| format!("cost {width} {:.3}", time(width) / time("1"))));
    let acceptance = rows(format!("{TUNE}/acceptance.csv"));
    let first = acceptance.iter().filter(|row| row["draft_position"] == "1");
    lines.extend(
        first.map(|row| format!("acceptance {} {} {:.3}", row["drafter"], row["category"], number(&row["alpha"]))),
    );
    let speeds: BTreeMap<u64, f64> = rows(format!("{TUNE}/arms.csv"))
        .iter()
        .map(|row| (row["draft_length"].parse().unwrap(), number(&row["tok_per_s"])))
        .collect();
    lines.extend(speeds.iter().map(|(length, speed)| format!("runs {length} {speed:.3}")));
    lines.join("\n") + "\n"
}

/// Whether a program can load a library; says so where it cannot.
fn has(program: &str, code: [&str; 2], script: &str) -> bool {
    let found = Command::new(program).args(code).output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("{script} is left out: {program} {} fails", code.join(" "));
    }
    found
}

#[test]
fn every_script_says_what_the_derived_files_say() {
    let own = std::env::var("RIDGEPOINT_PYTHON").unwrap_or(".venv/bin/python".to_string());
    for (program, code, script) in [
        (own.as_str(), ["-c", "import pandas"], "with_pandas.py"),
        (own.as_str(), ["-c", "import polars"], "with_polars.py"),
        ("Rscript", ["-e", "library(readr)"], "with_readr.R"),
    ] {
        if !has(program, code, script) {
            continue;
        }
        let output =
            Command::new(program).arg(format!("scripts/notebooks/{script}")).args([TUNE, COST]).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected(), "{script}");
    }
}
