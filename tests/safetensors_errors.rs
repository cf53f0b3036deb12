//! What is wrong with a directory of safetensors is said by name. The directories are built here.
#![cfg(feature = "mlx")]

use mlx_rs::Dtype;
use ridgepoint::model::weights::Tensors as _;
use ridgepoint::model::weights::{self, LoadOptions, Matrix};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const MODEL: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A safetensors file with this header text (or JSON) and so many bytes of data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn write(directory: &Path, name: &str, header: &Value, data_bytes: usize) {
    fs::write(directory.join(name), file(&header.to_string(), &vec![0; data_bytes])).unwrap();
}

/// A directory with an empty configuration and the tensor `a` of two float32 values.
fn valid(directory: &Path) {
    fs::write(directory.join("config.json"), "{}").unwrap();
    write(directory, MODEL, &json!({ "a": { "dtype": "F32", "shape": [2], "data_offsets": [0, 8] } }), 8);
}

/// The message after `change` to a valid directory, without the directory's name.
fn error(change: impl FnOnce(&Path)) -> String {
    let directory = tempfile::tempdir().unwrap();
    valid(directory.path());
    change(directory.path());
    let take = || {
        let (_, mut weights) = weights::load(directory.path(), &LoadOptions::default())?;
        weights.take("a", &[2])?;
        weights.finish()
    };
    let message = format!("{:#}", take().unwrap_err());
    let prefix = directory.path().display().to_string();
    message.strip_prefix(&prefix).expect("the directory is named").trim_start_matches('/').to_owned()
}

/// The message on a file whose header is `text`.
fn header_error(text: &str, data_bytes: usize) -> String {
    let message = error(|directory| fs::write(directory.join(MODEL), file(text, &vec![0; data_bytes])).unwrap());
    message.strip_prefix("model.safetensors: ").expect("the file is named").to_owned()
}

fn entry(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
}

#[test]
fn headers() {
    let cut = error(|directory| fs::write(directory.join(MODEL), [1, 2, 3]).unwrap());
    assert_eq!(cut, "model.safetensors: only 3 bytes long, too short for a safetensors file");
    let huge = error(|directory| fs::write(directory.join(MODEL), [0xff; 64]).unwrap());
    assert!(
        huge.starts_with("model.safetensors: the header claims 18446744073709551615 bytes of a file of 64"),
        "{huge}"
    );
    assert!(header_error("{]", 0).starts_with("the header is not as safetensors have it"));
    let cases = [
        (entry("F32", "[2]", "[0,4]"), "tensor 'a': its offsets 0 to 4 do not hold the 8 bytes of F32 [2]"),
        (entry("F32", "[2]", "[8,0]"), "tensor 'a': its offsets 8 to 0 do not hold the 8 bytes of F32 [2]"),
        (entry("F32", "[3]", "[0,12]"), "tensor 'a': it reaches beyond the end of the file"),
        (entry("F32", "[1]", "[0,4]"), "4 bytes follow the last tensor, which the header does not account for"),
        (entry("F16", "[2]", "[4,8]"), "tensor 'a' leaves a gap before it in the file"),
        (entry("F32", "[2,0]", "[0,0]"), "tensor 'a': a dimension is not from 1 to 2147483647"),
        (
            entry("F32", "[4294967296,4294967296]", "[0,8]"),
            "tensor 'a': its shape [4294967296, 4294967296] is impossible",
        ),
        (
            entry("F8_E4M3", "[8]", "[0,8]"),
            "tensor 'a': type 'F8_E4M3' is not supported (F32, F16, BF16 and MLX's U32 are)",
        ),
        (entry("I64", "[1]", "[0,8]"), "tensor 'a' has shape [1]; the configuration calls for [2]"),
    ];
    for (header, expected) in cases {
        let found = header_error(&header, 8);
        assert!(found.starts_with(expected), "{found}");
    }
    let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    assert!(header_error(twice, 8).contains("'a' occurs twice"));
    let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    assert_eq!(header_error(overlap, 8), "tensor 'b' overlaps another in the file");
    let metadata = r#"{"__metadata__":{"format":5},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    assert!(header_error(metadata, 8).starts_with("the header is not as safetensors have it"));
}

#[test]
fn what_the_model_does_not_call_for() {
    let integers = r#"{"a":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}"#;
    assert_eq!(header_error(integers, 8), "tensor 'a': its type is I32; only F32, F16 and BF16 are supported");
    let more = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;
    let expected = "tensor 'b' belongs to no part of the model that the configuration describes (1 such tensors)";
    assert_eq!(header_error(more, 12), expected);
    let missing = r#"{"c":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    assert_eq!(error(|path| fs::write(path.join(MODEL), file(missing, &[0; 8])).unwrap()), ": tensor 'a' is missing");
}

