//! Tables that others published: any CSV with a header, looked up by the values of its columns.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// A published table.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedTable {
    path: PathBuf,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl PublishedTable {
    /// Reads a table whole; every row must have a field for every column.
    pub fn read(path: &Path) -> Result<PublishedTable> {
        let shown = path.display();
        let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot read {shown}"))?;
        let fields = |record: &csv::StringRecord| record.iter().map(str::to_string).collect::<Vec<_>>();
        let columns = fields(reader.headers().with_context(|| format!("{shown}: is not well-formed CSV"))?);
        let mut rows = Vec::new();
        for record in reader.records() {
            rows.push(fields(&record.with_context(|| format!("{shown}: is not well-formed CSV"))?));
        }
        Ok(PublishedTable { path: path.to_path_buf(), columns, rows })
    }

    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// A column as numbers, a row each; none where the field is empty.
    pub fn numbers(&self, column: &str) -> Result<Vec<Option<f64>>> {
        let place = self.place(column)?;
        self.rows.iter().enumerate().map(|(row, fields)| self.number(row, column, &fields[place])).collect()
    }

    /// The number in `column` of the only row whose other columns are as given.
    pub fn value(&self, wanted: &[(&str, &str)], column: &str) -> Result<f64> {
        let mut places = Vec::new();
        for (name, value) in wanted {
            places.push((self.place(name)?, *value));
        }
        let fits = |fields: &Vec<String>| places.iter().all(|&(place, value)| fields[place] == value);
        let found: Vec<usize> = (0..self.rows.len()).filter(|&row| fits(&self.rows[row])).collect();
        let [row] = found.as_slice() else {
            bail!("{}: {} rows with {wanted:?}; one is needed", self.path.display(), found.len());
        };
        let number = self.number(*row, column, &self.rows[*row][self.place(column)?])?;
        number.with_context(|| format!("{}: line {}: {column}: is empty", self.path.display(), row + 2))
    }

    fn place(&self, column: &str) -> Result<usize> {
        let place = self.columns.iter().position(|name| name == column);
        place.with_context(|| format!("{}: has no column '{column}'", self.path.display()))
    }

    fn number(&self, row: usize, column: &str, field: &str) -> Result<Option<f64>> {
        if field.is_empty() {
            return Ok(None);
        }
        let number = field.parse::<f64>().ok().filter(|number| number.is_finite());
        let place = || format!("{}: line {}: {column}: '{field}' is not a number", self.path.display(), row + 2);
        number.map(Some).with_context(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_looked_up_and_what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("width,mode,time_ms\n1,sync,2.5\n1,pipelined,\n4,sync,x\n");
        let table = PublishedTable::read(&path).unwrap();
        assert_eq!(table.value(&[("width", "1"), ("mode", "sync")], "time_ms").unwrap(), 2.5);
        for (wanted, column, expected) in [
            (&[("width", "1")][..], "time_ms", "a.csv: 2 rows with"),
            (&[("width", "9")], "time_ms", "a.csv: 0 rows with"),
            (&[("width", "4")], "time_ms", "a.csv: line 4: time_ms: 'x' is not a number"),
            (&[("mode", "pipelined")], "time_ms", "a.csv: line 3: time_ms: is empty"),
            (&[("width", "4")], "time", "a.csv: has no column 'time'"),
        ] {
            let error = table.value(wanted, column).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(table.numbers("time_ms").is_err());
        assert_eq!(table.numbers("width").unwrap(), [Some(1.0), Some(1.0), Some(4.0)]);
        write("width,time_ms\n1\n");
        assert!(format!("{:#}", PublishedTable::read(&path).unwrap_err()).contains("not well-formed"));
    }
}
