//! `ridgepoint corpus` as a program on a tiny checkpoint, and its many texts at once against one at a time.
#![cfg(feature = "mlx")]

use crate::tiny::Workplace;
use mlx_rs::{Array, Dtype};
use ridgepoint::corpus::batch::{Start, complete};
use ridgepoint::corpus::store::Manifest;
use ridgepoint::decode::keys::KeyStream;
use ridgepoint::decode::sampling::Sampling;
use ridgepoint::decode::{Request, plain};
use ridgepoint::model::language_model::LanguageModel;
use ridgepoint::model::weights::LoadOptions;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

/// One byte a token; the id 2 ends a turn.
const TEMPLATE: &str = "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}\u{2}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}";
const SEEDS: &str = r#"
[slots]
topic = ["ab", "cd", "ef", "gh"]
[written.note]
prompts = ["note {topic}"]
[written.turn]
user_turn = true
[[kinds]]
name = "plain"
prompts = ["say {topic}"]
[[kinds]]
name = "note"
prompts = ["sum {note}"]
[[kinds]]
name = "turn"
prompts = ["{turn}"]
"#;
const CORPUS: [&str; 12] = [
    "corpus",
    "tiny",
    "--sequence-tokens",
    "64",
    "--batch",
    "3",
    "--seeds",
    "seeds.toml",
    "--quiet",
    "--json",
    "--tokens",
    "2000",
];

fn workplace() -> Workplace {
    mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
    let place = Workplace::new();
    place.write("tiny/tokenizer_config.json", &json!({ "chat_template": TEMPLATE }).to_string());
    place.write("seeds.toml", SEEDS);
    place
}

fn target(place: &Workplace) -> LanguageModel {
    LanguageModel::load(&place.path("tiny"), &LoadOptions { dtype: Some(Dtype::Float32), quantize: None }).unwrap()
}

fn succeeded(output: Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every file of a corpus that counts, by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let all = entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    all.filter(|(name, _)| !name.starts_with('.')).collect()
}

/// The sequences of a corpus, each with where its loss begins, after checking them against `corpus.json`.
fn sequences(folder: &Path) -> Vec<(Vec<u32>, usize)> {
    let manifest = Manifest::read(folder).unwrap();
    let mut all = Vec::new();
    for shard in &manifest.shards {
        let bytes = fs::read(folder.join(&shard.file)).unwrap();
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
        assert!(header.as_object().unwrap().values().all(Value::is_object), "not as safetensors have it: {header}");
        let arrays = Array::load_safetensors(folder.join(&shard.file)).unwrap();
        let numbers = |name: &str| arrays[name].to_vec_exact::<u32>().unwrap();
        let (lengths, loss_from) = (numbers("lengths"), numbers("loss_from"));
        assert_eq!(arrays["tokens"].shape(), [shard.sequences as i32, manifest.sequence_tokens as i32]);
        assert_eq!(lengths.iter().sum::<u32>() as usize, shard.tokens);
        for ((row, length), from) in numbers("tokens").chunks(manifest.sequence_tokens).zip(lengths).zip(loss_from) {
            let (text, padding) = row.split_at(length as usize);
            assert!(padding.iter().all(|id| *id == 0));
            all.push((text.to_vec(), from as usize));
        }
    }
    all
}

#[test]
fn greedy_texts_are_those_of_plain_decoding() {
    let place = workplace();
    let target = target(&place);
    let model = &target.transformer;
    // Prompts of several lengths, the longest beyond the first look; texts that end at different places.
    let starts: Vec<Start> = (0..9u32)
        .map(|n| Start {
            prompt: (0..3 + 5 * n).map(|i| 60 + (7 * i + 13 * n) % 50).collect(),
            temperature: 0.0,
            length: 60 + 9 * n as usize,
        })
        .collect();
    let plain = |start: &Start, end_ids: &[u32]| {
        let max_tokens = start.length - start.prompt.len();
        let request =
            Request { prompt: &start.prompt, max_tokens, sampling: Sampling::GREEDY, seed: 0, end_ids, read: None };
        [&start.prompt[..], &plain::decode(model, &request, &mut |_| ()).unwrap().tokens].concat()
    };
    // Ids that the texts have, so that some end early.
    let whole: Vec<Vec<u32>> = starts.iter().map(|start| plain(start, &[])).collect();
    let end_ids: Vec<u32> = [1, 4, 6].iter().map(|n| whole[*n][starts[*n].prompt.len() + 4 * n]).collect();
    let expected: Vec<Vec<u32>> = starts.iter().map(|start| plain(start, &end_ids)).collect();
    let lengths: HashSet<usize> = expected.iter().map(Vec::len).collect();
    assert!(lengths.len() > 4 && expected.iter().zip(&starts).any(|(text, start)| text.len() < start.length));
    let found = complete(model, &starts, &end_ids, &mut KeyStream::new(1), &|| false).unwrap().unwrap();
    assert_eq!(found, expected);
    assert_eq!(complete(model, &starts, &end_ids, &mut KeyStream::new(1), &|| true).unwrap(), None);
    assert_eq!(complete(model, &[], &end_ids, &mut KeyStream::new(1), &|| false).unwrap(), Some(Vec::new()));
}

