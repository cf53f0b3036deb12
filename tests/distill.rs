//! Training of drafters: against an independent implementation, bit-equal on resuming, and what is refused.
#![cfg(feature = "mlx")]

use crate::tiny::Workplace;
use mlx_rs::ops::indexing::argmax_axis;
use mlx_rs::{Array, Dtype};
use ridgepoint::decode::sampling::Sampling;
use ridgepoint::decode::{Request, Round, plain, speculative};
use ridgepoint::distill::acceptance::DRAFT_LENGTH;
use ridgepoint::distill::adamw::{AdamW, Schedule, State};
use ridgepoint::distill::corpus::Corpus;
use ridgepoint::distill::graph::{Batch, Frozen, Graph, evaluation_inputs, step_inputs};
use ridgepoint::distill::settings::Settings;
use ridgepoint::distill::target::Target;
use ridgepoint::distill::train::{Job, batch};
use ridgepoint::draft;
use ridgepoint::machine::device::{self, DeviceKind};
use ridgepoint::measure::Progress;
use ridgepoint::model::language_model::LanguageModel;
use ridgepoint::model::transformer::Logits;
use ridgepoint::model::weights::LoadOptions;
use ridgepoint::results::{TrainingRow, Wire, read_rows};
use ridgepoint::scenario::{self, DraftSpec};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn load() -> (Target, Corpus) {
    device::select(Some(DeviceKind::Cpu)).unwrap();
    let target = Target::load(&golden("models/llama")).unwrap();
    let corpus = Corpus::read(&[golden("distill")], &target.sha256, 256, false).unwrap();
    (target, corpus)
}

fn frozen(target: &Target, ids: &[u32]) -> Frozen {
    let draft_ids = Array::from_slice(ids, &[ids.len() as i32]);
    Frozen {
        target: target.weights.clone(),
        embedding: target.embedding.clone(),
        head: target.head.clone(),
        draft_head: target.head.take_axis(&draft_ids, 0).unwrap(),
        draft_ids,
    }
}

/// |ours - theirs| relative to the larger of 1 and |theirs|.
fn check(ours: f64, theirs: &Value, what: &str) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() <= 1e-4 * theirs.abs().max(1.0), "{what}: {ours}, golden {theirs}");
}

/// Two steps give the losses, gradients and weights that JAX and optax give in float64.
fn two_steps(kind: &str, features: bool) {
    let golden: Value = serde_json::from_str(&fs::read_to_string(golden("distill/step.json")).unwrap()).unwrap();
    let number = |key: &str| golden[key].as_f64().unwrap() as f32;
    let (target, corpus) = load();
    let (drafter, weights) = target.drafter(&[1, 0], features).unwrap();
    let adamw = AdamW {
        beta1: number("beta1"),
        beta2: number("beta2"),
        epsilon: number("epsilon"),
        weight_decay: number("weight_decay"),
        clip: number("clip"),
    };
    let graph = Graph {
        drafter,
        target: target.decoder.clone(),
        adamw,
        hard_weight: number("hard_weight"),
        dtype: Dtype::Float32,
        rollout: features.then_some(3),
    };
    let ids: Vec<u32> = serde_json::from_value(golden["draft_ids"].clone()).unwrap();
    let frozen = frozen(&target, &ids);
    let schedule = Schedule {
        peak: golden["learning_rate"].as_f64().unwrap(),
        warm_up: golden["warm_up"].as_u64().unwrap(),
        steps: None,
    };
    let mut state = State::new(weights).unwrap();
    let rows = golden["batch"].as_u64().unwrap() as usize;
    for (step, expected) in golden[kind]["steps"].as_array().unwrap().iter().enumerate() {
        let sequences = &corpus.sequences[step * rows..][..rows];
        let number = step as u64 + 1;
        let scalars = Array::from_slice(&adamw.scalars(schedule.learning_rate(number), number), &[3]);
        let batch = batch(&corpus, sequences, corpus.sequence_tokens);
        let outputs = graph.step(&step_inputs(&state, &scalars, &batch, &frozen)).unwrap();
        check(outputs[0].item_exact::<f32>().into(), &expected["loss"], "loss");
        check(outputs[1].item_exact::<f32>().into(), &expected["norm"], "gradient norm");
        state = State::from_arrays(&outputs[2..]);
    }
    for (tensor, weight) in graph.drafter.tensors.iter().zip(&state.weights) {
        let expected = &golden[kind]["weights"][&tensor.name];
        weight.eval().unwrap();
        let values: Vec<f64> = weight.try_as_slice::<f32>().unwrap().iter().map(|x| f64::from(*x)).collect();
        check(values.iter().sum(), &expected["sum"], &tensor.name);
        check(values.iter().map(|x| x * x).sum(), &expected["square_sum"], &tensor.name);
        let sample = values.iter().step_by((values.len() / 16).max(1));
        for (ours, theirs) in sample.zip(expected["sample"].as_array().unwrap()) {
            // One step moves a weight by at most the learning rate, 1e-3: a thousandth of that is seen.
            let theirs = theirs.as_f64().unwrap();
            assert!((ours - theirs).abs() < 2e-6, "{}: {ours}, golden {theirs}", tensor.name);
        }
    }
}

