//! Token ids against other tokenizers (`scripts/oracle/tokenizer.py`), decoding, and what is said of bad files.
#![cfg(feature = "mlx")]

use ridgepoint::model::checkpoint::Checkpoint;
use ridgepoint::model::gguf;
use ridgepoint::model::gguf::metadata::{Metadata, Value as Entry};
use ridgepoint::model::tokenizer::{Mismatch, Tokenizer};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const FAMILIES: [&str; 5] = ["qwen", "llama3", "mistral-nemo", "llama2", "mistral"];

#[derive(Deserialize)]
struct Golden {
    /// Of which texts: every n-th.
    every: usize,
    /// For each text, without special tokens around it.
    ids: Vec<Vec<u32>>,
    /// For the first texts, with them.
    #[serde(default)]
    framed: Vec<Vec<u32>>,
    /// Texts that decoding does not give back: index, decoded text, decoded text without special tokens.
    decoded: Vec<(usize, String, String)>,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer").join(name)
}

fn read(name: &str) -> String {
    let path = golden(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn texts(every: usize) -> Vec<String> {
    let file: Value = serde_json::from_str(&read("texts.json")).unwrap();
    let texts: Vec<String> = serde_json::from_value(file["texts"].clone()).unwrap();
    assert!(texts.len() >= 500);
    texts.into_iter().step_by(every).collect()
}

fn family(name: &str) -> Tokenizer {
    let config = serde_json::from_str(&read(&format!("{name}/tokenizer_config.json"))).unwrap();
    Tokenizer::from_json(&read(&format!("{name}/tokenizer.json")), &config, &golden(name)).unwrap()
}

fn smollm2() -> Checkpoint {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.exists(), "{} is missing; run scripts/fetch-model", path.display());
    gguf::open(&path).unwrap().0
}

fn of(checkpoint: &Checkpoint) -> Tokenizer {
    Tokenizer::from_json(&checkpoint.tokenizer_json, &checkpoint.tokenizer_config, &checkpoint.path).unwrap()
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32], skip_special_tokens: bool) -> String {
    let mut stream = tokenizer.stream(skip_special_tokens);
    let mut text: String = ids.iter().filter_map(|id| stream.push(*id)).collect();
    text.extend(stream.flush());
    text
}

fn compare(name: &str, tokenizer: &Tokenizer, golden: &Golden) {
    let texts = texts(golden.every);
    assert_eq!(texts.len(), golden.ids.len());
    for (i, (text, expected)) in texts.iter().zip(&golden.ids).enumerate() {
        assert_eq!(tokenizer.encode(text, false).unwrap(), *expected, "{name}: {text:?}");
        if let Some(framed) = golden.framed.get(i) {
            assert_eq!(tokenizer.encode(text, true).unwrap(), *framed, "{name}: {text:?}");
        }
        let (whole, skipped) = match golden.decoded.iter().find(|row| row.0 == i) {
            Some((_, whole, skipped)) => (whole, skipped),
            None => (text, text),
        };
        for (skip, decoded) in [(false, whole), (true, skipped)] {
            assert_eq!(tokenizer.decode(expected, skip).unwrap(), *decoded, "{name}: {text:?}");
            assert_eq!(streamed(tokenizer, expected, skip), *decoded, "{name}: {text:?} one by one");
        }
    }
}

#[test]
fn smollm2_has_the_ids_of_the_published_tokenizer() {
    let checkpoint = smollm2();
    let tokenizer = of(&checkpoint);
    compare("SmolLM2", &tokenizer, &serde_json::from_str(&read("smollm2.json")).unwrap());
    assert_eq!(tokenizer.vocab_size(), 49152);
    assert_eq!(tokenizer.eos_ids(&checkpoint).unwrap(), [2]);
    assert_eq!(tokenizer.bos_id(), Some(1));
    assert_eq!(tokenizer.piece(260).as_deref(), Some("Ġthe"));
}

#[test]
fn families_have_the_ids_of_transformers() {
    for name in FAMILIES {
        compare(name, &family(name), &serde_json::from_str(&read(&format!("{name}/ids.json"))).unwrap());
    }
}

#[derive(Deserialize)]
struct Vocabulary {
    tokens: Vec<String>,
    types: Vec<u32>,
    #[serde(default)]
    merges: Vec<String>,
    #[serde(default)]
    scores: Vec<f32>,
}

fn strings(strings: &[String]) -> Entry {
    Entry::Array(strings.iter().cloned().map(Entry::String).collect())
}

