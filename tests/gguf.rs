//! GGUF files against what the Python package `gguf` and mlx-lm make of them (scripts/oracle/gguf_files.py).
#![cfg(feature = "mlx")]

use mlx_rs::{Array, Dtype};
use ridgepoint::model;
use ridgepoint::model::transformer::Logits;
use ridgepoint::model::weights::Tensors as _;
use ridgepoint::model::weights::{self, LoadOptions, Matrix};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

const FILES: [&str; 5] = ["llama", "llama-bias", "llama-rope-factors", "qwen2", "qwen3"];
const FLOAT32: LoadOptions = LoadOptions { dtype: Some(Dtype::Float32), quantize: None };

fn path(file: &str) -> PathBuf {
    mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf").join(file)
}

fn golden(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path(&format!("{name}.json"))).unwrap()).unwrap()
}

fn shape(value: &Value) -> Vec<i32> {
    value.as_array().unwrap().iter().map(|size| size.as_i64().unwrap() as i32).collect()
}

fn check_values(name: &str, array: &Array, expected: &Value) {
    let values = array.as_slice::<f32>();
    let columns = *array.shape().last().unwrap() as usize;
    let last_row: Vec<f32> =
        expected["last_row"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    assert_eq!(values[values.len() - columns..][..4], last_row, "{name}");
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, expected["sha256"].as_str().unwrap(), "{name}");
}

#[test]
fn every_value_is_that_of_the_reference_reader() {
    for name in FILES {
        let golden = golden(name);
        let (_, mut weights) = weights::load(&path(&format!("{name}.gguf")), &FLOAT32).unwrap();
        for (tensor, expected) in golden["tensors"].as_object().unwrap() {
            let array = weights.take(tensor, &shape(&expected["shape"])).unwrap();
            check_values(tensor, &array, expected);
        }
        weights.finish().unwrap();
    }
}

#[test]
fn quantised_matrices_stay_so_and_mean_the_same() {
    for name in FILES {
        let golden = golden(name);
        let (_, mut weights) = weights::load(&path(&format!("{name}.gguf")), &LoadOptions::default()).unwrap();
        for (tensor, expected) in golden["tensors"].as_object().unwrap() {
            let shape = shape(&expected["shape"]);
            let [rows, columns] = shape[..] else { continue };
            let matrix = weights.take_matrix(tensor.strip_suffix(".weight").unwrap(), rows, columns).unwrap();
            let found = match &matrix {
                Matrix::Dense(array) => (array.dtype(), 0),
                Matrix::Quantized { scales, bits, group_size: 32, .. } => (scales.dtype(), *bits),
                other => panic!("{other:?}"),
            };
            let wanted = match expected["type"].as_str().unwrap() {
                "Q4_0" | "Q4_1" => (Dtype::Float16, 4),
                "Q8_0" => (Dtype::Float16, 8),
                "F16" => (Dtype::Float16, 0),
                "BF16" => (Dtype::Bfloat16, 0),
                _ => (Dtype::Float32, 0),
            };
            assert_eq!(found, wanted, "{tensor}");
            check_values(tensor, &matrix.dense(Dtype::Float32).unwrap(), expected);
        }
    }
}

#[test]
fn the_configuration_is_the_hubs() {
    for name in FILES {
        let (checkpoint, _) = weights::load(&path(&format!("{name}.gguf")), &LoadOptions::default()).unwrap();
        for (key, expected) in golden(name)["config"].as_object().unwrap() {
            let found = &checkpoint.config[key];
            if key == "rope_scaling" && !expected.is_null() {
                for (key, expected) in expected.as_object().unwrap() {
                    let same = found[key] == *expected || found[key].as_f64() == expected.as_f64();
                    assert!(same && !found[key].is_null(), "{name}: rope_scaling.{key} = {}", found[key]);
                }
            } else {
                assert_eq!(found, expected, "{name}: {key}");
            }
        }
    }
}

#[test]
fn logits_are_those_of_mlx_lm() {
    for name in FILES {
        let golden = golden(name);
        let tokens: Vec<u32> =
            golden["tokens"].as_array().unwrap().iter().map(|token| token.as_u64().unwrap() as u32).collect();
        let (_, model) = model::load(&path(&format!("{name}.gguf")), &FLOAT32).unwrap();
        let input = Array::from_slice(&tokens, &[1, tokens.len() as i32]);
        let logits = model.forward(&input, &mut model.new_cache(), Logits::All).unwrap();
        let expected = golden["logits"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
        let difference = logits
            .as_slice::<f32>()
            .iter()
            .zip(expected)
            .map(|(found, expected)| (f64::from(*found) - expected.as_f64().unwrap()).abs())
            .fold(0.0, f64::max);
        assert!(difference < 1e-4, "{name}: logits differ by {difference}");
    }
}
