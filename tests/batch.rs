//! A forward of several sequences gives each the logits that it has alone.
#![cfg(feature = "mlx")]

use mlx_rs::{Array, Dtype};
use ridgepoint::decode::prefill;
use ridgepoint::model::cache::KvCache;
use ridgepoint::model::transformer::{Logits, Transformer};
use ridgepoint::model::weights::LoadOptions;
use std::path::Path;

/// Of the smallest of the models.
const VOCAB: u32 = 96;

fn model(name: &str, dtype: Option<Dtype>) -> Transformer {
    mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(name);
    ridgepoint::model::load(&path, &LoadOptions { dtype, quantize: None }).unwrap().1
}

fn tokens(sequence: u32, count: u32) -> Vec<u32> {
    (0..count).map(|place| (7 + 31 * sequence + 13 * place * (sequence + 1)) % VOCAB).collect()
}

/// Logits of `width` tokens of each sequence, one after the other.
fn logits(model: &Transformer, cache: &mut KvCache, rows: &[Vec<u32>]) -> Vec<f32> {
    let input = Array::from_slice(&rows.concat(), &[rows.len() as i32, rows[0].len() as i32]);
    let logits = model.forward(&input, cache, Logits::All).unwrap().as_dtype(Dtype::Float32).unwrap();
    logits.eval().unwrap();
    logits.as_slice::<f32>().to_vec()
}

fn check(name: &str, dtype: Option<Dtype>, tolerance: f32) {
    let model = model(name, dtype);
    for (context, width) in [(0, 1), (0, 5), (9, 1), (40, 7), (40, 33)] {
        // Different texts in the cache and in the forward: a mixed-up sequence would show.
        let mut texts: Vec<Vec<u32>> = (0..3).map(|sequence| tokens(sequence, context + width)).collect();
        let news: Vec<Vec<u32>> = texts.iter_mut().map(|text| text.split_off(context as usize)).collect();
        let mut cache = model.new_cache();
        if context > 0 {
            let input = Array::from_slice(&texts.concat(), &[3, context as i32]);
            model.prefill(&input, None, &mut cache).unwrap();
        }
        let batch = logits(&model, &mut cache, &news);
        assert_eq!(cache.len(), (context + width) as i32);
        let each = batch.len() / 3;
        for (sequence, found) in batch.chunks(each).enumerate() {
            let mut cache = model.new_cache();
            prefill(&model, &mut cache, &[&texts[sequence][..], &news[sequence][..1]].concat()).unwrap();
            let alone = logits(&model, &mut cache, &news[sequence..=sequence]);
            let worst = found.iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(
                worst <= tolerance,
                "{name}, context {context}, width {width}, sequence {sequence}: off by {worst}"
            );
        }
    }
}

/// Our own products do not depend on how many rows they have, so not a bit changes; others round differently.
fn float32_tolerance() -> f32 {
    if cfg!(target_os = "linux") { 0.0 } else { 1e-4 }
}

#[test]
fn sequences_of_a_batch_do_not_meet() {
    for name in ["llama", "qwen2", "qwen3"] {
        check(name, Some(Dtype::Float32), float32_tolerance());
    }
}

/// Attention out of MLX's own operations, and quantised products.
#[test]
fn nor_where_nothing_is_fused() {
    check("llama-bfloat16", None, 0.1);
    check("llama-quantized-8bit", None, 0.05);
}

#[test]
fn a_cache_repeated_for_a_batch_gives_each_sequence_what_it_has_alone() {
    let model = model("llama", Some(Dtype::Float32));
    // In all no more rows than our products take on (128).
    let text = tokens(0, 41);
    let (read, new) = text.split_at(31);
    let cache_of = |prompt: &[u32]| {
        let mut cache = model.new_cache();
        prefill(&model, &mut cache, prompt).unwrap();
        cache
    };
    let expected = logits(&model, &mut cache_of(&[read, &new[..1]].concat()), &[new.to_vec()]);
    // More was read than is wanted.
    let mut longer = cache_of(&text);
    let mut batch = longer.repeated(31, 4, 41).unwrap();
    assert_eq!((batch.len(), longer.len()), (31, 40));
    // What the one is given does not reach the other.
    logits(&model, &mut longer, &[new.to_vec()]);
    for found in logits(&model, &mut batch, &vec![new.to_vec(); 4]).chunks(expected.len()) {
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= float32_tolerance(), "off by {worst}");
    }
}