fn metadata(model: &str, pre: &str, vocabulary: &Vocabulary) -> Metadata {
    let types = vocabulary.types.iter().copied().map(Entry::U32).collect();
    let scores = vocabulary.scores.iter().copied().map(Entry::F32).collect();
    let pairs = [
        ("model", Entry::String(model.into())),
        ("pre", Entry::String(pre.into())),
        ("tokens", strings(&vocabulary.tokens)),
        ("token_type", Entry::Array(types)),
        ("merges", strings(&vocabulary.merges)),
        ("scores", Entry::Array(scores)),
        ("unknown_token_id", Entry::U32(0)),
        ("bos_token_id", Entry::U32(1)),
        ("eos_token_id", Entry::U32(2)),
    ];
    pairs.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect()
}

fn rebuilt(metadata: &Metadata) -> anyhow::Result<Tokenizer> {
    let (text, config) = (gguf::tokenizer::tokenizer_json(metadata)?, gguf::tokenizer::tokenizer_config(metadata)?);
    Tokenizer::from_json(&text, &config, Path::new("model.gguf"))
}

fn gguf_golden() -> (Value, Vocabulary, Vocabulary) {
    let golden: Value = serde_json::from_str(&read("gguf.json")).unwrap();
    let vocabulary = |key: &str| serde_json::from_value(golden[key].clone()).unwrap();
    (golden.clone(), vocabulary("byte_level"), vocabulary("sentence_piece"))
}

#[test]
fn gguf_tokenizers_have_the_ids_of_others() {
    let (golden, byte_level, sentence_piece) = gguf_golden();
    let texts = texts(golden["every"].as_u64().unwrap() as usize);
    for pre in ["gpt-2", "smollm", "qwen2", "llama-bpe", "tekken", "default", "gpt2-default"] {
        let metadata = match pre {
            "default" => metadata("llama", pre, &sentence_piece),
            "gpt2-default" => metadata("gpt2", "default", &byte_level),
            _ => metadata("gpt2", pre, &byte_level),
        };
        let tokenizer = rebuilt(&metadata).unwrap();
        let expected: Vec<Vec<u32>> = serde_json::from_value(golden[pre].clone()).unwrap();
        for (text, expected) in texts.iter().zip(&expected) {
            assert_eq!(tokenizer.encode(text, false).unwrap(), *expected, "{pre}: {text:?}");
        }
        let begins_with_bos = golden[format!("{pre}_begins_with_bos")].as_bool().unwrap();
        assert_eq!(tokenizer.encode("x", true).unwrap()[0] == 1, begins_with_bos, "{pre}");
        assert_eq!(tokenizer.bos_id(), Some(1));
    }
}

#[test]
fn sentence_piece_scores_become_the_merges_of_published_files() {
    let (_, _, vocabulary) = gguf_golden();
    let parse = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let ours = parse(&gguf::tokenizer::tokenizer_json(&metadata("llama", "default", &vocabulary)).unwrap());
    let published = parse(&read("llama2/tokenizer.json"));
    for part in ["normalizer", "pre_tokenizer", "decoder", "added_tokens"] {
        assert_eq!(ours[part], published[part], "{part}");
    }
    for part in ["vocab", "merges", "unk_token", "fuse_unk", "byte_fallback"] {
        assert_eq!(ours["model"][part], published["model"][part], "{part}");
    }
}

#[test]
fn byte_level_pre_tokenizers_are_those_of_published_files() {
    let (_, vocabulary, _) = gguf_golden();
    let parse = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    for (pre, family) in [("qwen2", "qwen"), ("llama-bpe", "llama3"), ("tekken", "mistral-nemo")] {
        let ours = parse(&gguf::tokenizer::tokenizer_json(&metadata("gpt2", pre, &vocabulary)).unwrap());
        let published = parse(&read(&format!("{family}/tokenizer.json")));
        for part in ["normalizer", "pre_tokenizer", "decoder"] {
            assert_eq!(ours[part], published[part], "{pre} {part}");
        }
        assert_eq!(ours["model"]["ignore_merges"], published["model"]["ignore_merges"], "{pre}");
    }
}

