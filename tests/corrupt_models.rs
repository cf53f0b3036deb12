//! Damaged checkpoints: whatever is wrong with a file, the outcome is a model or one line that names the file.
#![cfg(feature = "mlx")]

use mlx_rs::Array;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ridgepoint::model;
use ridgepoint::model::transformer::Logits;
use ridgepoint::model::weights::LoadOptions;
use std::path::{Path, PathBuf};

fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

/// Loads `path` and, if that works, runs it. Gives the message if there is one, after looking at its form.
fn outcome(path: &Path) -> Option<String> {
    let run = || {
        let (_, model) = model::load(path, &LoadOptions::default())?;
        let logits = model.forward(&Array::from_slice(&[1u32, 2], &[1, 2]), &mut model.new_cache(), Logits::Last)?;
        Ok::<_, anyhow::Error>(logits.eval()?)
    };
    let message = format!("{:#}", run().err()?);
    assert!(!message.contains('\n'), "more than one line: {message}");
    assert!(message.contains(&*path.parent().unwrap().to_string_lossy()), "no file named: {message}");
    assert!(message.len() < 600, "too long: {message}");
    Some(message)
}

/// Where the tensors' data begin.
fn gguf_header_length(bytes: &[u8]) -> usize {
    let header = ridgepoint::model::gguf::header::parse(bytes, bytes.len() as u64).unwrap();
    header.tensors[0].offset as usize
}

fn safetensors_header_length(bytes: &[u8]) -> usize {
    8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

/// Each byte of the head changed at random, in a copy of the checkpoint. Gives how many of the copies were refused.
fn flip_every_byte(target: &Path, header_length: usize, load: &Path) -> usize {
    let original = std::fs::read(target).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let refused = (0..header_length).filter(|position| {
        let mut bytes = original.clone();
        bytes[*position] ^= rng.random_range(1..=255u8);
        std::fs::write(target, bytes).unwrap();
        outcome(load).is_some()
    });
    let refused = refused.count();
    std::fs::write(target, original).unwrap();
    refused
}

fn copy_of(checkpoint: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let source = golden(checkpoint);
    let copy = directory.path().join("model");
    if source.is_file() {
        let copy = copy.with_extension("gguf");
        std::fs::copy(source, &copy).unwrap();
        return (directory, copy);
    }
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    (directory, copy)
}

#[test]
fn every_byte_of_a_gguf_head() {
    let (_directory, path) = copy_of("gguf/llama-rope-factors.gguf");
    let length = gguf_header_length(&std::fs::read(&path).unwrap());
    let refused = flip_every_byte(&path, length, &path);
    // The rest changed a name or a value into another possible one.
    assert!(refused * 2 > length, "only {refused} of {length} were refused");
}

#[test]
fn every_byte_of_a_safetensors_head() {
    let (_directory, path) = copy_of("models/llama-quantized-4bit");
    let file = path.join("model.safetensors");
    let length = safetensors_header_length(&std::fs::read(&file).unwrap());
    let refused = flip_every_byte(&file, length, &path);
    assert!(refused * 20 > length * 19, "only {refused} of {length} were refused");
}

#[test]
fn files_cut_short_anywhere() {
    let (_directory, path) = copy_of("gguf/llama-rope-factors.gguf");
    let bytes = std::fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(61) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(outcome(&path).is_some(), "cut to {length} bytes, it loads");
    }
    let (_directory, path) = copy_of("models/llama-sharded");
    let file = path.join("model-00002-of-00003.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    for length in (0..bytes.len()).step_by(307) {
        std::fs::write(&file, &bytes[..length]).unwrap();
        let message = outcome(&path).expect("a cut file loads");
        assert!(message.contains("model-00002-of-00003.safetensors"), "{message}");
    }
}

#[test]
fn damaged_configurations() {
    let (_directory, path) = copy_of("models/qwen3-quantized-mixed");
    let file = path.join("config.json");
    let length = std::fs::metadata(&file).unwrap().len() as usize;
    let refused = flip_every_byte(&file, length, &path);
    assert!(refused * 4 > length, "only {refused} of {length} were refused");
}

/// Several kinds of damage at once, most of it in the head.
fn damage(bytes: &mut Vec<u8>, header_length: usize, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..=6) {
        let reach = if rng.random_bool(0.9) { header_length } else { bytes.len() };
        let position = rng.random_range(0..reach.min(bytes.len()).max(1));
        match rng.random_range(0..5) {
            0 => bytes.truncate(position.max(1)),
            1 => drop(bytes.drain(position..(position + rng.random_range(1..=16)).min(bytes.len()))),
            2 => bytes.splice(position..position, [rng.random(); 3]).for_each(drop),
            3 => {
                let extreme = [0, 1, u64::MAX, 1 << 63, 1 << 32, 1 << 31, rng.random()][rng.random_range(0..7)];
                bytes.iter_mut().skip(position).zip(extreme.to_le_bytes()).for_each(|(byte, new)| *byte = new);
            }
            _ => bytes.iter_mut().skip(position).take(1).for_each(|byte| *byte = rng.random()),
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
}

#[test]
fn random_damage() {
    let (_gguf_directory, gguf) = copy_of("gguf/qwen2.gguf");
    let (_directory, directory) = copy_of("models/qwen3-quantized-mixed");
    let file = directory.join("model.safetensors");
    let gguf_length = gguf_header_length(&std::fs::read(&gguf).unwrap());
    let length = safetensors_header_length(&std::fs::read(&file).unwrap());
    for (target, load, header_length) in [(&gguf, &gguf, gguf_length), (&file, &directory, length)] {
        let original = std::fs::read(target).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        for _ in 0..300 {
            let mut bytes = original.clone();
            damage(&mut bytes, header_length, &mut rng);
            std::fs::write(target, bytes).unwrap();
            outcome(load);
        }
    }
}
