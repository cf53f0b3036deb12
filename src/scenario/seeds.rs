//! What a corpus is asked for: prompts with slots, whose fillings are words of a list or texts that the target itself
//! writes first.
//!
//! ```toml
//! [slots]                        # words for {topic}
//! topic = ["tides", "glass"]
//! [written.passage]              # a text for {passage}, which the target writes
//! prompts = ["Write a paragraph about {topic}."]
//! [written.turn]                 # the user's turn itself, out of nothing but the chat template
//! user_turn = true
//! [[kinds]]
//! name = "summary"
//! weight = 2                     # how often, against the other kinds
//! prompts = ["Summarise this:\n\n{passage}"]
//! ```

use super::load::sha256_hex;
use super::toml_file::{self, field_error};
use anyhow::Result;
use rand::{Rng, RngExt};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The prompts of a corpus, validated.
#[derive(Debug, Clone)]
pub struct Seeds {
    slots: BTreeMap<String, Vec<String>>,
    written: BTreeMap<String, Written>,
    kinds: Vec<Kind>,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    slots: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    written: BTreeMap<String, Written>,
    kinds: Vec<Kind>,
}

/// A slot that the target fills.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    prompts: Vec<String>,
    #[serde(default)]
    user_turn: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    name: String,
    #[serde(default = "one")]
    weight: u32,
    prompts: Vec<String>,
}

fn one() -> u32 {
    1
}

/// One prompt that was drawn: its parts, in order.
pub type Prompt = Vec<Part>;

/// A part of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Text(String),
    /// What the target writes.
    Written(Writing),
}

/// What makes the target write a part.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Writing {
    /// Its answer to a user's message.
    Answer(String),
    /// The user's message, which it makes up.
    UserTurn,
}

/// A piece of a template.
#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    Slot(&'a str),
}

impl Seeds {
    /// Reads and validates a seeds file.
    pub fn read(path: &Path) -> Result<Seeds> {
        Seeds::parse(path, &toml_file::read_text(path, "seeds file")?)
    }

    /// The same from text; `path` serves the messages.
    pub fn parse(path: &Path, text: &str) -> Result<Seeds> {
        let File { slots, written, kinds } = toml_file::parse(path, text)?;
        let seeds = Seeds { slots, written, kinds, sha256: sha256_hex(text.as_bytes()) };
        seeds.validate().map_err(|(field, message)| field_error(path, &field, message))?;
        Ok(seeds)
    }

    /// A prompt by chance: a kind by its weight, one of its prompts, and a filling for each slot. A slot that a prompt has
    /// twice is filled the same both times.
    pub fn draw(&self, chance: &mut impl Rng) -> Prompt {
        let total: u32 = self.kinds.iter().map(|kind| kind.weight).sum();
        let mut place = chance.random_range(0..total);
        let kind = self.kinds.iter().find(|kind| match place.checked_sub(kind.weight) {
            Some(left) => {
                place = left;
                false
            }
            None => true,
        });
        let mut filled = BTreeMap::new();
        let prompt = pick(&kind.expect("the weights add up to the total").prompts, chance);
        let mut parts: Prompt = Vec::new();
        for piece in pieces(prompt).expect("validated") {
            let part = match piece {
                Piece::Text(text) => Part::Text(text.to_owned()),
                Piece::Slot(name) => match self.written.get(name) {
                    Some(written) => Part::Written(self.writing(written, &mut filled, chance)),
                    None => Part::Text(self.word(name, &mut filled, chance)),
                },
            };
            match (parts.last_mut(), part) {
                (Some(Part::Text(last)), Part::Text(text)) => last.push_str(&text),
                (_, part) => parts.push(part),
            }
        }
        parts
    }

    fn word(&self, name: &str, filled: &mut BTreeMap<String, String>, chance: &mut impl Rng) -> String {
        filled.entry(name.to_owned()).or_insert_with(|| pick(&self.slots[name], chance).to_owned()).clone()
    }

