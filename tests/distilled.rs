//! A trained drafter's folder: what is proposed from it, with few ids and with all, and what is said of a bad one.
#![cfg(feature = "mlx")]

use crate::tiny::Workplace;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::softmax_axis;
use mlx_rs::{Array, Dtype};
use ridgepoint::decode::keys::KeyStream;
use ridgepoint::decode::sampling::Sampling;
use ridgepoint::decode::{Request, plain, prefill, speculative};
use ridgepoint::draft::{self, Drafter};
use ridgepoint::measure::cost::{self, ForwardTimer};
use ridgepoint::model::checkpoint::weights_sha256;
use ridgepoint::model::language_model::LanguageModel;
use ridgepoint::model::transformer::{Logits, Transformer};
use ridgepoint::model::weights::LoadOptions;
use ridgepoint::roofline::{Draft, Trace, WeightFormat, replay};
use ridgepoint::scenario::DraftSpec;
use serde_json::{Value, json};
use statrs::distribution::{ChiSquared, ContinuousCDF};
use std::collections::{HashMap, HashSet};
use std::fs;

const VOCAB: u32 = 256;
pub const GREEDY: Sampling = Sampling::GREEDY;

/// A workplace with the tiny target and `own`, a drafter of its first layer, its norm and the ids `ids` of its head.
pub fn workplace(ids: &[u32]) -> Workplace {
    mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
    let place = Workplace::new();
    let weights = read_weights(&place, "tiny");
    let mut own: HashMap<String, Array> = weights
        .into_iter()
        .filter(|(name, _)| name.starts_with("model.layers.0.") || name == "model.norm.weight")
        .collect();
    own.insert("draft_ids".into(), Array::from_slice(ids, &[ids.len() as i32]));
    fs::create_dir(place.path("own")).unwrap();
    write_weights(&place, own);
    let mut model: Value = serde_json::from_str(&fs::read_to_string(place.path("tiny/config.json")).unwrap()).unwrap();
    model["num_hidden_layers"] = 1.into();
    let config = json!({ "schema_version": 1, "kind": "distilled", "target": "tiny",
        "target_sha256": weights_sha256(&place.path("tiny")).unwrap(), "model": model, "feature_conditioned": false,
        "head_vocabulary": ids.len(), "training": { "steps": 0 } });
    place.write("own/config.json", &config.to_string());
    place.write("own.toml", "kind = \"distilled\"\npath = \"own\"\n");
    place
}

fn read_weights(place: &Workplace, folder: &str) -> HashMap<String, Array> {
    let weights = Array::load_safetensors(place.path(folder).join("model.safetensors")).unwrap();
    // They are read when they are needed, and the file may be another by then.
    mlx_rs::transforms::eval(weights.values()).unwrap();
    weights
}

fn write_weights(place: &Workplace, weights: HashMap<String, Array>) {
    let metadata = HashMap::from([("format".to_owned(), "mlx".to_owned())]);
    Array::save_safetensors(weights, &metadata, place.path("own/model.safetensors")).unwrap();
}

/// A workplace with the tiny target and a drafter that reads hidden states through `fc` (`[64, 128]`).
pub fn conditioned(ids: &[u32], fc: Array) -> Workplace {
    let place = workplace(ids);
    let mut own = read_weights(&place, "own");
    own.insert("fc.weight".into(), fc);
    write_weights(&place, own);
    place.set("own/config.json", &[("feature_conditioned", true.into())]);
    place
}

/// Two ids of three.
pub fn some_ids() -> Vec<u32> {
    (0..VOCAB).filter(|id| id % 3 != 1).collect()
}

pub fn target(place: &Workplace) -> LanguageModel {
    LanguageModel::load(&place.path("tiny"), &LoadOptions { dtype: Some(Dtype::Float32), quantize: None }).unwrap()
}

pub fn drafter(place: &Workplace, target: &LanguageModel, file: &str) -> Box<dyn Drafter> {
    let file = place.path(file);
    draft::build(&file, &DraftSpec::read(&file).unwrap(), target, &|_| unreachable!()).unwrap()
}