#[test]
fn directories() {
    let no_config = error(|path| fs::remove_file(path.join("config.json")).unwrap());
    assert!(no_config.ends_with("fetch one with: ridgepoint fetch hf://ORGANISATION/NAME"), "{no_config}");
    let gguf = error(|path| fs::rename(path.join("config.json"), path.join("x.gguf")).unwrap());
    assert!(gguf.starts_with(": has no config.json; to use the GGUF file in it, name it: "), "{gguf}");
    let no_weights = error(|path| fs::remove_file(path.join(MODEL)).unwrap());
    assert!(no_weights.starts_with(": has no .safetensors file"), "{no_weights}");
    let config = error(|path| fs::write(path.join("config.json"), "{").unwrap());
    assert!(config.starts_with("config.json: not valid JSON: EOF"), "{config}");
    assert_eq!(error(|path| fs::write(path.join("config.json"), "[]").unwrap()), "config.json: not a JSON object");
    let gptq = error(|path| {
        fs::write(path.join("config.json"), r#"{"quantization_config":{"quant_method":"gptq"}}"#).unwrap()
    });
    assert!(gptq.starts_with(r#"config.json: 'quantization_config.quant_method' = "gptq" is not supported"#), "{gptq}");
    let nowhere = format!("{:#}", weights::load(Path::new("/nowhere/model"), &LoadOptions::default()).unwrap_err());
    assert_eq!(
        nowhere,
        "/nowhere/model: no such file or directory; fetch a model with: ridgepoint fetch hf://ORGANISATION/NAME"
    );
}

#[test]
fn shard_indices() {
    let with_index = |index: &str| error(|path| fs::write(path.join(INDEX), index).unwrap());
    assert!(with_index("{}").starts_with("model.safetensors.index.json: 'weight_map' is wrong"));
    let outside = with_index(r#"{"weight_map":{"a":"../model.safetensors"}}"#);
    assert!(outside.contains("names the file \"../model.safetensors\", which is not in this directory"), "{outside}");
    let absent = with_index(r#"{"weight_map":{"a":"other.safetensors"}}"#);
    assert!(absent.starts_with("other.safetensors: cannot be opened"), "{absent}");
    let missing = with_index(r#"{"weight_map":{"a":"model.safetensors","b":"model.safetensors"}}"#);
    let expected = r#"tensor "b" is not in "model.safetensors", where 'weight_map' has it"#;
    assert_eq!(missing, format!("{INDEX}: {expected}"));
    let unlisted = error(|path| {
        let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;
        fs::write(path.join(MODEL), file(header, &[0; 12])).unwrap();
        fs::write(path.join(INDEX), r#"{"weight_map":{"a":"model.safetensors"}}"#).unwrap();
    });
    assert_eq!(unlisted, "model.safetensors: tensor 'b': not in the 'weight_map' of model.safetensors.index.json");
    let twice = error(|path| fs::copy(path.join(MODEL), path.join("copy.safetensors")).map(drop).unwrap());
    assert!(twice.starts_with("copy.safetensors: tensor 'a' is also in model.safetensors"), "{twice}");
}

/// A directory with one matrix of 2 rows and 64 columns in 4 bits, groups of 32.
fn quantised(directory: &Path, quantization: &Value) {
    let config = json!({ "quantization": quantization, "quantization_config": quantization });
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let header = json!({
        "m.weight": { "dtype": "U32", "shape": [2, 8], "data_offsets": [0, 64] },
        "m.scales": { "dtype": "F16", "shape": [2, 2], "data_offsets": [64, 72] },
        "m.biases": { "dtype": "F16", "shape": [2, 2], "data_offsets": [72, 80] },
    });
    write(directory, MODEL, &header, 80);
}

#[test]
fn quantisation_settings() {
    let take = |quantization: Value, columns| {
        let directory = tempfile::tempdir().unwrap();
        quantised(directory.path(), &quantization);
        let (_, mut weights) = weights::load(directory.path(), &LoadOptions::default()).unwrap();
        let matrix = weights.take_matrix("m", 2, columns);
        matrix.map_err(|error| format!("{error:#}").replace(&*directory.path().to_string_lossy(), "DIR"))
    };
    let matrix = take(json!({ "bits": 8, "group_size": 64, "m": { "bits": 4, "group_size": 32 } }), 64).unwrap();
    assert!(matches!(matrix, Matrix::Quantized { bits: 4, group_size: 32, .. }));
    assert_eq!(matrix.dense(Dtype::Float32).unwrap().shape(), [2, 64]);
    let cases = [
        (
            json!({ "bits": 4, "group_size": 32, "mode": "mxfp4" }),
            64,
            "DIR/config.json: 'quantization.mode' = \"mxfp4\" (for 'm') is not supported; only \"affine\" is",
        ),
        (json!({ "bits": 4 }), 64, "DIR/config.json: 'quantization.group_size' = null (for 'm') is not supported"),
        (
            json!({ "bits": 7, "group_size": 32 }),
            64,
            "DIR/config.json: 'quantization' of 'm': 7 bits a weight are not supported; choose 2, 3, 4, 5, 6 or 8",
        ),
        (
            json!({ "bits": 8, "group_size": 32 }),
            64,
            "DIR/model.safetensors: tensor 'm.weight' has shape [2, 8]; the configuration calls for [2, 16]",
        ),
        (
            json!({ "bits": 4, "group_size": 64 }),
            64,
            "DIR/model.safetensors: tensor 'm.scales' has shape [2, 2]; the configuration calls for [2, 1]",
        ),
        (json!({ "bits": 4, "group_size": 32 }), 48, "DIR/config.json: 'm' has rows of 48, not whole groups of 32"),
    ];
    for (quantization, columns, expected) in cases {
        assert_eq!(take(quantization, columns).unwrap_err(), expected);
    }
}