    fn writing(&self, written: &Written, filled: &mut BTreeMap<String, String>, chance: &mut impl Rng) -> Writing {
        if written.user_turn {
            return Writing::UserTurn;
        }
        let template = pieces(pick(&written.prompts, chance)).expect("validated");
        let text = template.into_iter().map(|piece| match piece {
            Piece::Text(text) => text.to_owned(),
            Piece::Slot(name) => self.word(name, filled, chance),
        });
        Writing::Answer(text.collect())
    }

    /// Errors are (field, message).
    fn validate(&self) -> Result<(), (String, String)> {
        for (name, words) in &self.slots {
            let field = format!("slots.{name}");
            if words.is_empty() || words.iter().any(|word| word.trim().is_empty()) {
                return Err((field, "is empty or has an empty word; list words".to_owned()));
            }
            if self.written.contains_key(name) {
                return Err((field, "is also a written slot; rename one".to_owned()));
            }
        }
        for (name, written) in &self.written {
            if written.user_turn != written.prompts.is_empty() {
                return Err((format!("written.{name}"), "give either prompts or user_turn = true".to_owned()));
            }
            self.check_prompts(&format!("written.{name}.prompts"), &written.prompts, false)?;
        }
        if self.kinds.is_empty() {
            return Err(("kinds".to_owned(), "is empty; list at least one kind of prompt".to_owned()));
        }
        for (index, kind) in self.kinds.iter().enumerate() {
            if kind.name.trim().is_empty() {
                return Err((format!("kinds[{index}].name"), "is empty".to_owned()));
            }
            if !(1..=1000).contains(&kind.weight) {
                return Err((format!("kinds[{index}].weight"), format!("must be 1 to 1000, got {}", kind.weight)));
            }
            let field = format!("kinds[{index}].prompts");
            if kind.prompts.is_empty() {
                return Err((field, "is empty; list at least one prompt".to_owned()));
            }
            self.check_prompts(&field, &kind.prompts, true)?;
        }
        Ok(())
    }