/// A text of `length` tokens: the target's own, with foreign tokens here and there.
pub fn text(target: &Transformer, length: usize) -> Vec<u32> {
    let mut text = vec![5, 17, 3, 40];
    let mut state = 7u32;
    while text.len() < length {
        let request = Request { prompt: &text, max_tokens: 6, sampling: GREEDY, seed: 0, end_ids: &[], read: None };
        text.extend(plain::decode(target, &request, &mut |_| ()).unwrap().tokens);
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.push((state >> 8) % VOCAB);
    }
    text.truncate(length);
    text
}

/// Logits of the target's first layer behind `text`, `[256]`: what the drafter's own head chooses from.
fn layer_logits(target: &Transformer, text: &[u32]) -> Array {
    let model = target.truncated(1);
    let input = Array::from_slice(text, &[1, text.len() as i32]);
    model.forward(&input, &mut model.new_cache(), Logits::Last).unwrap().reshape(&[-1]).unwrap()
}

#[test]
fn timed_rounds_leave_the_drafter_as_it_was() {
    let place = workplace(&some_ids());
    let target = target(&place);
    let text = text(&target.transformer, 40);
    for (file, sampling) in
        [("own.toml", GREEDY), ("own.toml", Sampling::new(0.8, 0.95).unwrap()), ("lookup.toml", GREEDY)]
    {
        let mut timer = ForwardTimer::new(&target.transformer, &text, 40, 5, 1).unwrap().sampled(sampling);
        let mut drafter = drafter(&place, &target, file);
        cost::begin(drafter.as_mut(), &text, 44).unwrap();
        let proposed = |drafter: &mut dyn Drafter| {
            let proposal = drafter.propose(&text, 4, &GREEDY, &mut KeyStream::new(1)).unwrap();
            drafter.settle(&text).unwrap();
            proposal.map(|proposal| proposal.tokens.to_vec_exact::<u32>().unwrap())
        };
        let before = proposed(drafter.as_mut());
        for _ in 0..3 {
            assert!(timer.round(drafter.as_mut(), &text, 4).unwrap() > 0.0);
        }
        assert_eq!(proposed(drafter.as_mut()), before, "{file}");
    }
}

#[test]
fn layers_of_the_target_with_all_ids_propose_what_layer_skip_proposes() {
    let place = workplace(&(0..VOCAB).collect::<Vec<_>>());
    let target = target(&place);
    let text = text(&target.transformer, 40);
    let (mut own, mut skip) = (drafter(&place, &target, "own.toml"), drafter(&place, &target, "skip.toml"));
    let proposals = |drafter: &mut dyn Drafter| -> Vec<Vec<u32>> {
        let mut keys = KeyStream::new(1);
        drafter.begin(&text[..5], 60).unwrap();
        let propose = |end: usize| {
            let proposal = drafter.propose(&text[..end], 4, &GREEDY, &mut keys).unwrap().unwrap();
            let tokens = proposal.tokens.to_vec_exact().unwrap();
            drafter.settle(&text[..=end]).unwrap();
            tokens
        };
        (5..36).map(propose).collect()
    };
    let expected = proposals(skip.as_mut());
    assert_eq!(proposals(own.as_mut()), expected);
    assert!(expected.iter().flatten().collect::<HashSet<_>>().len() > 5, "a text that tests little: {expected:?}");
    assert_eq!(own.matches(&text, 5, 30, 4).unwrap(), skip.matches(&text, 5, 30, 4).unwrap());
    let read = Sampling::new(0.8, 0.95).unwrap();
    let sampled = |drafter: &mut dyn Drafter| {
        drafter.begin(&text[..9], 60).unwrap();
        let proposal = drafter.propose(&text[..9], 5, &read, &mut KeyStream::new(3)).unwrap().unwrap();
        (proposal.tokens.to_vec_exact::<u32>().unwrap(), proposal.probabilities.unwrap().to_vec_exact::<f32>().unwrap())
    };
    assert_eq!(sampled(own.as_mut()), sampled(skip.as_mut()));
}

