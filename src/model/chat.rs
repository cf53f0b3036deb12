//! Chat templates: Jinja programs that checkpoints ship to turn a conversation into the text of a prompt. Rendered as
//! transformers does, byte for byte.

use super::tokenizer::special_token;
use crate::usage;
use anyhow::{Result, anyhow};
use jiff::ZonedDateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, context};
use minijinja_contrib::pycompat;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::ser::Formatter;
use std::io;

const NAME: &str = "chat_template";
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `system`, `user` or `assistant`; a template may know others.
    pub role: String,
    pub content: String,
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Which file the template came from, for messages.
    origin: &'static str,
}

impl ChatTemplate {
    /// The template of `chat_template.jinja` where there is one, else that of `tokenizer_config.json` (of several the
    /// one named `default`); `None` where neither has any.
    ///
    /// # Errors
    /// A template with a syntax error, or several of which none is the default. The caller adds the directory.
    pub fn from_config(tokenizer_config: &Value, chat_template_jinja: Option<&str>) -> Result<Option<Self>> {
        let (source, origin) = match chat_template_jinja {
            Some(source) => (source, "chat_template.jinja"),
            None => match configured(tokenizer_config)? {
                Some(source) => (source, "chat_template in tokenizer_config.json"),
                None => return Ok(None),
            },
        };
        let mut environment = environment();
        for key in SPECIAL_TOKENS {
            if let Some(token) = special_token(tokenizer_config, key) {
                environment.add_global(key, token.to_owned());
            }
        }
        environment.add_template_owned(NAME, without_generation_tags(source)).map_err(|error| {
            let reason = one_line(&error);
            anyhow!("{origin}: {reason}; correct the template, or give the prompt as plain text")
        })?;
        Ok(Some(ChatTemplate { environment, origin }))
    }

    /// The text of the conversation, with the beginning of the assistant's answer if `add_generation_prompt`.
    /// Some templates print today's date: see [`ChatTemplate::render_at`].
    ///
    /// # Errors
    /// A conversation that the template refuses, such as one with a role that it does not know.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.render_at(messages, add_generation_prompt, &ZonedDateTime::now())
    }

    /// As [`ChatTemplate::render`], with the time that the template takes as now.
    pub fn render_at(&self, messages: &[Message], add_generation_prompt: bool, now: &ZonedDateTime) -> Result<String> {
        let now = now.clone();
        let strftime_now = move |format: &str| {
            jiff::fmt::strtime::format(format, &now)
                .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
        };
        let variables = context! {
            messages => minijinja::Value::from(Serde(messages)),
            add_generation_prompt => add_generation_prompt,
            tools => None::<()>,
            documents => None::<()>,
            strftime_now => minijinja::Value::from_function(strftime_now),
        };
        self.environment.get_template(NAME).and_then(|template| template.render(variables)).map_err(|error| {
            let (origin, reason) = (self.origin, one_line(&error));
            usage!("{origin} cannot render this conversation ({reason}); change the messages, or give a plain prompt")
        })
    }
}

/// The `chat_template` of `tokenizer_config.json`: a template, or a list of named ones.
fn configured(tokenizer_config: &Value) -> Result<Option<&str>> {
    const FIELD: &str = "chat_template in tokenizer_config.json";
    match &tokenizer_config["chat_template"] {
        Value::Null => Ok(None),
        Value::String(source) => Ok(Some(source)),
        Value::Array(named) => named
            .iter()
            .find(|template| template["name"] == "default")
            .and_then(|template| template["template"].as_str())
            .map(Some)
            .ok_or_else(|| usage!("{FIELD}: none of its templates is named 'default'; name one so")),
        _ => Err(usage!("{FIELD} is neither a string nor a list of templates; correct it")),
    }
}

/// Jinja as transformers sets it up.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the default delimiters are valid"));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(python_method);
    environment.add_filter("trim", trim);
    environment.add_filter("tojson", tojson);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_function("raise_exception", |message: String| -> Result<(), Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment
}

/// Templates may mark what the assistant says with `{% generation %}`, which renders as its content. `{% with %}` has
/// the same scope.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        result.push_str(before);
        let name_at = tag.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(tag.len());
        let (lead, name) = tag.split_at(name_at);
        rest = tag;
        if lead.chars().all(|c| c.is_whitespace() || c == '-' || c == '+') {
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
            let replacement = match &name[..end] {
                "generation" => "with",
                "endgeneration" => "endwith",
                other => other,
            };
            result.push_str(lead);
            result.push_str(replacement);
            rest = &name[end..];
        }
    }
    result.push_str(rest);
    result
}

/// As in Jinja: text and undefined values are, none is not.
fn is_iterable(value: &minijinja::Value) -> bool {
    value.kind() == ValueKind::Iterable || is_sequence(value)
}

/// As in Jinja: whatever has a length and can be indexed.
fn is_sequence(value: &minijinja::Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined)
}

/// What Python's `str.strip` takes off: white space, and four control characters that Unicode does not count to it.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn python_method(
    state: &mut State,
    value: &minijinja::Value,
    method: &str,
    args: &[minijinja::Value],
) -> Result<minijinja::Value, Error> {
    match (method, value.as_str(), args) {
        ("strip", Some(text), []) => Ok(text.trim_matches(is_python_space).into()),
        ("lstrip", Some(text), []) => Ok(text.trim_start_matches(is_python_space).into()),
        ("rstrip", Some(text), []) => Ok(text.trim_end_matches(is_python_space).into()),
        _ => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn trim(value: String, characters: Option<String>) -> String {
    match characters {
        Some(characters) => value.trim_matches(|c| characters.contains(c)).to_owned(),
        None => value.trim_matches(is_python_space).to_owned(),
    }
}

/// JSON as Python's `json.dumps` writes it, with no escapes for HTML.
fn tojson(value: &minijinja::Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut json = Vec::new();
    let layout = PythonJson { indent, depth: 0, ascii: ascii.unwrap_or(false), empty: true };
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut json, layout))
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    String::from_utf8(json).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// The layout of `json.dumps`: `", "` and `": "`, or one item a line.
struct PythonJson {
    /// Spaces a level; one line where `None`.
    indent: Option<usize>,
    depth: usize,
    /// Writes other characters as `\uXXXX`.
    ascii: bool,
    /// The container being written has no items so far.
    empty: bool,
}

impl PythonJson {
    fn open<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        writer.write_all(bracket)
    }

    fn item<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(if self.indent.is_some() { b"," } else { b", " })?;
        }
        self.empty = false;
        self.new_line(writer)
    }

    fn close<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.new_line(writer)?;
        }
        self.empty = false;
        writer.write_all(bracket)
    }

    fn new_line<W: ?Sized + io::Write>(&self, writer: &mut W) -> io::Result<()> {
        match self.indent {
            Some(indent) => write!(writer, "\n{:1$}", "", indent * self.depth),
            None => Ok(()),
        }
    }
}

impl Formatter for PythonJson {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if !self.ascii {
            return writer.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte @ b' '..=b'~') => writer.write_all(&[byte])?,
                _ => write!(writer, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }
}

fn one_line(error: &Error) -> String {
    let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    match error.line() {
        Some(line) => format!("line {line}: {reason}"),
        None => reason,
    }
}