    fn check_prompts(&self, field: &str, prompts: &[String], may_be_written: bool) -> Result<(), (String, String)> {
        for (index, prompt) in prompts.iter().enumerate() {
            let wrong = |message: String| Err((format!("{field}[{index}]"), message));
            if prompt.trim().is_empty() {
                return wrong("is empty".to_owned());
            }
            for piece in pieces(prompt).or_else(|message| wrong(message.to_owned()).map(|()| Vec::new()))? {
                match piece {
                    Piece::Slot(name) if self.written.contains_key(name) && !may_be_written => {
                        return wrong(format!("{{{name}}} is written itself; use slots of words here"));
                    }
                    Piece::Slot(name) if !self.slots.contains_key(name) && !self.written.contains_key(name) => {
                        return wrong(format!(
                            "there is no slot {{{name}}}; list it under [slots] or [written], or write {{{{ for a brace"
                        ));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn pick<'a>(choices: &'a [String], chance: &mut impl Rng) -> &'a str {
    &choices[chance.random_range(0..choices.len())]
}

/// A template's texts and slots; `{{` and `}}` are braces.
fn pieces(template: &str) -> Result<Vec<Piece<'_>>, &'static str> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (text, brace) = (&rest[..at], &rest[at..at + 1]);
        if rest[at + 1..].starts_with(brace) {
            pieces.push(Piece::Text(&rest[..at + 1]));
            rest = &rest[at + 2..];
            continue;
        }
        let end = rest[at..].find('}').filter(|_| brace == "{").ok_or("has a brace without its partner")?;
        pieces.push(Piece::Text(text));
        pieces.push(Piece::Slot(&rest[at + 1..at + end]));
        rest = &rest[at + end + 1..];
    }
    pieces.push(Piece::Text(rest));
    pieces.retain(|piece| *piece != Piece::Text(""));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use std::collections::HashSet;

    const SEEDS: &str = r#"
[slots]
topic = ["tides", "glass"]
[written.passage]
prompts = ["Write about {topic}."]
[written.turn]
user_turn = true
[[kinds]]
name = "plain"
weight = 3
prompts = ["Explain {topic} and {topic} in {{braces}}."]
[[kinds]]
name = "summary"
prompts = ["Sum up:\n{passage}\nIs it about {topic}?", "{turn}"]
"#;

    fn parse(text: &str) -> Result<Seeds, String> {
        Seeds::parse(Path::new("s.toml"), text).map_err(|error| {
            assert_eq!(crate::error::exit_code(&error), 2);
            format!("{error:#}")
        })
    }

    #[test]
    fn slots_are_filled_alike_and_kinds_come_by_their_weight() {
        let seeds = parse(SEEDS).unwrap();
        let mut chance = ChaCha8Rng::seed_from_u64(1);
        let drawn: Vec<Prompt> = (0..4000).map(|_| seeds.draw(&mut chance)).collect();
        let text = |word: &str| Part::Text(word.to_owned());
        let explained = |word: &str| vec![text(&format!("Explain {word} and {word} in {{braces}}."))];
        let summed = |word: &str| {
            let passage = Part::Written(Writing::Answer(format!("Write about {word}.")));
            vec![text("Sum up:\n"), passage, text(&format!("\nIs it about {word}?"))]
        };
        let turn = vec![Part::Written(Writing::UserTurn)];
        let share = |wanted: &[Prompt]| drawn.iter().filter(|prompt| wanted.contains(prompt)).count() as f64 / 4000.0;
        let plain = share(&[explained("tides"), explained("glass")]);
        // Four standard deviations of a share of 4000.
        assert!((plain - 0.75).abs() < 0.028, "{plain}");
        assert_eq!(plain + share(&[summed("tides"), summed("glass"), turn]), 1.0);
        let texts: HashSet<String> = drawn.iter().map(|prompt| format!("{prompt:?}")).collect();
        assert_eq!(texts.len(), 5);
        let mut again = ChaCha8Rng::seed_from_u64(1);
        assert!(drawn.iter().all(|prompt| *prompt == seeds.draw(&mut again)));
    }

    #[test]
    fn errors_name_the_file_and_the_field() {
        for (from, to, expected) in [
            ("topic = [\"tides\", \"glass\"]", "topic = []", "s.toml: slots.topic: is empty"),
            ("\"tides\"", "\" \"", "s.toml: slots.topic: is empty or has an empty word"),
            ("topic = [", "turn = [\"a\"]\ntopic = [", "s.toml: slots.turn: is also a written slot"),
            ("user_turn = true", "user_turn = false", "s.toml: written.turn: give either prompts or user_turn"),
            ("about {topic}.", "about {turn}.", "s.toml: written.passage.prompts[0]: {turn} is written itself"),
            ("about {topic}.", "about {place}.", "s.toml: written.passage.prompts[0]: there is no slot {place}"),
            ("Sum up:\\n{passage}", "{pasage}", "s.toml: kinds[1].prompts[0]: there is no slot {pasage}"),
            ("{{braces}}", "{{braces}", "s.toml: kinds[0].prompts[0]: has a brace without its partner"),
            ("weight = 3", "weight = 0", "s.toml: kinds[0].weight: must be 1 to 1000, got 0"),
            ("weight = 3", "wait = 3", "s.toml: line 10: kinds[0].wait: unknown field"),
            ("name = \"plain\"", "name = \"\"", "s.toml: kinds[0].name: is empty"),
            (", \"{turn}\"]", ", \"\"]", "s.toml: kinds[1].prompts[1]: is empty"),
        ] {
            assert!(SEEDS.contains(from), "{from}");
            let error = parse(&SEEDS.replacen(from, to, 1)).unwrap_err();
            assert!(error.starts_with(expected), "expected '{expected}' in: {error}");
        }
        assert!(parse("kinds = []").unwrap_err().starts_with("s.toml: kinds: is empty"));
        assert!(parse("").unwrap_err().contains("missing field `kinds`"));
    }
}