#[test]
fn few_ids_are_chosen_among_and_named_as_the_target_names_them() {
    let ids = some_ids();
    let place = workplace(&ids);
    let target = target(&place);
    let text = text(&target.transformer, 40);
    let mut drafter = drafter(&place, &target, "own.toml");
    assert_eq!(drafter.shape().unwrap().vocab, ids.len() as u64);
    drafter.begin(&text[..5], 60).unwrap();
    for end in 5..36 {
        let proposal = drafter.propose(&text[..end], 1, &GREEDY, &mut KeyStream::new(0)).unwrap().unwrap();
        let logits: Vec<f32> = layer_logits(&target.transformer, &text[..end]).to_vec_exact().unwrap();
        let best = ids.iter().copied().max_by(|a, b| logits[*a as usize].total_cmp(&logits[*b as usize])).unwrap();
        assert_eq!(proposal.tokens.to_vec_exact::<u32>().unwrap(), [best], "behind {end} tokens");
        drafter.settle(&text[..=end]).unwrap();
    }
}

#[test]
fn probabilities_are_those_of_the_head_and_zero_elsewhere() {
    let ids = some_ids();
    let place = workplace(&ids);
    let target = target(&place);
    let text = text(&target.transformer, 12);
    let mut drafter = drafter(&place, &target, "own.toml");
    drafter.begin(&text, 60).unwrap();
    let sampling = Sampling::new(0.7, 1.0).unwrap();
    let proposal = drafter.propose(&text, 3, &sampling, &mut KeyStream::new(5)).unwrap().unwrap();
    let (tokens, rows) = (proposal.tokens.to_vec_exact::<u32>().unwrap(), proposal.probabilities.unwrap());
    assert_eq!(rows.shape(), [3, VOCAB as i32]);
    for (place, token) in tokens.iter().enumerate() {
        let behind = [&text[..], &tokens[..place]].concat();
        let logits =
            layer_logits(&target.transformer, &behind).take_axis(Array::from_slice(&ids, &[ids.len() as i32]), 0);
        let logits = logits.unwrap().divide(Array::from_f32(0.7)).unwrap();
        let expected: Vec<f32> = softmax_axis(&logits, -1, true).unwrap().to_vec_exact().unwrap();
        let row: Vec<f32> = rows.try_index(place as i32).unwrap().to_vec_exact().unwrap();
        for id in 0..VOCAB {
            let wanted = ids.binary_search(&id).map_or(0.0, |place| expected[place]);
            assert!((row[id as usize] - wanted).abs() < 1e-6, "draft {place}, id {id}: {} {wanted}", row[id as usize]);
        }
        assert!(ids.contains(token));
    }
}

#[test]
fn speculation_changes_no_token_and_the_trace_replays_it() {
    let place = workplace(&some_ids());
    place.write("bytes.toml", "kind = \"distilled\"\npath = \"own\"\nquantize = \"8:64\"\n");
    for file in ["own.toml", "bytes.toml"] {
        speculation_is_lossless_and_replayed(&place, file);
    }
}

fn speculation_is_lossless_and_replayed(place: &Workplace, file: &str) {
    let target = target(place);
    let model = &target.transformer;
    let mut drafter = drafter(place, &target, file);
    let bytes = matches!(drafter.shape().unwrap().weights, WeightFormat::Affine { bits: 8, group_size: 64, .. });
    assert_eq!(bytes, file == "bytes.toml");
    let mut accepted = 0;
    for prompt in [[5, 17, 3, 40], [200, 9, 9, 1], [77, 78, 79, 80]] {
        let request =
            |max_tokens| Request { prompt: &prompt, max_tokens, sampling: GREEDY, seed: 0, end_ids: &[], read: None };
        let expected = plain::decode(model, &request(48), &mut |_| ()).unwrap().tokens;
        let whole = [&prompt[..], &expected].concat();
        let matches = drafter.matches(&whole, prompt.len(), 40, 8).unwrap();
        let drafts = matches.iter().map(|found| Draft { drafted: found.proposed, matched: found.matched }).collect();
        let trace = Trace::new(drafts, 8).unwrap();
        for draft_length in [1, 2, 4, 8] {
            let run = speculative::decode(model, drafter.as_mut(), draft_length, &request(40), &mut |_| ()).unwrap();
            assert_eq!(run.tokens, expected[..40], "γ={draft_length}");
            let replayed = replay(&trace, draft_length).unwrap();
            let counts = (replayed.rounds, replayed.drafted, replayed.accepted);
            assert_eq!((run.rounds as f64, run.drafted as f64, run.accepted as f64), counts, "γ={draft_length}");
            accepted += run.accepted;
        }
    }
    assert!(accepted > 0, "nothing was accepted, so little was tested");
}

