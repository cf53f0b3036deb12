//! A report before it is written down: what it says, in order, once for every format.
//!
//! How to add a format: one file with a function from a [`Document`] to text, one `pub use` here, one line in
//! `src/cli/report.rs`. How to add a kind of block: one variant of [`Block`], one arm in each format.

mod html;
mod latex;
mod markdown;

pub use html::html;
pub use latex::{Macros, booktabs};
pub use markdown::markdown;

/// A whole report.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document {
    pub title: String,
    pub blocks: Vec<Block>,
}

/// A piece of a report. Texts are plain: each format escapes them.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// Of a section (2) or of a part of it (3).
    Heading(u8, String),
    Text(String),
    /// What to take away.
    Headline(String),
    List(Vec<String>),
    Table(Table),
    Picture(Picture),
    /// To be typed as it stands.
    Command(String),
    /// What is to be compared, such as machines.
    Beside(Vec<Vec<Block>>),
}

/// Columns with their names, rows of text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    pub caption: String,
    pub header: Vec<String>,
    /// Which columns hold numbers, and stand to the right.
    pub numbers: Vec<bool>,
    pub rows: Vec<Vec<String>>,
}

/// A figure that lies in the folder `figures` under this name.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub name: String,
    pub caption: String,
    /// The drawing, to stand in a page.
    pub svg: String,
}

impl Table {
    /// A table whose first `names` columns are words and whose others are numbers.
    pub fn new(caption: impl Into<String>, header: &[&str], names: usize) -> Table {
        Table {
            caption: caption.into(),
            header: header.iter().map(|name| name.to_string()).collect(),
            numbers: (0..header.len()).map(|column| column >= names).collect(),
            rows: Vec::new(),
        }
    }

    /// The same with these columns as words too.
    pub fn words(mut self, columns: &[usize]) -> Table {
        columns.iter().for_each(|&column| self.numbers[column] = false);
        self
    }

    pub fn with_rows<R: IntoIterator<Item = String>>(mut self, rows: impl IntoIterator<Item = R>) -> Table {
        self.rows.extend(rows.into_iter().map(|row| row.into_iter().collect::<Vec<String>>()));
        debug_assert!(self.rows.iter().all(|row| row.len() == self.header.len()), "{}", self.caption);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
pub(super) fn example() -> Document {
    let table = Table::new("Speeds & more", &["name", "γ"], 1).with_rows([["a|b <c>".to_string(), "7".to_string()]]);
    let picture =
        Picture { name: "cost-a".to_string(), caption: "t(b)".to_string(), svg: "<svg><g/></svg>".to_string() };
    Document {
        title: "A & B".to_string(),
        blocks: vec![
            Block::Heading(2, "First <part>".to_string()),
            Block::Headline("Draft 7.".to_string()),
            Block::Beside(vec![vec![Block::Text("left * 1".to_string())], vec![Block::Table(table)]]),
            Block::List(vec!["one".to_string(), "two".to_string()]),
            Block::Picture(picture),
            Block::Command("ridgepoint report x".to_string()),
        ],
    }
}
