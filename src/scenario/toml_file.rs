//! Reading one TOML or JSON file with errors that name the file, the line, the field and what was expected.

use crate::usage;
use anyhow::{Error, Result};
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::path::Path;

/// The largest TOML file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a text file whole.
pub fn read_text(path: &Path, what: &str) -> Result<String> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(error) => return Err(usage!("{shown}: cannot read this {what} ({error}); check the path")),
        Ok(meta) if meta.is_dir() => return Err(usage!("{shown}: is a folder; name the {what} itself")),
        Ok(meta) if meta.len() > MAX_BYTES => {
            return Err(usage!("{shown}: has {} bytes; a {what} has at most {MAX_BYTES}", meta.len()));
        }
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).map_err(|error| usage!("{shown}: cannot read this {what} ({error})"))?;
    String::from_utf8(bytes).map_err(|_| usage!("{shown}: is not UTF-8 text; save the {what} as UTF-8"))
}

/// Deserialises a whole TOML text; unknown keys are refused by the types themselves.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    let document = toml::Deserializer::parse(text).map_err(|error| syntax_error(path, text, ".", &error))?;
    serde_path_to_error::deserialize(document)
        .map_err(|error| syntax_error(path, text, &error.path().to_string(), error.inner()))
}

/// The same of a JSON text, in which unknown keys are let be unless the type refuses them.
pub fn parse_json<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(|error| {
        // No field is known where the text ends too early.
        match error.path().to_string().as_str() {
            "." | "?" => usage!("{}: {}", path.display(), error.inner()),
            field => field_error(path, field, error.inner()),
        }
    })
}

/// An error about one field: `file: field: message`.
pub fn field_error(path: &Path, field: &str, message: impl Display) -> Error {
    usage!("{}: {field}: {message}", path.display())
}

fn syntax_error(path: &Path, text: &str, field: &str, error: &toml::de::Error) -> Error {
    let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
    let place = line.map(|line| format!(" line {line}:")).unwrap_or_default();
    let field = if field == "." { String::new() } else { format!(" {field}:") };
    let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    usage!("{}:{place}{field} {message}", path.display())
}