#[test]
fn a_corpus_has_its_tokens_and_follows_from_its_seed() {
    let place = workplace();
    let make = |out: &str, more: &[&str]| succeeded(place.run(&[&CORPUS[..], &["--out", out], more].concat()));
    let summary = make("a", &[]);
    assert_eq!(summary["complete"], true);
    let (a, target) = (sequences(&place.path("a")), target(&place));
    let tokens: usize = a.iter().map(|(text, _)| text.len()).sum();
    assert!(tokens >= 2000 && summary["tokens"] == tokens && summary["sequences"] == a.len());
    let mut begins = BTreeMap::new();
    for (text, loss_from) in &a {
        assert!(*loss_from < text.len() && text.len() <= 64);
        // The template's end is the last of the prompt, and only the end of the answer ends it.
        assert_eq!(text[loss_from - 3..*loss_from], [60, 97, 62]);
        let answer = &text[*loss_from..];
        assert!(!answer[..answer.len() - 1].iter().any(|id| target.end_ids.contains(id)));
        assert!(text.len() == 64 || target.end_ids.contains(&answer[answer.len() - 1]));
        let prompt = target.tokenizer.decode(&text[3..*loss_from], false).unwrap();
        *begins.entry(["say ", "sum "].into_iter().find(|start| prompt.starts_with(start))).or_insert(0) += 1;
    }
    assert_eq!(begins.len(), 3, "kinds are missing: {begins:?}");
    make("b", &[]);
    assert_eq!(files(&place.path("a")), files(&place.path("b")));
    // Another seed writes other texts: parts of a corpus may be written side by side.
    make("c", &["--seed", "1", "--temperatures", "0.7,1"]);
    make("d", &["--seed", "2", "--temperatures", "0.7,1"]);
    let (c, d) = (sequences(&place.path("c")), sequences(&place.path("d")));
    let of_c: HashSet<_> = c.iter().collect();
    assert!(of_c.len() == c.len() && d.iter().all(|sequence| !of_c.contains(sequence)), "the same text twice");
}

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_happened() {
    let place = workplace();
    let arguments = |out: &'static str| [&CORPUS[..11], &["6000", "--out", out]].concat();
    succeeded(place.run(&arguments("whole")));
    let shards = || fs::read_dir(place.path("cut")).map_or(0, |entries| entries.count());
    let mut kills = 0;
    for wanted in [1, 4, 7] {
        let mut child = place.command(&arguments("cut")).stdout(std::process::Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while child.try_wait().unwrap().is_none() && shards() < wanted && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills > 0, "every run ended before it was killed");
    let summary = succeeded(place.run(&arguments("cut")));
    assert_eq!(summary["complete"], true);
    assert_eq!(files(&place.path("cut")), files(&place.path("whole")));
    let again = succeeded(place.run(&arguments("cut")));
    assert_eq!((&again["tokens_added"], &again["tokens"]), (&json!(0), &summary["tokens"]));
}

#[cfg(unix)]
#[test]
fn an_interrupt_stops_between_shards() {
    let place = workplace();
    let arguments = [&CORPUS[..11], &["1000000", "--out", "a"]].concat();
    let (out, errors) = (std::process::Stdio::piped(), std::process::Stdio::piped());
    let child = place.command(&arguments).stdout(out).stderr(errors).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !place.path("a/corpus.json").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    // SAFETY: a signal to a process that this test started.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("stopped; the same command goes on with shard"));
    let summary = succeeded(output);
    let all = sequences(&place.path("a"));
    assert_eq!((&summary["complete"], summary["sequences"].as_u64()), (&json!(false), Some(all.len() as u64)));
    assert!(!all.is_empty());
}

#[test]
fn plain_texts_come_first_and_count_from_their_start() {
    let place = workplace();
    let text: String = (0..40).map(|n| format!("line {n} of a plain text\n")).collect();
    place.write("plain.txt", &text);
    succeeded(place.run(&[&CORPUS[..], &["--out", "a", "--text", "plain.txt"]].concat()));
    let all = sequences(&place.path("a"));
    let mut read = String::new();
    for (tokens, _) in all.iter().take_while(|(_, loss_from)| *loss_from == 0) {
        read.push_str(&target(&place).tokenizer.decode(tokens, false).unwrap());
    }
    assert_eq!(read, text);
    assert!(all.iter().any(|(_, loss_from)| *loss_from > 0), "texts of the target follow");
}

#[test]
fn bad_requests_are_refused_in_one_line() {
    let place = workplace();
    let with = |more: &[&'static str]| [&["corpus", "tiny", "--out", "o"], more].concat();
    let good = with(&["--tokens", "999", "--sequence-tokens", "64"]);
    place.write("bad.toml", &SEEDS.replace("say {topic}", "say {topics}"));
    place.write("empty.txt", " ");
    for (more, part) in [
        (
            &["--tokens", "63", "--sequence-tokens", "64"][..],
            "--tokens 63 is less than one sequence has; give at least 64",
        ),
        (&["--tokens", "999", "--sequence-tokens", "31"], "--sequence-tokens 31 is too few; give at least 32"),
        (&["--tokens", "999", "--temperatures", "0,-1"], "--temperatures: temperature -1 is out of range"),
        (&["--tokens", "999", "--seeds", "bad.toml"], "bad.toml: kinds[0].prompts[0]: there is no slot {topics}"),
        (&["--tokens", "999", "--seeds", "no.toml"], "no.toml: cannot read this seeds file"),
        (&["--tokens", "999", "--text", "none.txt"], "--text none.txt: cannot be read as text"),
        (&["--tokens", "999", "--text", "empty.txt"], "--text empty.txt: is empty"),
        (&["--tokens", "999", "--batch", "0"], "--batch 0 is out of range"),
        (&["--tokens", "999"], "512 tokens of prompt, text and draft exceed its context of 256"),
    ] {
        place.refused(&with(more), 2, &[part]);
    }
    place.write("o", "a file");
    place.refused(&good, 1, &["--out o: cannot be made"]);
    fs::remove_file(place.path("o")).unwrap();
    fs::create_dir(place.path("o")).unwrap();
    place.write("o/letter.txt", "a file of somebody's");
    place.refused(&good, 2, &["--out o: holds other files"]);
    place.write("tiny/tokenizer_config.json", "{}");
    place.refused(&good, 2, &["the checkpoint has no chat template"]);
}

#[test]
fn another_corpus_is_not_gone_on_with() {
    let place = workplace();
    succeeded(place.run(&[&CORPUS[..], &["--out", "a"]].concat()));
    let with = |more: &'static [&'static str]| [&CORPUS[..], &["--out", "a"], more].concat();
    place.refused(&with(&["--seed", "5"]), 2, &["--out a: holds a corpus with another seed: 0, not 5"]);
    place.refused(&with(&["--temperatures", "1"]), 2, &["with another temperatures: [0.0,"]);
    place.write("seeds.toml", &SEEDS.replace("say", "tell"));
    place.refused(&with(&[]), 2, &["with another sources"]);
    place.write("seeds.toml", SEEDS);
    place.set("a/corpus.json", &[("schema_version", json!(9))]);
    place.refused(&with(&[]), 2, &["a/corpus.json: schema_version: is 9, this program reads 1"]);
    place.write("a/corpus.json", "{}");
    place.refused(&with(&[]), 2, &["a/corpus.json: missing field `schema_version`"]);
}

#[test]
fn a_corpus_trains_a_drafter_that_drafts() {
    let place = workplace();
    succeeded(place.run(&[&CORPUS[..11], &["6000", "--out", "a"]].concat()));
    let generate = ["generate", "tiny", "-p", "say ab", "--chat", "-n", "24", "--ignore-eos", "--json"];
    let plain = succeeded(place.run(&generate));
    for (name, more) in [("plain", &["--export-quantize", "8:32"][..]), ("features", &["--features", "--rollout", "2"])]
    {
        let distill = ["distill", "tiny", "--corpus", "a", "--out", name, "--layers", "1", "--head-vocabulary", "60"];
        let steps = ["--steps", "4", "--batch", "4", "--held-out", "8", "--warm-up", "1", "--quiet", "--json"];
        let trained = place.run(&[&distill[..], &steps, more].concat());
        assert!(trained.status.success(), "{trained:?}");
        place.write("d.toml", &format!("kind = \"distilled\"\npath = \"{name}\"\n"));
        let drafted = succeeded(place.run(&[&generate[..], &["--draft", "d.toml", "--draft-length", "3"]].concat()));
        assert_eq!(drafted["text"], plain["text"], "{name}");
        assert!(drafted["drafted"].as_u64().unwrap() > 0, "{name}");
    }
}

/// Prompts that a draft length is chosen or confirmed on must not have been trained on.
#[test]
fn no_prompt_set_shares_eight_words_with_the_seeds() {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(str::to_lowercase).collect()
    };
    let runs = |text: &str| -> HashSet<Vec<String>> { words(text).windows(8).map(<[String]>::to_vec).collect() };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let seeds = runs(&fs::read_to_string(root.join("corpus/seeds.toml")).unwrap());
    assert!(seeds.len() > 500);
    let mut sets = 0;
    for entry in fs::read_dir(root.join("prompts")).unwrap() {
        let path = entry.unwrap().path();
        let shared: Vec<_> = runs(&fs::read_to_string(&path).unwrap()).intersection(&seeds).cloned().collect();
        assert!(shared.is_empty(), "{}: {shared:?}", path.display());
        sets += 1;
    }
    assert!(sets > 0);
}
