//! A prompt set: JSON Lines, one prompt a line, in the order in which they are used.

use super::load::sha256_hex;
use crate::usage;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::Path;

/// The prompts of one file.
#[derive(Debug, Clone, Default)]
pub struct PromptSet {
    pub prompts: Vec<Prompt>,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

/// One prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Unique in its file; names the prompt in every result.
    pub id: String,
    /// What sort of task it is.
    pub category: String,
    pub input: PromptInput,
}

/// What the model is given.
#[derive(Debug, Clone, PartialEq)]
pub enum PromptInput {
    /// Text that is continued as it stands.
    Text(String),
    /// A chat that goes through the model's chat template.
    Chat(Vec<Message>),
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    pub content: String,
}

/// A line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    category: String,
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
}

/// Reads and validates a prompt file. Errors name the file, the line and the field.
pub fn load_prompts(path: &Path) -> Result<PromptSet> {
    let shown = path.display();
    let bytes = std::fs::read(path)
        .map_err(|error| usage!("{shown}: cannot read this prompt file ({error}); check the path"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| usage!("{shown}: is not UTF-8 text; save it as UTF-8"))?;
    let mut prompts = Vec::new();
    let mut ids = HashSet::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let prompt = parse_line(line).map_err(|message| usage!("{shown}: line {}: {message}", index + 1))?;
        if !ids.insert(prompt.id.clone()) {
            return Err(usage!("{shown}: line {}: id: a second prompt named '{}'; rename one", index + 1, prompt.id));
        }
        prompts.push(prompt);
    }
    if prompts.is_empty() {
        return Err(usage!("{shown}: has no prompts; write one JSON object a line with id, category and messages"));
    }
    Ok(PromptSet { prompts, sha256: sha256_hex(&bytes) })
}

fn parse_line(line: &str) -> Result<Prompt, String> {
    let mut json = serde_json::Deserializer::from_str(line);
    let read: Line = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let field = if field == "." { String::new() } else { format!("{field}: ") };
        format!("{field}{}", error.inner())
    })?;
    json.end().map_err(|_| "more than one JSON object; write one a line".to_string())?;
    for (field, text) in [("id", &read.id), ("category", &read.category)] {
        if text.trim().is_empty() || text.len() > 100 || text.chars().any(char::is_control) {
            return Err(format!("{field}: must be 1 to 100 bytes without control characters"));
        }
    }
    let input = match (read.prompt, read.messages) {
        (Some(text), None) if text.is_empty() => return Err("prompt: is empty".to_string()),
        (Some(text), None) => PromptInput::Text(text),
        (None, Some(messages)) => PromptInput::Chat(check_messages(messages)?),
        _ => return Err("give either 'prompt' or 'messages'".to_string()),
    };
    Ok(Prompt { id: read.id, category: read.category, input })
}

fn check_messages(messages: Vec<Message>) -> Result<Vec<Message>, String> {
    for (index, message) in messages.iter().enumerate() {
        if !["system", "user", "assistant"].contains(&message.role.as_str()) {
            let role = &message.role;
            return Err(format!("messages[{index}].role: must be system, user or assistant, got '{role}'"));
        }
    }
    match messages.last() {
        Some(last) if last.role == "user" && !last.content.is_empty() => Ok(messages),
        _ => Err("messages: the last one must be the user's and not be empty".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &[u8]) -> Result<PromptSet, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.jsonl");
        std::fs::write(&path, text).unwrap();
        load_prompts(&path).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn both_kinds_of_input_are_read_in_order() {
        let text = r#"{"id":"b","category":"x","prompt":"Once"}

{"id":"a","category":"y","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]}
"#;
        let set = load_text(text.as_bytes()).unwrap();
        assert_eq!(set.prompts[0].input, PromptInput::Text("Once".to_string()));
        assert_eq!(set.prompts[1].id, "a");
        let PromptInput::Chat(messages) = &set.prompts[1].input else { panic!("a chat") };
        assert_eq!(messages.len(), 2);
    }

    #[test]
    fn a_bad_line_is_named_with_its_field() {
        let user = r#"[{"role":"user","content":"Hi"}]"#;
        for (line, expected) in [
            ("".to_string(), "has no prompts"),
            ("{".to_string(), "line 1: "),
            (format!(r#"{{"id":"a","category":"c","messages":{user}}} {{}}"#), "more than one JSON object"),
            (r#"{"id":"a","category":"c"}"#.to_string(), "give either"),
            (format!(r#"{{"id":"a","category":"c","prompt":"x","messages":{user}}}"#), "give either"),
            (format!(r#"{{"id":" ","category":"c","messages":{user}}}"#), "id: must be"),
            (format!(r#"{{"id":"a","category":"c\n","messages":{user}}}"#), "category: must be"),
            (format!(r#"{{"id":"a","category":"c","split":"tune","messages":{user}}}"#), "unknown field `split`"),
            (r#"{"id":"a","category":"c","messages":[]}"#.to_string(), "the last one must be the user's"),
            (r#"{"id":"a","category":"c","messages":[{"role":"x","content":"y"}]}"#.to_string(), "messages[0].role"),
            (r#"{"id":"a","category":"c","messages":[{"role":"user"}]}"#.to_string(), "messages[0]: missing field"),
            (r#"{"id":"a","category":"c","prompt":""}"#.to_string(), "prompt: is empty"),
        ] {
            let error = load_text(line.as_bytes()).unwrap_err();
            assert!(error.contains(expected) && error.contains("p.jsonl: "), "{line}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let twice = "{\"id\":\"a\",\"category\":\"c\",\"prompt\":\"x\"}\n".repeat(2);
        assert!(load_text(twice.as_bytes()).unwrap_err().contains("line 2: id: a second prompt named 'a'"));
        assert!(load_text(b"\xff").unwrap_err().contains("not UTF-8"));
    }
}
