//! Text from tokens as they arrive: every token once, in constant time, nothing printed that a later token would change.

use super::tokenizer::Tokenizer;
use serde_json::Value;
use tokenizers::DecoderWrapper;

/// How the pieces of a vocabulary spell bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// One printable character a byte, as GPT-2 introduced it (`Ġthe`).
    ByteLevel,
    /// Text with `▁` for a space, and `<0xE4>` for a byte that has no piece.
    SentencePiece {
        /// Spaces that the encoder put before a text and that are taken off again.
        leading_spaces: usize,
    },
}

impl Spelling {
    /// Reads it off the decoder of a `tokenizer.json`; the error says what is not supported.
    pub(super) fn of(decoder: Option<&DecoderWrapper>) -> Result<Self, String> {
        let decoder = serde_json::to_value(decoder).map_err(|error| error.to_string())?;
        let steps = match decoder["decoders"].as_array() {
            Some(steps) => steps.clone(),
            None => vec![decoder],
        };
        if let [step] = steps.as_slice()
            && step["type"] == "ByteLevel"
        {
            return Ok(Spelling::ByteLevel);
        }
        let mut leading_spaces = 0;
        for step in &steps {
            match step["type"].as_str() {
                Some("Replace") if step["pattern"]["String"] == "▁" && step["content"] == " " => {}
                Some("ByteFallback" | "Fuse") => {}
                Some("Strip") if step["content"] == " " && step["stop"] == 0 => {
                    leading_spaces = step["start"].as_u64().unwrap_or(0) as usize;
                }
                _ => return Err(unsupported(step)),
            }
        }
        Ok(Spelling::SentencePiece { leading_spaces })
    }

    fn push_bytes(self, piece: &str, bytes: &mut Vec<u8>) {
        match self {
            Spelling::ByteLevel => match piece.chars().map(byte_of).collect::<Option<Vec<u8>>>() {
                Some(spelt) => bytes.extend(spelt),
                None => bytes.extend(piece.as_bytes()),
            },
            Spelling::SentencePiece { .. } => match hex_byte(piece) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend(piece.replace('▁', " ").as_bytes()),
            },
        }
    }
}

fn unsupported(step: &Value) -> String {
    match step["type"].as_str() {
        Some(kind) => format!("a decoder with the step {kind} is not supported; use a byte-level or SentencePiece one"),
        None => "it has no decoder; use a byte-level or SentencePiece tokenizer".into(),
    }
}

/// The byte that a character stands for in byte-level pieces: printable Latin-1 characters for themselves, those from
/// U+0100 on for the remaining bytes in order.
fn byte_of(character: char) -> Option<u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(character) {
        code @ 0..=0xFF => Some(code as u8).filter(printable),
        code @ 0x100..=0x143 => (0..=0xFF).filter(|byte| !printable(byte)).nth(code as usize - 0x100),
        _ => None,
    }
}

fn hex_byte(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// Turns tokens into text one by one. What it returns, put together, is what [`Tokenizer::decode`] returns for all of
/// them, with one exception: where a SentencePiece vocabulary's byte tokens form no UTF-8, decoding everything at once
/// also takes back characters that the stream has already returned.
pub struct TokenStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special_tokens: bool,
    /// Bytes of a character that is not complete.
    pending: Vec<u8>,
    /// Spaces at the beginning of the text that are still to be taken off.
    leading_spaces: usize,
}

impl<'a> TokenStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, skip_special_tokens: bool) -> Self {
        let leading_spaces = match tokenizer.spelling() {
            Spelling::ByteLevel => 0,
            Spelling::SentencePiece { leading_spaces } => leading_spaces,
        };
        TokenStream { tokenizer, skip_special_tokens, pending: Vec::new(), leading_spaces }
    }

    /// The text that `id` completes; `None` if there is none yet.
    pub fn push(&mut self, id: u32) -> Option<String> {
        let piece = self.tokenizer.piece(id)?;
        if self.skip_special_tokens && self.tokenizer.is_special(id) {
            return None;
        }
        self.tokenizer.spelling().push_bytes(&piece, &mut self.pending);
        let complete = take_complete(&mut self.pending);
        self.without_leading_spaces(complete)
    }

    /// What is left when no more tokens come: U+FFFD for an incomplete character.
    pub fn flush(&mut self) -> Option<String> {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        self.without_leading_spaces(rest)
    }

    fn without_leading_spaces(&mut self, mut text: String) -> Option<String> {
        while self.leading_spaces > 0 && !text.is_empty() {
            if text.starts_with(' ') {
                text.remove(0);
                self.leading_spaces -= 1;
            } else {
                self.leading_spaces = 0;
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

/// Takes all but an incomplete character at the end; bytes that can begin none become U+FFFD.
fn take_complete(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut incomplete = Vec::new();
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid();
        let may_continue =
            chunks.peek().is_none() && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if may_continue {
            incomplete = invalid.to_vec();
        } else if !invalid.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    *bytes = incomplete;
    text
}
