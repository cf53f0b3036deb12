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
    pub(super) fn open(folder: &Path) -> Result<Table<R>> {
        let path = folder.join(R::FILE);
        let shown = path.display().to_string();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let rows: Vec<R> = if whole == 0 { Vec::new() } else { parse_rows(&path, &text[..whole])? };
        let mut places = HashMap::new();
        for (place, row) in rows.iter().enumerate() {
            if let Some(first) = places.insert(row.key(), place) {
                let (first, second) = (first + 2, place + 2);
                bail!("{shown}: lines {first} and {second} are the same sample {:?}; delete one of them", row.key());
            }
        }
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