#[test]
fn steps_on_tokens_are_those_of_jax() {
    two_steps("tokens", false);
}

#[test]
fn steps_on_features_with_a_rollout_are_those_of_jax() {
    two_steps("features", true);
}

#[test]
fn an_untrained_drafter_with_the_whole_vocabulary_is_the_target_cut_short() {
    let (target, corpus) = load();
    let (drafter, weights) = target.drafter(&[0], false).unwrap();
    let graph = Graph {
        drafter,
        target: target.decoder.clone(),
        adamw: settings(&target, &corpus).adamw,
        hard_weight: 0.0,
        dtype: Dtype::Float32,
        rollout: None,
    };
    let ids: Vec<u32> = (0..256).collect();
    let sequences = &corpus.sequences[..3];
    let batch = batch(&corpus, sequences, corpus.sequence_tokens);
    let outputs = graph.evaluate(&evaluation_inputs(&weights, &batch, &frozen(&target, &ids)), DRAFT_LENGTH).unwrap();
    outputs[1].eval().unwrap();
    let hits = outputs[1].try_as_slice::<bool>().unwrap();

    // The engine's own forward, with its cache and fused operations.
    let (_, model) = ridgepoint::model::load(&golden("models/llama"), &LoadOptions::default()).unwrap();
    let choices = |model: &ridgepoint::model::transformer::Transformer| {
        let logits = model.forward(&batch.tokens, &mut model.new_cache(), Logits::All).unwrap();
        let choices = argmax_axis(&logits, -1, false).unwrap();
        choices.eval().unwrap();
        choices.try_as_slice::<u32>().unwrap().to_vec()
    };
    let (ours, theirs) = (choices(&model.truncated(1)), choices(&model));
    let expected: Vec<bool> = ours.iter().zip(&theirs).map(|(a, b)| a == b).collect();
    assert_eq!(hits, expected);
    assert!(expected.contains(&true) && expected.contains(&false));
}

fn settings(target: &Target, corpus: &Corpus) -> Settings {
    Settings {
        target_sha256: target.sha256.clone(),
        corpus: corpus.sha256.clone(),
        init: vec![1],
        head_vocabulary: 64,
        features: false,
        rollout: 1,
        batch: 3,
        steps: Some(12),
        minutes: None,
        learning_rate: 5e-3,
        warm_up: 2,
        adamw: AdamW { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.01, clip: 1.0 },
        hard_weight: 0.3,
        held_out: 4,
        evaluate_every: 4,
        dtype: scenario::Dtype::Float32,
        seed: 1,
    }
}

/// Counts steps; at one of them it asks to stop, or panics as a kill would.
struct Watch<'a> {
    steps: u64,
    stop_at: u64,
    kill_at: u64,
    stop: &'a AtomicBool,
}

impl Progress for Watch<'_> {
    fn stage(&mut self, _name: &str, _steps: u64) {}

    fn step(&mut self) {
        self.steps += 1;
        assert_ne!(self.steps, self.kill_at, "killed");
        self.stop.store(self.steps == self.stop_at, Ordering::Relaxed);
    }

    fn note(&mut self, _text: &str) {}
}

fn train(folder: &Path, change: impl Fn(&mut Settings), stop_at: u64, kill_at: u64) -> bool {
    let (target, corpus) = load();
    let mut settings = settings(&target, &corpus);
    change(&mut settings);
    let stop = AtomicBool::new(false);
    let job = Job {
        target: &target,
        corpus: &corpus,
        settings,
        folder,
        checkpoint_every: 5,
        export: None,
        compiled: false,
        device: "a test".into(),
        stop: &stop,
    };
    fs::create_dir_all(folder).unwrap();
    let mut watch = Watch { steps: 0, stop_at, kill_at, stop: &stop };
    job.run(&mut watch).unwrap().stopped
}

fn rows(folder: &Path) -> Vec<TrainingRow> {
    let rows: Vec<TrainingRow> = read_rows(&folder.join(TrainingRow::FILE)).unwrap();
    rows.into_iter().map(|row| TrainingRow { seconds: 0.0, ..row }).collect()
}

