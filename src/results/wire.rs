//! Rows to CSV and back: every float with all its digits, an empty field for a missing value, columns in the order
//! of the row type's fields, one line a row.

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::hash::Hash;
use std::io::Write;
use std::path::Path;

/// A row type: its fields, in order, are the columns of one file.
pub trait Wire: Serialize + DeserializeOwned + Clone + PartialEq + Default {
    /// The file's name in the results folder.
    const FILE: &'static str;
}

/// A row of measurements, appended as it is taken and never changed.
pub trait Raw: Wire {
    /// What names a row: no two rows of a file have the same.
    type Key: Eq + Hash + Clone + std::fmt::Debug;
    fn key(&self) -> Self::Key;
}

/// A row that can be rebuilt from the raw ones.
pub trait Derived: Wire {}

/// The columns of a row type's file, in order.
pub fn columns<R: Wire>() -> Vec<String> {
    header::<R>().trim_end().split(',').map(str::to_string).collect()
}

/// The first line of a file, with its line break.
pub(super) fn header<R: Wire>() -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.serialize(R::default()).expect("a default row serialises");
    let bytes = writer.into_inner().expect("a vector takes every write");
    let text = String::from_utf8(bytes).expect("CSV of UTF-8 is UTF-8");
    text.split_inclusive('\n').next().unwrap_or_default().to_string()
}

/// One row as a line with its line break. Refuses line breaks and numbers that are not finite.
pub(super) fn line<R: Wire>(row: &R) -> Result<String> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.serialize(row).with_context(|| format!("{}: a row cannot be written", R::FILE))?;
    let text = String::from_utf8(writer.into_inner()?).context("a row is not UTF-8")?;
    if text.matches('\n').count() != 1 {
        bail!("{}: a field has a line break: {}", R::FILE, text.replace('\n', "\\n"));
    }
    if text.contains("NaN") || text.contains("inf") {
        refuse_non_finite::<R>(&text)?;
    }
    Ok(text)
}

fn refuse_non_finite<R: Wire>(line: &str) -> Result<()> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
    let record = reader.records().next().context("a row has no fields")??;
    for (name, field) in columns::<R>().iter().zip(&record) {
        if matches!(field, "NaN" | "inf" | "-inf") {
            bail!("{}: {name} is {field}, which no measurement can be; leave it empty or record an error", R::FILE);
        }
    }
    Ok(())
}

/// Reads a whole file. Errors name the file, the line and the column.
pub fn read_rows<R: Wire>(path: &Path) -> Result<Vec<R>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_rows(path, &text)
}

/// The rows of a file's text; `path` serves the messages.
pub fn parse_rows<R: Wire>(path: &Path, text: &str) -> Result<Vec<R>> {
    let shown = path.display();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let found: Vec<String> = reader.headers()?.iter().map(str::to_string).collect();
    let expected = columns::<R>();
    if found != expected {
        let column = expected.iter().zip(&found).position(|(a, b)| a != b).unwrap_or(expected.len().min(found.len()));
        let name = |columns: &[String]| columns.get(column).map_or("nothing".to_string(), |name| format!("'{name}'"));
        let (wanted, there) = (name(&expected), name(&found));
        bail!(
            "{shown}: line 1: column {} must be {wanted} but is {there}; it was written by another version",
            column + 1
        );
    }
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).with_context(|| format!("{shown}: is not well-formed CSV"))? {
        let line = record.position().map_or(0, csv::Position::line);
        let row = record.deserialize(None).map_err(|error| {
            let (column, message) = match error.kind() {
                csv::ErrorKind::Deserialize { err, .. } => (err.field(), err.kind().to_string()),
                _ => (None, error.to_string()),
            };
            let column = column.and_then(|index| expected.get(index as usize)).map_or("a field", String::as_str);
            anyhow::anyhow!("{shown}: line {line}: {column}: {message}; mend or delete the file")
        })?;
        rows.push(row);
    }
    Ok(rows)
}

/// Writes a whole file, atomically.
pub fn write_rows<R: Wire>(path: &Path, rows: &[R]) -> Result<()> {
    let mut text = header::<R>();
    for row in rows {
        text.push_str(&line(row)?);
    }
    write_atomically(path, text.as_bytes())
}

/// Writes beside the file and renames, so that a reader sees either the old file or the new one.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().with_context(|| format!("{} is not a file", path.display()))?.to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    let written = std::fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| std::fs::rename(&temporary, path));
    if renamed.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    renamed.with_context(|| format!("cannot write {}; check the folder's permissions and free space", path.display()))
}
