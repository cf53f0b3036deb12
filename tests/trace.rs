//! A model drafter's trace from a few wide forwards is what the drafter proposes when it is asked position by position.
#![cfg(feature = "mlx")]

use std::path::Path;

use mlx_rs::ops::softmax_axis;
use mlx_rs::{Array, Dtype};
use ridgepoint::decode::keys::KeyStream;
use ridgepoint::decode::sampling::Sampling;
use ridgepoint::decode::{Request, plain};
use ridgepoint::draft::Drafter;
use ridgepoint::draft::model::ModelDrafter;
use ridgepoint::measure::model_trace::{drafts, matches};
use ridgepoint::measure::trace::Match;
use ridgepoint::model::transformer::{Logits, Transformer};
use ridgepoint::model::weights::LoadOptions;

const FIRST: usize = 9;
/// More than one wide forward reads.
const POSITIONS: usize = 70;
const DRAFT_LENGTH: usize = 4;

fn load(name: &str) -> Transformer {
    mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(name);
    ridgepoint::model::load(&path, &LoadOptions { dtype: Some(Dtype::Float32), quantize: None }).unwrap().1
}

/// What the drafter itself goes on with, disturbed here and there: matches of every length.
fn text(model: &Transformer) -> Vec<u32> {
    let mut text = vec![5, 17, 3, 40, 41, 8, 2, 60, 11];
    let mut state = 1u32;
    while text.len() < FIRST + POSITIONS + DRAFT_LENGTH {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        let max_tokens = (state >> 24) as usize % 8;
        let request =
            Request { prompt: &text, max_tokens, sampling: Sampling::GREEDY, seed: 0, end_ids: &[], read: None };
        text.extend(plain::decode(model, &request, &mut |_| ()).unwrap().tokens);
        text.push((state >> 8) % 90);
    }
    text
}

fn one_by_one(model: &Transformer, text: &[u32]) -> Vec<Vec<u32>> {
    let (mut drafter, mut keys) = (ModelDrafter::new(model.clone()), KeyStream::new(0));
    drafter.begin(&text[..FIRST], text.len() as i32 + DRAFT_LENGTH as i32).unwrap();
    let positions = FIRST..FIRST + POSITIONS;
    let propose = |position: usize| {
        let proposal = drafter.propose(&text[..position], DRAFT_LENGTH, &Sampling::GREEDY, &mut keys).unwrap().unwrap();
        let tokens = proposal.tokens.to_vec_exact().unwrap();
        drafter.settle(&text[..=position]).unwrap();
        tokens
    };
    positions.map(propose).collect()
}

/// The model's probability of each of `drafts` after `text`, and the entropy of the distribution that it is of, from one
/// forward without a cache.
fn probabilities(model: &Transformer, text: &[u32], drafts: &[u32]) -> Vec<(f32, f32)> {
    let tokens = [text, drafts].concat();
    let input = Array::from_slice(&tokens, &[1, tokens.len() as i32]);
    let logits = model.forward(&input, &mut model.new_cache(), Logits::All).unwrap();
    let rows = softmax_axis(logits.squeeze_axes(&[0]).unwrap(), -1, true).unwrap();
    let (width, rows) = (rows.dim(1) as usize, rows.to_vec_exact::<f32>().unwrap());
    let row = |j: usize| &rows[(text.len() + j - 1) * width..][..width];
    let entropy = |row: &[f32]| row.iter().map(|p| -p * p.ln()).sum::<f32>();
    drafts.iter().enumerate().map(|(j, &draft)| (row(j)[draft as usize], entropy(row(j)))).collect()
}

#[test]
fn wide_forwards_give_the_drafts_of_narrow_ones() {
    for name in ["llama-rope-scaled", "mistral", "qwen3"] {
        let model = load(name);
        let text = text(&model);
        let wide = drafts(&model, &text, FIRST, POSITIONS, DRAFT_LENGTH).unwrap();
        let match_lengths = matches(&model, &text, FIRST, POSITIONS, DRAFT_LENGTH).unwrap();
        let narrow = one_by_one(&model, &text);
        assert_eq!((wide.len(), match_lengths.len()), (POSITIONS, POSITIONS));
        for (index, narrow) in narrow.iter().enumerate() {
            assert_eq!(&wide[index].tokens, narrow, "{name}, position {index}");
            let matched = narrow.iter().zip(&text[FIRST + index..]).take_while(|(draft, token)| draft == token).count();
            assert_eq!(match_lengths[index], Match { proposed: DRAFT_LENGTH, matched }, "{name}, position {index}");
        }
        for index in [0, POSITIONS - 1] {
            let expected = probabilities(&model, &text[..FIRST + index], &wide[index].tokens);
            for (place, (confidence, entropy)) in expected.into_iter().enumerate() {
                let found = (wide[index].confidences[place], wide[index].entropies[place]);
                assert!((found.0 - confidence).abs() < 1e-5, "{name}, position {index}: {found:?}, {confidence}");
                assert!((found.1 - entropy).abs() < 1e-4, "{name}, position {index}: {found:?}, {entropy}");
            }
        }
        let lengths: Vec<usize> = match_lengths.iter().map(|one| one.matched).collect();
        assert!(
            (0..=DRAFT_LENGTH).all(|length| lengths.contains(&length)),
            "{name}: the text tests little: {lengths:?}"
        );
    }
}

#[test]
fn a_text_that_ends_too_early_is_refused() {
    let model = load("llama");
    assert!(matches(&model, &[1; 20], 5, 10, 6).is_err());
    assert!(drafts(&model, &[1; 20], 0, 5, 6).is_err());
}
