//! Measurements taken by other programs: any CSV with the columns `prompt`, `arm`, `seconds` and `tokens`.

use crate::results::RunRow;
use crate::usage;
use anyhow::Result;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// The drafter's name that minimal rows are given.
const DRAFTER: &str = "draft";

#[derive(Deserialize)]
struct Row {
    prompt: String,
    arm: u64,
    seconds: f64,
    tokens: u64,
}

/// Reads a minimal CSV as runs of the tuning split: `arm` is the draft length, 0 plain decoding. Other columns are
/// ignored, and their order does not matter. Repeats of a prompt and arm are averaged later.
///
/// # Errors
/// A missing column, a field that is not what it must be, or two rows that are the same in every field.
pub fn read_minimal(path: &Path) -> Result<Vec<RunRow>> {
    let shown = path.display();
    let mut reader = csv::Reader::from_path(path).map_err(|error| usage!("{shown}: cannot read this CSV ({error})"))?;
    let headers = reader.headers().map_err(|error| usage!("{shown}: is not CSV ({error})"))?.clone();
    for column in ["prompt", "arm", "seconds", "tokens"] {
        if !headers.iter().any(|name| name == column) {
            return Err(usage!(
                "{shown}: line 1: column '{column}' is missing; needed are prompt, arm, seconds and tokens"
            ));
        }
    }
    let mut runs = Vec::new();
    let mut seen: HashMap<Vec<String>, u64> = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| usage!("{shown}: is not well-formed CSV ({error})"))?;
        let line = record.position().map_or(0, csv::Position::line);
        let row: Row = record.deserialize(Some(&headers)).map_err(|error| field_error(path, line, &headers, &error))?;
        if let Some(first) = seen.insert(record.iter().map(str::to_string).collect(), line) {
            return Err(usage!("{shown}: lines {first} and {line} are the same row; delete one of them"));
        }
        runs.push(run(row, runs.len() as u64));
    }
    Ok(runs)
}

fn run(row: Row, order: u64) -> RunRow {
    RunRow {
        prompt: row.prompt,
        split: "tune".to_string(),
        drafter: if row.arm == 0 { "" } else { DRAFTER }.to_string(),
        draft_length: row.arm,
        order,
        tokens: row.tokens,
        seconds: Some(row.seconds),
        ..RunRow::default()
    }
}

fn field_error(path: &Path, line: u64, headers: &csv::StringRecord, error: &csv::Error) -> anyhow::Error {
    let (column, message) = match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => (err.field(), err.kind().to_string()),
        _ => (None, error.to_string()),
    };
    let column = column.and_then(|index| headers.get(index as usize)).unwrap_or("a field");
    usage!("{}: line {line}: {column}: {message}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<RunRow>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.csv");
        std::fs::write(&path, text).unwrap();
        read_minimal(&path).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn columns_may_come_in_any_order_and_others_are_ignored() {
        let runs = read("tokens,note,arm,prompt,seconds\n48,x,0,a,1.5\n48,,4,a,0.75\n").unwrap();
        assert_eq!((runs[0].draft_length, runs[0].seconds, runs[0].drafter.as_str()), (0, Some(1.5), ""));
        assert_eq!((runs[1].draft_length, runs[1].tokens, runs[1].drafter.as_str()), (4, 48, "draft"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("", "column 'prompt' is missing"),
            ("prompt,arm,seconds\n", "column 'tokens' is missing"),
            ("prompt,arm,seconds,tokens\na,0,fast,48\n", "line 2: seconds: "),
            ("prompt,arm,seconds,tokens\na,-1,1,48\n", "line 2: arm: "),
            ("prompt,arm,seconds,tokens\na,0,1\n", "is not well-formed CSV"),
            ("prompt,arm,seconds,tokens\na,0,1,48\nb,0,1,48\na,0,1,48\n", "lines 2 and 4 are the same row"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected) && error.contains("my.csv: "), "{text:?}: {error}");
        }
    }
}
