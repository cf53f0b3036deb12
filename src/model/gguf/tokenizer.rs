//! The tokenizer of a GGUF file in the hub's form: `tokenizer.json` and `tokenizer_config.json` from its metadata.
//!
//! To add a pre-tokenizer, give its name in [`pre_tokenizer`] the steps that the original `tokenizer.json` has.

use super::metadata::Metadata;
use crate::usage;
use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";

/// `tokenizer.json` as text and `tokenizer_config.json`; empty and null for a file that has no tokenizer.
pub fn read(metadata: &Metadata) -> Result<(String, Value)> {
    match metadata.get(MODEL) {
        Some(_) => Ok((tokenizer_json(metadata)?, tokenizer_config(metadata)?)),
        None => Ok((String::new(), Value::Null)),
    }
}

/// `tokenizer.json` as text.
///
/// # Errors
/// A missing or inconsistent key, and a kind of tokenizer or a pre-tokenizer that is not supported, by its name.
pub fn tokenizer_json(metadata: &Metadata) -> Result<String> {
    let vocabulary = Vocabulary::read(metadata)?;
    let tokenizer = match metadata.str(MODEL)? {
        "gpt2" => byte_level(metadata, &vocabulary)?,
        "llama" => sentence_piece(metadata, &vocabulary)?,
        other => {
            return Err(usage!("{MODEL} is '{other}'; supported are 'gpt2' and 'llama': use another checkpoint"));
        }
    };
    Ok(serde_json::to_string(&tokenizer)?)
}

/// `tokenizer_config.json`: the special tokens by name, whether they surround a text, and the chat template.
///
/// # Errors
/// A key of another type, or the id of a special token that the vocabulary lacks.
pub fn tokenizer_config(metadata: &Metadata) -> Result<Value> {
    let vocabulary = Vocabulary::read(metadata)?;
    let mut config = json!({
        // transformers takes tokenizer.json as it is only for this class.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
        "add_bos_token": adds_bos(metadata)?,
        "add_eos_token": adds_eos(metadata)?,
    });
    for name in ["bos", "eos", "unknown", "padding"] {
        let key = match name {
            "unknown" => "unk_token",
            "padding" => "pad_token",
            "bos" => "bos_token",
            _ => "eos_token",
        };
        if let Some((_, token)) = vocabulary.special(metadata, name)? {
            config[key] = token.into();
        }
    }
    if let Some(template) = metadata.optional_str("tokenizer.chat_template")? {
        config["chat_template"] = template.into();
    }
    Ok(config)
}

/// The fields of a `tokenizer.json`.
#[derive(Serialize)]
struct TokenizerJson<'a> {
    version: &'static str,
    added_tokens: Value,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Model<'a>,
}

#[derive(Serialize)]
struct Model<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    unk_token: Option<&'a str>,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: BTreeMap<&'a str, usize>,
    merges: Vec<(&'a str, &'a str)>,
}

/// What the format's `token_type` says of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Ordinary text, or the fallback for a byte.
    Text,
    /// Never text; left out when decoding.
    Control,
    /// Matched in a text as a whole before anything else.
    UserDefined,
    /// Fills the embedding's rows up to a round number.
    Unused,
}

struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<Kind>,
}

impl<'a> Vocabulary<'a> {
    fn read(metadata: &'a Metadata) -> Result<Self> {
        let tokens = metadata.strings(TOKENS)?;
        let types = metadata.i64s(TOKEN_TYPE)?;
        if types.len() != tokens.len() {
            bail!(
                "{TOKEN_TYPE} has {} entries for the {} of {TOKENS}; convert the model again",
                types.len(),
                tokens.len()
            );
        }
        let mut seen = HashSet::new();
        if let Some(twice) = tokens.iter().find(|token| !seen.insert(**token)) {
            bail!("{TOKENS} has the piece {twice:?} twice; convert the model again");
        }
        let kinds = types.into_iter().map(kind).collect::<Result<_>>()?;
        Ok(Vocabulary { tokens, kinds })
    }

    fn pieces(&self) -> impl Iterator<Item = (usize, &'a str, Kind)> {
        self.tokens.iter().zip(&self.kinds).enumerate().map(|(id, (token, kind))| (id, *token, *kind))
    }