/// Pearson's test over bins of ids. The committed token is an accepted draft in some runs and a resampled one in others,
/// and ids that the head lacks can only come from the latter.
#[test]
fn at_a_temperature_committed_tokens_have_the_targets_distribution() {
    const RUNS: u64 = 4000;
    const BINS: usize = 4;
    let place = workplace(&some_ids());
    let target = target(&place);
    let model = &target.transformer;
    let mut drafter = drafter(&place, &target, "own.toml");
    let prompt = [5u32, 17, 3, 40, 9];
    let sampling = Sampling::new(1.0, 1.0).unwrap();
    let mut cache = model.new_cache();
    prefill(model, &mut cache, &prompt).unwrap();
    let logits = model.forward(&Array::from_slice(&prompt[4..], &[1, 1]), &mut cache, Logits::Last).unwrap();
    let chances: Vec<f32> = softmax_axis(logits.reshape(&[-1]).unwrap(), -1, true).unwrap().to_vec_exact().unwrap();
    // Ids in and out of the head are told apart in every bin.
    let (mut bin_of, mut expected) = (vec![0; VOCAB as usize], vec![0.0; 2 * BINS]);
    for id in 0..VOCAB as usize {
        bin_of[id] = 2 * (id % BINS) + usize::from(id % 3 == 1);
        expected[bin_of[id]] += f64::from(chances[id]) * RUNS as f64;
    }
    let mut observed = vec![0.0; 2 * BINS];
    for seed in 0..RUNS {
        let request = Request { prompt: &prompt, max_tokens: 1, sampling, seed, end_ids: &[], read: None };
        let run = speculative::decode(model, drafter.as_mut(), 2, &request, &mut |_| ()).unwrap();
        observed[bin_of[run.tokens[0] as usize]] += 1.0;
    }
    let cells: Vec<(f64, f64)> = observed.into_iter().zip(expected).filter(|(_, expected)| *expected > 0.0).collect();
    assert!(cells.iter().all(|(_, expected)| *expected > 5.0), "{cells:?}");
    let statistic: f64 = cells.iter().map(|(seen, expected)| (seen - expected).powi(2) / expected).sum();
    let p = 1.0 - ChiSquared::new(cells.len() as f64 - 1.0).unwrap().cdf(statistic);
    assert!(p > 1e-3, "p = {p}: {cells:?}");
}

