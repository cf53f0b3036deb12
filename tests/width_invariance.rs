//! The logits of a verification are those of decoding token by token, bit for bit, on the real model and real text:
//! what makes greedy speculation lossless in float32 on the CPU without luck.
#![cfg(all(feature = "mlx", target_os = "linux"))]

use mlx_rs::{Array, Dtype};
use ridgepoint::decode::prefill;
use ridgepoint::model::cache::KvCache;
use ridgepoint::model::language_model::LanguageModel;
use ridgepoint::model::transformer::{Logits, Transformer};
use ridgepoint::model::weights::LoadOptions;
use serde_json::Value;
use std::path::Path;

/// Widths that are compared with single tokens: all that a round uses, and some beyond.
fn widths() -> impl Iterator<Item = usize> {
    (1..=32).chain([48, 64, 100])
}

fn bits(model: &Transformer, cache: &mut KvCache, tokens: &[u32]) -> Vec<Vec<u32>> {
    let input = Array::from_slice(tokens, &[1, tokens.len() as i32]);
    let logits = model.forward(&input, cache, Logits::All).unwrap();
    logits.eval().unwrap();
    let all: Vec<u32> = logits.as_slice::<f32>().iter().map(|logit| logit.to_bits()).collect();
    all.chunks(all.len() / tokens.len()).map(<[u32]>::to_vec).collect()
}

#[test]
fn logits_do_not_depend_on_the_width() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
    let options = LoadOptions { dtype: Some(Dtype::Float32), quantize: None };
    let path = root.join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let model = LanguageModel::load(&path, &options).expect("scripts/fetch-model fetches the model").transformer;
    let golden = std::fs::read(root.join("tests/golden/models/smollm2/greedy.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let ids = |list: &Value| list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect::<Vec<_>>();
    for (name, chat) in golden["chats"].as_object().unwrap() {
        let (prompt, text) = (ids(&chat["prompt_tokens"]), ids(&chat["tokens"]));
        let (last, text) = (&prompt[prompt.len() - 1..], &text[..text.len().min(99)]);
        let read = [last, text].concat();
        let mut cache = model.new_cache();
        prefill(&model, &mut cache, &prompt).unwrap();
        let held = cache.len();
        let one_by_one: Vec<_> = read.iter().flat_map(|token| bits(&model, &mut cache, &[*token])).collect();
        for width in widths().filter(|width| *width <= read.len()) {
            cache.truncate(held);
            let wide = bits(&model, &mut cache, &read[..width]);
            for (position, (wide, single)) in wide.iter().zip(&one_by_one).enumerate() {
                let differ = wide.iter().zip(single).filter(|(a, b)| a != b).count();
                assert_eq!(differ, 0, "{name}: logits of position {position} at width {width} that differ");
            }
        }
    }
}
