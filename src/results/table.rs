//! One raw file: what is there, and rows appended to it.

use super::wire::{Raw, header, line, parse_rows};
use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A raw CSV file opened for appending. Each row is in the file when `append` returns.
pub struct Table<R: Raw> {
    path: PathBuf,
    file: File,
    rows: Vec<R>,
    places: HashMap<R::Key, usize>,
}

impl<R: Raw> Table<R> {
    /// Opens or creates the file; a last line without its line break, torn by a kill, is dropped.
    pub(super) fn open(path: &Path) -> Result<Table<R>> {
        let path = path.to_path_buf();
        let shown = path.display().to_string();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let rows: Vec<R> = if whole == 0 { Vec::new() } else { parse_rows(&path, &text[..whole])? };
        let places = places(&shown, &rows)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let mut file = file.with_context(|| format!("cannot write {shown}; check its permissions"))?;
        file.set_len(whole as u64).with_context(|| format!("cannot write {shown}"))?;
        file.seek(SeekFrom::End(0))?;
        let mut table = Table { path, file, rows, places };
        if whole == 0 {
            table.write(&header::<R>())?;
        }
        Ok(table)
    }

    /// All rows, in the order taken.
    pub fn rows(&self) -> &[R] {
        &self.rows
    }

    /// True if a row of this key is there already.
    pub fn contains(&self, key: &R::Key) -> bool {
        self.places.contains_key(key)
    }

    /// Appends one row and flushes it. A row that is there already is refused.
    pub fn append(&mut self, row: R) -> Result<()> {
        if self.contains(&row.key()) {
            bail!("{}: the sample {:?} is there already", self.path.display(), row.key());
        }
        self.write(&line(&row)?)?;
        self.remember(row);
        Ok(())
    }

    /// Appends those rows that are not there yet, as after a kill in the middle of them; a row that is there must be equal.
    pub fn complete(&mut self, rows: Vec<R>) -> Result<()> {
        let mut text = String::new();
        let mut new = Vec::new();
        for row in rows {
            match self.places.get(&row.key()) {
                Some(&place) if self.rows[place] == row => {}
                Some(_) => bail!(
                    "{}: the sample {:?} was recorded with another value; remove this results folder and run again",
                    self.path.display(),
                    row.key()
                ),
                None => {
                    text.push_str(&line(&row)?);
                    new.push(row);
                }
            }
        }
        self.write(&text)?;
        new.into_iter().for_each(|row| self.remember(row));
        Ok(())
    }

    fn remember(&mut self, row: R) {
        self.places.insert(row.key(), self.rows.len());
        self.rows.push(row);
    }

    /// Appends whole lines; what a failed write left behind is cut off again.
    fn write(&mut self, text: &str) -> Result<()> {
        let start = self.file.stream_position()?;
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.flush());
        if written.is_err() {
            let _ = self.file.set_len(start);
            let _ = self.file.seek(SeekFrom::Start(start));
        }
        written.with_context(|| format!("cannot write {}; free some disk space and run again", self.path.display()))
    }
}