#[test]
fn every_command_that_takes_a_draft_file_takes_this_kind() {
    let place = workplace(&some_ids());
    let generate = ["generate", "tiny", "-p", "one two", "-n", "20", "--ignore-eos", "--json"];
    let text = |more: &[&str]| {
        let output = place.run(&[&generate, more].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let drafted = text(&["--draft", "own.toml", "--draft-length", "3"]);
    assert_eq!(drafted["text"], text(&[])["text"]);
    assert!(drafted["drafted"].as_u64().unwrap() > 0);
    // What is generated to warm up leaves no trace.
    let counts = |run: Value| ["text", "tokens", "rounds", "drafted"].map(|field| run[field].clone());
    for more in [&["--draft", "own.toml", "--draft-length", "3"][..], &["--temperature", "0.8"]] {
        assert_eq!(counts(text(&[more, &["--warm-up", "5"]].concat())), counts(text(more)));
    }
    let conditioned = conditioned(&some_ids(), mlx_rs::ops::ones::<f32>(&[64, 128]).unwrap());
    for place in [&place, &conditioned] {
        every_timing_command_takes_it(place);
    }
}

fn every_timing_command_takes_it(place: &Workplace) {
    let cost = ["cost", "tiny", "--contexts", "64", "--widths", "1-4", "--draft", "own.toml", "--draft-lengths", "1-3"];
    let output = place.run(&[&cost[..], &["--results", "r", "--machine", "m", "--quiet", "--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    place.change_scenario("\"skip.toml\"", "\"own.toml\"");
    let output = place.run(&["tune", "changed.toml", "--results", "r", "--machine", "m", "--quiet", "--json"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_target_with_other_weights_is_refused_unless_forced() {
    let place = workplace(&some_ids());
    place.set("own/config.json", &[("target_sha256", json!("0".repeat(64)))]);
    let generate = ["generate", "tiny", "-p", "one", "-n", "4", "--draft", "own.toml"];
    let parts = ["own.toml: path: ", "was trained for 'tiny', and the weights of tiny are others", "force = true"];
    place.refused(&generate, 2, &parts);
    assert!(place.run(&[&generate[..], &["--force"]].concat()).status.success());
    place.write("own.toml", "kind = \"distilled\"\npath = \"own\"\nforce = true\n");
    assert!(place.run(&generate).status.success());
}

#[test]
fn bad_folders_are_refused_in_one_line() {
    let place = workplace(&some_ids());
    let generate = ["generate", "tiny", "-p", "one", "-n", "4", "--draft", "own.toml"];
    let good = fs::read_to_string(place.path("own/config.json")).unwrap();
    let model = |key: &str, value: Value| {
        let mut model = serde_json::from_str::<Value>(&good).unwrap()["model"].take();
        model[key] = value;
        model
    };
    for (key, value, code, part) in [
        ("schema_version", json!(2), 2, "config.json: schema_version: is 2, this program reads 1"),
        ("schema_version", json!("1"), 2, "config.json: schema_version: invalid type"),
        ("kind", json!("model"), 2, "config.json: kind: is 'model', not 'distilled'"),
        ("target", json!(7), 2, "config.json: target: invalid type"),
        ("target_sha256", json!(null), 2, "config.json: target_sha256: invalid type"),
        ("feature_conditioned", json!("no"), 2, "config.json: feature_conditioned: invalid type"),
        ("feature_conditioned", json!(true), 1, "tensor 'fc.weight' is missing"),
        ("head_vocabulary", json!(0), 2, "config.json: head_vocabulary: must be 1 to 256, got 0"),
        ("head_vocabulary", json!(257), 2, "config.json: head_vocabulary: must be 1 to 256, got 257"),
        ("head_vocabulary", json!(100), 1, "tensor 'draft_ids' has shape [171]"),
        ("model", json!({}), 2, "config.json: model: 'model_type'"),
        ("model", model("hidden_size", json!(128)), 2, "model.hidden_size: is 128, the target's is 64"),
        ("model", model("vocab_size", json!(300)), 2, "model.vocab_size: is 300, the target's is 256"),
        ("model", model("num_hidden_layers", json!(2)), 1, "tensor 'model.layers.1.input_layernorm.weight' is missing"),
        ("model", model("num_hidden_layers", json!(0)), 2, "'num_hidden_layers' is 0"),
        ("quantization", json!({ "bits": 7 }), 1, ""),
    ] {
        place.set("own/config.json", &[(key, value)]);
        // Settings that no matrix of the folder needs do no harm.
        if !part.is_empty() {
            place.refused(&generate, code, &[part]);
        }
        place.write("own/config.json", &good);
    }
    for ids in [&[3u32, 2, 1][..], &[1, 1, 2], &[1, 2, 256]] {
        let mut config: Value = serde_json::from_str(&good).unwrap();
        config["head_vocabulary"] = 3.into();
        place.write("own/config.json", &config.to_string());
        let mut weights = read_weights(&place, "own");
        weights.insert("draft_ids".into(), Array::from_slice(ids, &[3]));
        write_weights(&place, weights);
        place.refused(&generate, 1, &["own: tensor 'draft_ids' is not ascending ids below 256"]);
    }
    place.write("own/config.json", "{");
    place.refused(&generate, 2, &["config.json: EOF while parsing"]);
    fs::remove_file(place.path("own/config.json")).unwrap();
    place.refused(&generate, 2, &["config.json: cannot be read", "ridgepoint distill"]);
    fs::remove_dir_all(place.path("own")).unwrap();
    place.refused(&generate, 2, &["own.toml: path: 'own' is neither beside this file"]);
}