#[test]
fn a_run_that_was_stopped_or_killed_ends_bit_equal() {
    let root = tempfile::tempdir().unwrap();
    let folder = |name: &str| root.path().join(name);
    for (kind, features) in [("tokens", false), ("features", true)] {
        let change = |settings: &mut Settings| {
            settings.features = features;
            settings.rollout = if features { 2 } else { 1 };
        };
        let (whole, parted) = (folder(&format!("{kind}-whole")), folder(&format!("{kind}-parted")));
        assert!(!train(&whole, change, 0, 0));
        assert!(train(&parted, change, 3, 0), "stops at 3, and keeps a checkpoint of that step");
        let killed = std::panic::catch_unwind(|| train(&parted, change, 0, 5));
        assert!(killed.is_err(), "killed at step 8: the last checkpoint is that of step 5");
        assert!(!train(&parted, change, 0, 0));
        assert_eq!(rows(&whole), rows(&parted));
        assert_eq!(rows(&whole).iter().map(|row| row.step).collect::<Vec<_>>(), [0, 4, 8, 12]);
        let weights = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
        assert!(weights(&whole) == weights(&parted), "{kind}");
        assert!(!parted.join("checkpoint").exists());
    }
}

#[test]
fn training_lowers_the_loss() {
    let root = tempfile::tempdir().unwrap();
    train(root.path(), |settings| (settings.steps, settings.evaluate_every) = (Some(60), 20), 0, 0);
    let losses: Vec<f64> = rows(root.path()).iter().map(|row| row.held_out_loss).collect();
    assert!(losses[3] < losses[0] - 0.1, "{losses:?}");
    let config: Value = serde_json::from_str(&fs::read_to_string(root.path().join("config.json")).unwrap()).unwrap();
    let loss = config["training"]["held_out"]["loss"].as_f64().unwrap();
    assert!((loss - losses[3]).abs() < 1e-9, "what is exported is what was trained: {loss} {losses:?}");
}

/// Rounds of four on the target's greedy text accept what the evaluation of training, which reads that text once, says: the
/// drafter in use is the one that was trained.
#[test]
fn a_trained_drafter_drafts_in_use_as_its_evaluation_says() {
    for features in [false, true] {
        let place = workplace();
        let change = |settings: &mut Settings| {
            (settings.features, settings.rollout) = (features, if features { 3 } else { 1 });
            settings.steps = Some(40);
            settings.head_vocabulary = 200;
        };
        train(&place.path("out"), change, 0, 0);
        place.write("own.toml", "kind = \"distilled\"\npath = \"out\"\n");
        let options = LoadOptions { dtype: Some(Dtype::Float32), quantize: None };
        let model = LanguageModel::load(&place.path("tiny"), &options).unwrap();
        let file = place.path("own.toml");
        let spec = DraftSpec::read(&file).unwrap();
        let mut drafter = draft::build(&file, &spec, &model, &|_| unreachable!()).unwrap();
        let (mut used, mut expected) = (Vec::new(), Vec::new());
        for start in 0..12u32 {
            let prompt: Vec<u32> = (0..6).map(|n| (start * 31 + n * 17) % 256).collect();
            let max_tokens = 40;
            let request =
                Request { prompt: &prompt, max_tokens, sampling: Sampling::GREEDY, seed: 0, end_ids: &[], read: None };
            let mut rounds = Vec::new();
            let mut observe = |round: Round| rounds.push(round.accepted);
            speculative::decode(&model.transformer, drafter.as_mut(), DRAFT_LENGTH, &request, &mut observe).unwrap();
            let tokens = plain::decode(&model.transformer, &request, &mut |_| ()).unwrap().tokens;
            let walked = walk(&place.path("out"), features, &[&prompt[..], &tokens].concat(), prompt.len() - 1);
            assert!(walked.len() > 5);
            used.push(rounds[..walked.len()].to_vec());
            expected.push(walked);
        }
        assert_eq!(used, expected, "features: {features}");
        let all: HashSet<usize> = expected.concat().into_iter().collect();
        assert!(all.len() > 2, "a text that tests little: {expected:?}");
    }
}