#[test]
fn gguf_flags_are_kept() {
    let (_, byte_level, sentence_piece) = gguf_golden();
    let with = |mut metadata: Metadata, key: &str, value: bool| {
        metadata.insert(format!("tokenizer.ggml.{key}"), Entry::Bool(value)).unwrap();
        rebuilt(&metadata).unwrap()
    };
    let spm = || metadata("llama", "default", &sentence_piece);
    assert_eq!(
        with(spm(), "add_bos_token", false).encode("a", true).unwrap()[0],
        rebuilt(&spm()).unwrap().encode("a", false).unwrap()[0]
    );
    let plain = with(spm(), "add_space_prefix", false);
    let ids = plain.encode("a b", false).unwrap();
    assert_eq!(plain.piece(ids[0]).unwrap(), "a");
    assert_eq!(plain.decode(&ids, true).unwrap(), "a b");
    assert_eq!(
        *with(metadata("gpt2", "qwen2", &byte_level), "add_eos_token", true).encode("a", true).unwrap().last().unwrap(),
        2
    );

    let qwen = rebuilt(&metadata("gpt2", "qwen2", &byte_level)).unwrap();
    let ids = qwen.encode("<s>a<think>b[PAD1]</s>", false).unwrap();
    assert_eq!(
        qwen.decode(&ids, true).unwrap(),
        "a<think>b[PAD1]",
        "a user-defined token is text, a control token is not"
    );
    assert_eq!(byte_level.tokens.last().unwrap(), "[PAD1]");
    assert_eq!(qwen.vocab_size(), byte_level.tokens.len() - 1, "a filler is no piece");

    let mut templated = metadata("gpt2", "qwen2", &byte_level);
    templated.insert("tokenizer.chat_template".into(), Entry::String("{{ messages }}".into())).unwrap();
    let config = gguf::tokenizer::tokenizer_config(&templated).unwrap();
    assert_eq!(config["chat_template"], "{{ messages }}");
    assert_eq!(
        (&config["bos_token"], &config["eos_token"], &config["unk_token"]),
        (&json!("<s>"), &json!("</s>"), &json!("<unk>"))
    );
}

#[test]
fn bad_gguf_tokenizers_are_refused_by_name() {
    let (_, byte_level, sentence_piece) = gguf_golden();
    let bpe = || metadata("gpt2", "qwen2", &byte_level);
    let replaced = |metadata: Metadata, key: &str, value: Option<Entry>| -> Metadata {
        let key = format!("tokenizer.ggml.{key}");
        let kept = metadata
            .keys()
            .filter(|other| **other != key)
            .map(|key| (key.to_owned(), metadata.get(key).unwrap().clone()));
        kept.chain(value.map(|value| (key.clone(), value))).collect()
    };
    let cases = [
        (metadata("bert", "", &byte_level), "tokenizer.ggml.model is 'bert'"),
        (metadata("gpt2", "nonsense", &byte_level), "tokenizer.ggml.pre 'nonsense' is not supported"),
        (replaced(bpe(), "pre", None), "'tokenizer.ggml.pre' is missing"),
        (replaced(bpe(), "tokens", None), "'tokenizer.ggml.tokens' is missing"),
        (
            replaced(bpe(), "token_type", Some(Entry::Array(vec![Entry::I32(1)]))),
            "tokenizer.ggml.token_type has 1 entries",
        ),
        (replaced(bpe(), "merges", None), "'tokenizer.ggml.merges' is missing"),
        (replaced(bpe(), "merges", Some(strings(&["ab".into()]))), "tokenizer.ggml.merges has \"ab\""),
        (replaced(bpe(), "merges", Some(strings(&["no way".into()]))), "tokenizer.json cannot be read"),
        (replaced(bpe(), "eos_token_id", Some(Entry::U32(99999))), "tokenizer.ggml.eos_token_id is 99999"),
        (
            replaced(metadata("llama", "default", &sentence_piece), "scores", Some(Entry::Array(vec![]))),
            "tokenizer.ggml.scores has 0 entries",
        ),
        (
            replaced(metadata("llama", "default", &sentence_piece), "unknown_token_id", None),
            "'tokenizer.ggml.unknown_token_id' is missing",
        ),
        (
            replaced(metadata("llama", "default", &sentence_piece), "bos_token_id", None),
            "'tokenizer.ggml.bos_token_id' is missing",
        ),
        (
            replaced(bpe(), "tokens", Some(strings(&vec!["a".into(); byte_level.tokens.len()]))),
            "tokenizer.ggml.tokens has the piece \"a\" twice",
        ),
    ];
    for (metadata, expected) in cases {
        let message = format!("{:#}", rebuilt(&metadata).err().expect(expected));
        assert!(message.contains(expected) && !message.contains('\n'), "{message}");
    }
}

