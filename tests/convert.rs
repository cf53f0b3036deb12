//! `ridgepoint convert`: what it writes means what the source means, and a failure leaves nothing behind.
#![cfg(feature = "mlx")]

use assert_cmd::Command;
use mlx_rs::{Array, Dtype};
use ridgepoint::model;
use ridgepoint::model::transformer::Logits;
use ridgepoint::model::weights::{self, LoadOptions, Matrix};
use serde_json::Value;
use std::path::{Path, PathBuf};

const FILES: [&str; 5] = ["llama", "llama-bias", "llama-rope-factors", "qwen2", "qwen3"];

fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

/// Runs the command; gives its exit code, output and messages.
fn convert(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("ridgepoint").unwrap().arg("convert").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn converted(source: &Path, target: &Path, options: &[&str]) {
    let arguments = [&[source.to_str().unwrap(), target.to_str().unwrap()], options].concat();
    let (code, _, messages) = convert(&arguments);
    assert_eq!(code, 0, "{messages}");
}

fn logits(path: &Path, options: &LoadOptions, tokens: &[u32]) -> Vec<f32> {
    let (_, model) = model::load(path, options).unwrap();
    let input = Array::from_slice(tokens, &[1, tokens.len() as i32]);
    let logits = model.forward(&input, &mut model.new_cache(), Logits::All).unwrap();
    logits.as_dtype(Dtype::Float32).unwrap().as_slice::<f32>().to_vec()
}

/// A tensor: its name, its bits and group size if it is quantised, its values.
type Contents = (String, Option<(i32, i32)>, Vec<f32>);

/// All matrices and vectors by name.
fn contents(path: &Path) -> Vec<Contents> {
    let (_, mut weights) = weights::load(path, &LoadOptions::default()).unwrap();
    let mut all = Vec::new();
    while let Some((name, matrix)) = weights.take_next().unwrap() {
        let settings = match &matrix {
            Matrix::Dense(_) => None,
            Matrix::Quantized { bits, group_size, .. } => Some((*bits, *group_size)),
        };
        all.push((name, settings, matrix.dense(Dtype::Float32).unwrap().as_slice::<f32>().to_vec()));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn dense_directories_compute_what_mlx_lm_does() {
    let directory = tempfile::tempdir().unwrap();
    for name in FILES {
        let golden_text = std::fs::read_to_string(golden(&format!("gguf/{name}.json"))).unwrap();
        let golden_values: Value = serde_json::from_str(&golden_text).unwrap();
        let target = directory.path().join(name);
        converted(&golden(&format!("gguf/{name}.gguf")), &target, &["--dtype", "float32"]);
        let tokens: Vec<u32> = serde_json::from_value(golden_values["tokens"].clone()).unwrap();
        let expected: Vec<Vec<f32>> = serde_json::from_value(golden_values["logits"].clone()).unwrap();
        let found = logits(&target, &LoadOptions::default(), &tokens);
        let difference = found.iter().zip(expected.concat()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-4, "{name}: off by {difference}");
        let config: Value =
            serde_json::from_str(&std::fs::read_to_string(target.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["torch_dtype"], "float32");
        assert!(config.get("quantization").is_none());
        assert_eq!(config["model_type"], golden_values["config"]["model_type"]);
        for file in ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
            assert!(target.join(file).exists(), "{name}: {file}");
        }
    }
}

#[test]
fn quantised_matrices_are_carried_over_without_loss() {
    let directory = tempfile::tempdir().unwrap();
    for name in FILES {
        let source = golden(&format!("gguf/{name}.gguf"));
        let target = directory.path().join(name);
        converted(&source, &target, &[]);
        let (found, expected) = (contents(&target), contents(&source));
        assert!(expected.iter().filter(|(_, settings, _)| *settings == Some((8, 32))).count() >= 1);
        assert_eq!(found.len(), expected.len());
        for ((name, settings, values), (expected_name, expected_settings, expected_values)) in
            found.iter().zip(&expected)
        {
            assert_eq!((name, settings), (expected_name, expected_settings));
            if settings.is_some() {
                assert_eq!(values, expected_values, "{name}");
            }
        }
    }
}

#[test]
fn directories_are_converted_too() {
    let directory = tempfile::tempdir().unwrap();
    let (sharded, mixed) = (golden("models/llama-sharded"), golden("models/qwen3-quantized-mixed"));
    let tokens = [1, 5, 9, 2];
    for (source, name) in [(&sharded, "a"), (&mixed, "b")] {
        let target = directory.path().join(name);
        converted(source, &target, &[]);
        let options = LoadOptions::default();
        assert_eq!(logits(&target, &options, &tokens), logits(source, &options, &tokens));
    }
    let target = directory.path().join("c");
    converted(&sharded, &target, &["--quantize", "8:32"]);
    for (name, settings, _) in contents(&target) {
        // As mlx-lm does: norms stay, and so does a matrix whose rows of 80 are not whole groups.
        let stays = name.contains("norm") || name.contains("down_proj");
        assert_eq!(settings, if stays { None } else { Some((8, 32)) }, "{name}");
    }
    let config = std::fs::read_to_string(target.join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["quantization"], serde_json::json!({ "bits": 8, "group_size": 32, "mode": "affine" }));
}

#[test]
fn failures_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let entries = || std::fs::read_dir(&directory).unwrap().count();
    let source = golden("gguf/llama.gguf");

    std::fs::create_dir(path("there")).unwrap();
    let (code, _, message) = convert(&[source.to_str().unwrap(), &path("there")]);
    assert_eq!(
        (code, message),
        (2, format!("ridgepoint: {}: exists already; give a new name or remove it\n", path("there")))
    );

    // A scale of the last quantised tensor that is no number shows only when the tensor is read.
    let mut bytes = std::fs::read(&source).unwrap();
    let header = model::gguf::header::parse(&bytes[..], bytes.len() as u64).unwrap();
    let damaged = header.tensors.iter().rfind(|tensor| tensor.kind.name == "Q8_0").unwrap();
    bytes[damaged.offset as usize..][..2].copy_from_slice(&[0xff, 0x7f]);
    std::fs::write(path("damaged.gguf"), bytes).unwrap();
    let (code, _, message) = convert(&[&path("damaged.gguf"), &path("new")]);
    let expected = format!(
        "ridgepoint: {}: tensor '{}': a block's scale is not finite; the file is damaged\n",
        path("damaged.gguf"),
        damaged.name
    );
    assert_eq!((code, message), (1, expected));
    assert_eq!(entries(), 2, "something was left behind");

    let (code, _, message) = convert(&[source.to_str().unwrap(), &path("no/such/parent")]);
    assert_eq!(code, 1);
    assert!(message.contains("cannot be created"), "{message}");
    let (code, _, message) = convert(&[source.to_str().unwrap(), &path("new"), "--quantize", "7"]);
    assert_eq!(code, 2);
    assert!(message.contains("7 bits a weight are not supported"), "{message}");
}