/// How many drafts each whole round over `text` from input position `start` on has accepted, by the graph's evaluation.
fn walk(folder: &Path, features: bool, text: &[u32], start: usize) -> Vec<usize> {
    let (target, _) = load();
    let (drafter, _) = target.drafter(&[1], features).unwrap();
    let stored = Array::load_safetensors(folder.join("model.safetensors")).unwrap();
    let weights: Vec<Array> = drafter.tensors.iter().map(|tensor| stored[&tensor.name].clone()).collect();
    let ids: Vec<u32> = stored["draft_ids"].to_vec_exact().unwrap();
    let adamw = AdamW { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.01, clip: 1.0 };
    let rollout = features.then_some(3);
    let (target_decoder, dtype) = (target.decoder.clone(), Dtype::Float32);
    let graph = Graph { drafter, target: target_decoder, adamw, hard_weight: 0.0, dtype, rollout };
    let shape = [1, text.len() as i32];
    let batch = Batch {
        tokens: Array::from_slice(text, &shape),
        counted: mlx_rs::ops::ones::<f32>(&shape).unwrap(),
        positions: Array::from_f32(1.0),
    };
    let outputs = graph.evaluate(&evaluation_inputs(&weights, &batch, &frozen(&target, &ids)), DRAFT_LENGTH).unwrap();
    let passes = outputs[1].dim(0) as usize;
    let hits: Vec<bool> = outputs[1].to_vec_exact().unwrap();
    let hit = |place: usize, at: usize| hits[place.min(passes - 1) * text.len() + at];
    let (mut at, mut rounds) = (start, Vec::new());
    while at + DRAFT_LENGTH < text.len() {
        rounds.push((0..DRAFT_LENGTH).take_while(|&place| hit(place, at + place)).count());
        at += rounds[rounds.len() - 1] + 1;
    }
    rounds
}

fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let usual = ["distill", "tiny", "--corpus", "corpus", "--out", "out", "--batch", "3", "--held-out", "4"];
    [&usual[..], more].concat()
}

fn workplace() -> Workplace {
    let place = Workplace::new();
    fs::create_dir(place.path("corpus")).unwrap();
    for file in ["corpus.json", "shard-00000.safetensors"] {
        fs::copy(golden("distill").join(file), place.path("corpus").join(file)).unwrap();
    }
    place
}

#[test]
fn the_command_writes_a_drafter() {
    let place = workplace();
    let small = ["--steps", "3", "--layers", "1", "--head-vocabulary", "50", "--export-quantize", "8", "--json"];
    let output = place.run(&arguments(&small));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["step"], 3);
    let config: Value = serde_json::from_str(&fs::read_to_string(place.path("out/config.json")).unwrap()).unwrap();
    assert_eq!(config["kind"], "distilled");
    assert_eq!(config["model"]["num_hidden_layers"], 1);
    assert_eq!(config["head_vocabulary"], 50);
    assert_eq!(config["quantization"], json!({"bits": 8, "group_size": 64}));
    place.refused(&arguments(&small), 2, &["--out out: holds a finished model"]);
}

#[test]
fn what_cannot_be_trained_is_one_line() {
    let place = workplace();
    let steps = ["--steps", "4", "--layers", "1", "--head-vocabulary", "50"];
    for (more, parts) in [
        (&["--layers", "3"][..], &["--layers 3: give 1 to 2"][..]),
        (&["--init", "0,2"], &["--init 2: the target has layers 0 to 1"]),
        (&["--layers", "1", "--head-vocabulary", "257"], &["--head-vocabulary 257", "256 ids"]),
        (&["--layers", "1", "--batch", "0"], &["--batch 0: give at least 1"]),
        (&["--layers", "1", "--hard-weight", "1.5"], &["--hard-weight 1.5: give 0 to 1"]),
        (&["--layers", "1", "--dtype", "float16"], &["--dtype float16"]),
    ] {
        let given: Vec<&str> = ["distill", "tiny", "--corpus", "corpus", "--out", "out", "--steps", "4"].to_vec();
        place.refused(&[&given[..], more].concat(), 2, parts);
    }
    let few = arguments(&[&steps[..], &["--held-out", "100"]].concat());
    let few: Vec<&str> = few.into_iter().collect();
    let few = [&few[..8], &few[10..]].concat();
    place.refused(&few, 2, &["it has 12 sequences", "100 held out and a batch of 3 need at least 103"]);

    place.set("corpus/corpus.json", &[("target_sha256", json!("abc"))]);
    place.refused(&arguments(&steps), 2, &["target_sha256: the corpus was made by another target", "--force"]);
    place.set("corpus/corpus.json", &[("sequence_tokens", json!(40))]);
    place.refused(&arguments(&[&steps[..], &["--force"]].concat()), 1, &["shard-00000.safetensors", "'tokens'"]);
    place.set("corpus/corpus.json", &[("vocab_size", json!("many"))]);
    place.refused(&arguments(&steps), 2, &["corpus/corpus.json: vocab_size: "]);
    fs::remove_file(place.path("corpus/corpus.json")).unwrap();
    place.refused(&arguments(&steps), 2, &["corpus/corpus.json: cannot be read", "ridgepoint corpus"]);
}

#[test]
fn a_checkpoint_of_another_run_is_refused_by_the_field() {
    let place = workplace();
    train(&place.path("out"), |_| {}, 3, 0);
    let steps = ["--steps", "12", "--init", "1", "--head-vocabulary", "32"];
    place.refused(&arguments(&steps), 2, &["checkpoint.json: settings.", "is ", "this run has"]);
}