/// Where each sample stands; refuses one that is there twice. `shown` names the file.
pub(super) fn places<R: Raw>(shown: &str, rows: &[R]) -> Result<HashMap<R::Key, usize>> {
    let mut places = HashMap::new();
    for (place, row) in rows.iter().enumerate() {
        if let Some(first) = places.insert(row.key(), place) {
            let (first, second) = (first + 2, place + 2);
            bail!("{shown}: lines {first} and {second} are the same sample {:?}; delete one of them", row.key());
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::super::rows::{Control, RunRow, TraceRow};
    use super::*;
    use std::fs;

    fn open<R: Raw>(folder: &Path) -> Result<Table<R>> {
        Table::open(&folder.join(R::FILE))
    }

    fn run(block: u64, order: u64) -> RunRow {
        RunRow {
            prompt: "summary-1".to_string(),
            category: "a, \"quoted\" category".to_string(),
            block,
            order,
            control: Control::First,
            started_s: 0.1 + 0.2,
            seconds: Some(1.0 / 3.0),
            logit_margin: None,
            ..RunRow::default()
        }
    }

    #[test]
    fn rows_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let rows =
            [run(0, 0), RunRow { seconds: None, error: "no memory\nleft at /a/b.cpp:73".to_string(), ..run(0, 1) }];
        let mut table = open(folder.path()).unwrap();
        rows.iter().for_each(|row| table.append(row.clone()).unwrap());
        drop(table);
        let table: Table<RunRow> = open(folder.path()).unwrap();
        assert_eq!(table.rows()[0], rows[0]);
        assert_eq!(table.rows()[1], RunRow { error: "no memory left".to_string(), ..rows[1].clone() });
        assert!(table.contains(&(0, 1)) && !table.contains(&(1, 0)));
    }

    /// A kill may cut the file at any byte. Whatever the cut, reopening and appending what is missing gives the file of
    /// an undisturbed run.
    #[test]
    fn a_file_cut_at_any_byte_is_resumed_without_loss_or_repetition() {
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<RunRow> = (0..3).map(|order| run(7, order)).collect();
        let mut table = open(folder.path()).unwrap();
        rows.iter().for_each(|row| table.append(row.clone()).unwrap());
        drop(table);
        let path = folder.path().join("runs.csv");
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut table = open(folder.path()).unwrap();
            let complete = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(table.rows().len(), complete.saturating_sub(1));
            for row in &rows {
                if !table.contains(&row.key()) {
                    table.append(row.clone()).unwrap();
                }
            }
            assert_eq!(fs::read(&path).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_row_is_never_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let mut table = open(folder.path()).unwrap();
        table.append(run(0, 0)).unwrap();
        assert!(table.append(run(0, 0)).unwrap_err().to_string().contains("is there already"));
        drop(table);
        let path = folder.path().join("runs.csv");
        let text = fs::read_to_string(&path).unwrap();
        let last = text.lines().last().unwrap();
        fs::write(&path, format!("{text}{last}\n")).unwrap();
        let error = open::<RunRow>(folder.path()).err().unwrap().to_string();
        assert!(error.contains("lines 2 and 3 are the same sample"), "{error}");
    }

    #[test]
    fn a_half_written_trace_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let trace: Vec<TraceRow> = (0..4).map(|position| TraceRow { position, ..TraceRow::default() }).collect();
        let mut table = open(folder.path()).unwrap();
        table.complete(trace[..2].to_vec()).unwrap();
        table.complete(trace.clone()).unwrap();
        assert_eq!(table.rows(), trace);
        let other = TraceRow { matched: 1, ..trace[3].clone() };
        assert!(table.complete(vec![other]).unwrap_err().to_string().contains("with another value"));
        assert_eq!(open::<TraceRow>(folder.path()).unwrap().rows(), trace);
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut table = open(folder.path()).unwrap();
        for seconds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = table.append(RunRow { seconds: Some(seconds), ..run(0, 0) }).unwrap_err().to_string();
            assert!(error.contains("runs.csv: seconds is"), "{error}");
        }
        let error = table.append(RunRow { prompt: "a\nb".to_string(), ..run(0, 0) }).unwrap_err().to_string();
        assert!(error.contains("line break"), "{error}");
        table.append(RunRow { prompt: "NaN info".to_string(), ..run(0, 0) }).unwrap();
    }

    #[test]
    fn a_foreign_or_damaged_file_is_refused_with_its_line_and_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.csv");
        let mut table = open(folder.path()).unwrap();
        table.append(run(0, 0)).unwrap();
        drop(table);
        let text = fs::read_to_string(&path).unwrap();
        let refused = |text: &str| {
            fs::write(&path, text).unwrap();
            let error = format!("{:#}", open::<RunRow>(folder.path()).err().unwrap());
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "a refused file is left alone");
            error
        };
        let error = refused(&text.replace("draft_length", "gamma"));
        assert!(error.contains("runs.csv: line 1: column 5 must be 'draft_length' but is 'gamma'"), "{error}");
        let error = refused(&text.replace(",first,", ",middle,"));
        assert!(error.contains("line 2: ") && error.contains("middle"), "{error}");
        let error = refused(&text.replace("0.3333333333333333", "fast"));
        assert!(error.contains("line 2: seconds: "), "{error}");
        let error = refused(&text.replace(",first,", ",first,,"));
        assert!(error.contains("runs.csv"), "{error}");
    }
}