    /// `vocab` of the model: every piece but those that only fill rows.
    fn ids(&self) -> BTreeMap<&'a str, usize> {
        self.pieces().filter(|piece| piece.2 != Kind::Unused).map(|(id, token, _)| (token, id)).collect()
    }

    fn added_tokens(&self) -> Value {
        let added = self.pieces().filter(|piece| matches!(piece.2, Kind::Control | Kind::UserDefined));
        added
            .map(|(id, content, kind)| {
                json!({
                    "id": id, "content": content, "special": kind == Kind::Control,
                    "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                })
            })
            .collect()
    }

    /// The id and piece of the special token that `tokenizer.ggml.NAME_token_id` names.
    fn special(&self, metadata: &Metadata, name: &str) -> Result<Option<(u64, &'a str)>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(id) = metadata.optional_u64(&key)? else { return Ok(None) };
        match usize::try_from(id).ok().and_then(|id| self.tokens.get(id)) {
            Some(token) => Ok(Some((id, token))),
            None => bail!("{key} is {id}, but {TOKENS} has {} pieces; convert the model again", self.tokens.len()),
        }
    }
}

fn kind(token_type: i64) -> Result<Kind> {
    Ok(match token_type {
        1 | 6 => Kind::Text,
        2 | 3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        other => bail!("{TOKEN_TYPE} has the unknown type {other}; convert the model again"),
    })
}

/// Byte-level BPE, with the merges that the file lists.
fn byte_level<'a>(metadata: &'a Metadata, vocabulary: &Vocabulary<'a>) -> Result<TokenizerJson<'a>> {
    let pre = metadata.str(PRE)?;
    let mut merges = Vec::new();
    for merge in metadata.strings(MERGES)? {
        match merge.split_once(' ') {
            Some(pair) => merges.push(pair),
            None => bail!("{MERGES} has {merge:?}, which is not two pieces; convert the model again"),
        }
    }
    Ok(TokenizerJson {
        version: "1.0",
        added_tokens: vocabulary.added_tokens(),
        normalizer: if is_qwen(pre) { json!({"type": "NFC"}) } else { Value::Null },
        pre_tokenizer: pre_tokenizer(pre)?,
        post_processor: post_processor(metadata, vocabulary)?,
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        model: Model {
            kind: "BPE",
            unk_token: None,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: is_llama3(pre) || pre == "tekken",
            vocab: vocabulary.ids(),
            merges,
        },
    })
}

fn is_llama3(pre: &str) -> bool {
    matches!(pre, "llama-bpe" | "llama3" | "llama-v3")
}

fn is_qwen(pre: &str) -> bool {
    matches!(pre, "qwen2" | "deepseek-r1-qwen")
}

/// How a text is cut before the merges. Llama 3, Qwen and Tekken differ in how they group digits and capitals. For a file
/// whose writer did not know (`default`) the format's own implementation has rules that it applies one after the other,
/// each within the pieces of those before; they are followed, though the model may have been trained with others.
fn pre_tokenizer(pre: &str) -> Result<Value> {
    const CONTRACTION: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
    const WORD: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+";
    const UPPER: &str = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]";
    const LOWER: &str = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]";
    const SPACES: &str = r"\s*[\r\n]+|\s+(?!\S)|\s+";
    let pattern = match pre {
        "gpt-2" => return Ok(byte_step(true)),
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            return Ok(json!({"type": "Sequence", "pretokenizers": [digits, byte_step(true)]}));
        }
        _ if is_llama3(pre) => {
            format!(r"{CONTRACTION}|{WORD}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}")
        }
        _ if is_qwen(pre) => format!(r"{CONTRACTION}|{WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}"),
        "tekken" => format!(
            r"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"
        ),
        "default" => {
            let gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
            let cuts = [r"[\p{P}$+<=>^~|]+", gpt2, r"\p{N}+", "[0-9][0-9][0-9]"];
            let steps: Vec<Value> = cuts.into_iter().map(cut).chain([byte_step(false)]).collect();
            return Ok(json!({"type": "Sequence", "pretokenizers": steps}));
        }
        other => return Err(usage!("{PRE} '{other}' is not supported; use a checkpoint with its own tokenizer.json")),
    };
    Ok(json!({"type": "Sequence", "pretokenizers": [cut(&pattern), byte_step(false)]}))
}

