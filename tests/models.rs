//! Every family's logits against mlx-lm's and transformers', on tiny random checkpoints that `scripts/oracle/` made.
#![cfg(feature = "mlx")]

use mlx_rs::{Array, Dtype};
use ridgepoint::model::transformer::{Logits, Transformer};
use ridgepoint::model::weights::LoadOptions;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Golden {
    tokens: Vec<u32>,
    prompt_length: usize,
    /// One row a token, all read in one forward.
    prefill: Vec<Vec<f32>>,
    /// One row a token from the prompt's end on, read one by one behind the cache.
    #[serde(default)]
    decode: Vec<Vec<f32>>,
}

fn checkpoints() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models");
    let mut found: Vec<_> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("config.json").exists())
        .collect();
    found.sort();
    assert!(found.len() >= 12, "checkpoints are missing: {found:?}");
    found
}

fn golden(path: &Path) -> Golden {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn load(path: &Path) -> Transformer {
    mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
    // The oracles compute in float32, whatever the file stores.
    let options = LoadOptions { dtype: Some(Dtype::Float32), quantize: None };
    ridgepoint::model::load(path, &options).unwrap().1
}

fn forward(model: &Transformer, cache: &mut ridgepoint::model::cache::KvCache, tokens: &[u32]) -> Vec<f32> {
    let input = Array::from_slice(tokens, &[1, tokens.len() as i32]);
    let logits = model.forward(&input, cache, Logits::All).unwrap().as_dtype(Dtype::Float32).unwrap();
    logits.eval().unwrap();
    logits.as_slice::<f32>().to_vec()
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "{what}: off by {worst}");
}

fn check(path: &Path, golden: &Golden, tolerance: f32) {
    let name = path.file_name().unwrap().to_string_lossy();
    let model = load(path);
    let prefill = forward(&model, &mut model.new_cache(), &golden.tokens);
    assert_close(&prefill, &golden.prefill.concat(), tolerance, &format!("{name}, prefill"));
    if golden.decode.is_empty() {
        return;
    }
    let mut cache = model.new_cache();
    let (prompt, rest) = golden.tokens.split_at(golden.prompt_length);
    let mut rows =
        vec![forward(&model, &mut cache, prompt).split_off(prefill.len() / golden.tokens.len() * (prompt.len() - 1))];
    rows.extend(rest.iter().map(|token| forward(&model, &mut cache, &[*token])));
    rows.truncate(golden.decode.len());
    assert_close(&rows.concat(), &golden.decode.concat(), tolerance, &format!("{name}, decode"));
}

#[test]
fn logits_equal_mlx_lms() {
    for path in checkpoints() {
        // bfloat16 weights were widened to float32 on both sides, so the tolerance is the same.
        check(&path, &golden(&path.join("logits.json")), 1e-4);
    }
}

#[test]
fn logits_equal_transformers() {
    let mut compared = 0;
    for path in checkpoints() {
        let expected = path.join("transformers.json");
        if expected.exists() {
            check(&path, &golden(&expected), 1e-4);
            compared += 1;
        }
    }
    assert!(compared >= 6, "only {compared} checkpoints have transformers' logits");
}