#[test]
fn bad_tokenizer_files_are_named_in_one_line() {
    let whole = read("qwen/tokenizer.json");
    let mut words: Value = serde_json::from_str(&whole).unwrap();
    words["decoder"] = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    let mut none = words.clone();
    none["decoder"] = Value::Null;
    let cases = [
        (String::new(), "has no tokenizer"),
        ("{}".into(), "tokenizer.json cannot be read"),
        ("\0\u{1}".into(), "tokenizer.json cannot be read"),
        (whole[..whole.len() / 2].into(), "tokenizer.json cannot be read"),
        (whole.replace("\"BPE\"", "\"BPX\""), "tokenizer.json cannot be read"),
        (words.to_string(), "the step WordPiece is not supported"),
        (none.to_string(), "it has no decoder"),
    ];
    for (text, expected) in cases {
        let error = Tokenizer::from_json(&text, &Value::Null, Path::new("models/broken")).err().expect(expected);
        let message = format!("{error:#}");
        assert!(
            message.contains(expected) && message.starts_with("models/broken: ") && !message.contains('\n'),
            "{message}"
        );
    }
}

#[test]
fn vocabularies_are_compared_piece_by_piece() {
    let qwen = family("qwen");
    assert_eq!(qwen.vocabulary_mismatch(&family("qwen")), None);
    let llama3 = family("llama3");
    let first = qwen.vocabulary_mismatch(&llama3).unwrap();
    assert_eq!(first, Mismatch { id: 603, ours: "<|endoftext|>".into(), theirs: "<|begin_of_text|>".into() });
    assert_eq!(llama3.vocabulary_mismatch(&qwen).unwrap().id, 603);

    // More rows in one vocabulary are no mismatch.
    let mut fewer: Value = serde_json::from_str(&read("qwen/tokenizer.json")).unwrap();
    fewer["added_tokens"].as_array_mut().unwrap().pop();
    let fewer = Tokenizer::from_json(&fewer.to_string(), &Value::Null, Path::new("fewer")).unwrap();
    assert_eq!(fewer.vocab_size() + 1, qwen.vocab_size());
    assert_eq!((qwen.vocabulary_mismatch(&fewer), fewer.vocabulary_mismatch(&qwen)), (None, None));
}

#[test]
fn ends_of_text_come_from_the_first_file_that_names_them() {
    let qwen = family("qwen");
    let ends = |generation: Value, config: Value| {
        let checkpoint = Checkpoint {
            path: "models/x".into(),
            config,
            tokenizer_json: String::new(),
            tokenizer_config: Value::Null,
            generation_config: generation,
        };
        qwen.eos_ids(&checkpoint).map_err(|error| format!("{error:#}"))
    };
    let two = json!({"eos_token_id": [7, 8]});
    assert_eq!(ends(two.clone(), json!({"eos_token_id": 5})), Ok(vec![7, 8]));
    assert_eq!(ends(Value::Null, json!({"eos_token_id": 5})), Ok(vec![5]));
    assert_eq!(ends(json!({"eos_token_id": null}), two), Ok(vec![7, 8]));
    assert_eq!(ends(Value::Null, json!({})), Ok(vec![605]), "<|im_end|>");
    for bad in [json!("</s>"), json!([]), json!([1, -1]), json!(1.5), json!(1u64 << 32)] {
        let message = ends(Value::Null, json!({"eos_token_id": bad})).unwrap_err();
        assert!(message.starts_with("models/x: config.json: eos_token_id is "), "{message}");
    }
}

#[test]
fn a_stream_waits_for_whole_characters() {
    let tokenizer = family("qwen");
    let mut stream = tokenizer.stream(false);
    let ids = tokenizer.encode("\u{133ff}", false).unwrap();
    assert_eq!(ids.len(), 4, "one token a byte");
    assert_eq!(ids.iter().map(|id| stream.push(*id)).collect::<Vec<_>>(), [None, None, None, Some("\u{133ff}".into())]);
    assert_eq!(stream.flush(), None);

    assert_eq!(stream.push(ids[0]), None);
    assert_eq!(stream.push(tokenizer.encode("x", false).unwrap()[0]), Some("\u{fffd}x".into()));
    assert_eq!(stream.push(ids[0]), None);
    assert_eq!(stream.push(1 << 20), None, "no such token");
    assert_eq!(stream.flush(), Some("\u{fffd}".into()));
    assert_eq!(stream.flush(), None);
}

#[test]
fn a_stream_gives_what_decoding_everything_gives() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    for name in FAMILIES {
        let tokenizer = family(name);
        let byte_level = !name.starts_with("llama2") && name != "mistral";
        for _ in 0..300 {
            let length = rng.random_range(0..40);
            let ids: Vec<u32> = (0..length).map(|_| rng.random_range(0..tokenizer.vocab_size() as u32 + 3)).collect();
            for skip in [false, true] {
                let whole = tokenizer.decode(&ids, skip).unwrap();
                // Byte tokens that are no UTF-8 are the documented exception.
                if byte_level || !whole.contains('\u{fffd}') {
                    assert_eq!(streamed(&tokenizer, &ids, skip), whole, "{name} {ids:?}");
                }
            }
        }
    }
}