/// The step that makes a piece of each match, and of what lies between.
fn cut(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

/// The step that turns bytes into the vocabulary's alphabet, after cutting as GPT-2 does if `use_regex`.
fn byte_step(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

/// SentencePiece's BPE: pieces with scores, and byte pieces for characters that have none.
fn sentence_piece<'a>(metadata: &'a Metadata, vocabulary: &Vocabulary<'a>) -> Result<TokenizerJson<'a>> {
    let scores = metadata.f64s(SCORES)?;
    if scores.len() != vocabulary.tokens.len() {
        bail!(
            "{SCORES} has {} entries for the {} of {TOKENS}; convert the model again",
            scores.len(),
            vocabulary.tokens.len()
        );
    }
    let Some((_, unknown)) = vocabulary.special(metadata, "unknown")? else {
        bail!("metadata key 'tokenizer.ggml.unknown_token_id' is missing; convert the model again");
    };
    let mut normalizers = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if metadata.optional_bool(ADD_SPACE_PREFIX)?.unwrap_or(true) {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let vocab = vocabulary.ids();
    Ok(TokenizerJson {
        version: "1.0",
        added_tokens: vocabulary.added_tokens(),
        normalizer: json!({"type": "Sequence", "normalizers": normalizers}),
        pre_tokenizer: Value::Null,
        post_processor: post_processor(metadata, vocabulary)?,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model: Model {
            kind: "BPE",
            unk_token: Some(unknown),
            fuse_unk: true,
            byte_fallback: true,
            ignore_merges: false,
            merges: merges_from_scores(vocabulary, &vocab, &scores),
            vocab,
        },
    })
}

/// SentencePiece merges whichever neighbours make the piece with the highest score. As a list of merges that is: every
/// way to cut a piece into two, in the order of the scores of the whole pieces, and for one piece in the order of the
/// halves' ids, as published tokenizers have them.
fn merges_from_scores<'a>(
    vocabulary: &Vocabulary<'a>,
    ids: &BTreeMap<&str, usize>,
    scores: &[f64],
) -> Vec<(&'a str, &'a str)> {
    let mut merges = Vec::new();
    for (id, piece, kind) in vocabulary.pieces() {
        if kind != Kind::Text {
            continue;
        }
        for (cut, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(cut);
            if let (Some(left_id), Some(right_id)) = (ids.get(left), ids.get(right)) {
                merges.push((scores[id], (left_id, right_id), (left, right)));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    merges.into_iter().map(|(_, _, halves)| halves).collect()
}

/// The defaults where the file has no flag are those of the format's own implementation.
fn adds_bos(metadata: &Metadata) -> Result<bool> {
    let by_default = match metadata.str(MODEL)? {
        "llama" => true,
        _ => metadata.optional_str(PRE)?.is_some_and(|pre| is_llama3(pre) || pre == "tekken"),
    };
    Ok(metadata.optional_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(by_default))
}

fn adds_eos(metadata: &Metadata) -> Result<bool> {
    Ok(metadata.optional_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false))
}

fn post_processor(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Value> {
    let mut special_tokens = Map::new();
    let mut special = |name: &str, wanted: bool| -> Result<Option<Value>> {
        if !wanted {
            return Ok(None);
        }
        let Some((id, token)) = vocabulary.special(metadata, name)? else {
            bail!("metadata key 'tokenizer.ggml.{name}_token_id' is missing, but texts are to have that token");
        };
        special_tokens.insert(token.into(), json!({"id": token, "ids": [id], "tokens": [token]}));
        Ok(Some(json!({"SpecialToken": {"id": token, "type_id": 0}})))
    };
    let before = special("bos", adds_bos(metadata)?)?;
    let after = special("eos", adds_eos(metadata)?)?;
    if special_tokens.is_empty() {
        return Ok(Value::Null);
    }
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let single: Vec<Value> = before.into_iter().chain([text("A")]).chain(after).collect();
    let pair = [text("A"), text("B")];
    Ok(json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special_tokens}))
}
