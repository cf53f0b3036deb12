//! `results/README.md` describes every column of every file, in order.

#[test]
fn every_column_has_its_line() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/results/README.md")).unwrap();
    let mut documented: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        if let Some(file) = line.strip_prefix("## ") {
            documented.push((file.to_string(), Vec::new()));
        } else if let Some(row) = line.strip_prefix("| `") {
            let (column, meaning) = row.split_once("` | ").expect("two cells");
            assert!(!meaning.trim_end_matches(" |").is_empty(), "{line}");
            documented.last_mut().expect("a heading").1.push(column.to_string());
        }
    }
    let written: Vec<(String, Vec<String>)> = ridgepoint::results::schema()
        .into_iter()
        .map(|(file, columns)| (file.to_string(), columns.into_iter().map(|column| column.name).collect()))
        .collect();
    assert_eq!(documented, written);
}
