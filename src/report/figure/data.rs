//! What a figure is drawn from, to lie beside it as CSV.

/// Columns with their names, rows of fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Data {
    pub fn new(columns: &'static [&'static str]) -> Data {
        Data { columns, rows: Vec::new() }
    }

    /// Adds a row, a field a column.
    pub fn push(&mut self, row: impl IntoIterator<Item = String>) {
        let row: Vec<String> = row.into_iter().collect();
        assert_eq!(row.len(), self.columns.len(), "a field a column");
        self.rows.push(row);
    }

    /// As CSV: every float with all its digits, an empty field for a missing value.
    pub fn csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let written = writer
            .write_record(self.columns)
            .and_then(|()| self.rows.iter().try_for_each(|row| writer.write_record(row)));
        written.expect("a vector takes every write");
        let bytes = writer.into_inner().expect("a vector takes every write");
        String::from_utf8(bytes).expect("CSV of UTF-8 is UTF-8")
    }
}

/// A number that may be missing.
pub fn field(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_a_csv_with_all_digits() {
        let mut data = Data::new(&["name", "x"]);
        data.push(["a, b".to_string(), field(Some(1.0 / 3.0))]);
        data.push(["c".to_string(), field(None)]);
        assert_eq!(data.csv(), "name,x\n\"a, b\",0.3333333333333333\nc,\n");
    }
}
