//! Greedy speculation yields the tokens of plain greedy decoding, for every drafter and draft length, on the real model.
#![cfg(feature = "mlx")]

use mlx_rs::Dtype;
use ridgepoint::decode::sampling::Sampling;
use ridgepoint::decode::{Request, plain, prefill, speculative};
use ridgepoint::draft::{self, Drafter};
use ridgepoint::measure::runs::logit_margin;
use ridgepoint::model::language_model::LanguageModel;
use ridgepoint::model::transformer::Logits;
use ridgepoint::model::weights::LoadOptions;
use ridgepoint::roofline::{Draft, Trace, replay};
use ridgepoint::scenario::DraftSpec;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

const DRAFT_LENGTHS: [usize; 6] = [1, 2, 3, 5, 8, 16];
const MODEL: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

#[derive(Deserialize)]
struct Golden {
    chats: BTreeMap<String, GoldenChat>,
}

#[derive(Deserialize)]
struct GoldenChat {
    prompt_tokens: Vec<u32>,
    tokens: Vec<u32>,
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The model, loaded once. One test at a time has it: two would only share the cores.
fn model() -> MutexGuard<'static, LanguageModel> {
    static SHARED: LazyLock<Mutex<LanguageModel>> = LazyLock::new(|| {
        mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
        let options = LoadOptions { dtype: Some(Dtype::Float32), quantize: None };
        Mutex::new(LanguageModel::load(&root(MODEL), &options).expect("scripts/fetch-model fetches the model"))
    });
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn golden() -> Golden {
    let text = std::fs::read_to_string(root("tests/golden/models/smollm2/greedy.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn request(prompt: &[u32], max_tokens: usize) -> Request<'_> {
    Request { prompt, max_tokens, sampling: Sampling::GREEDY, seed: 0, end_ids: &[], read: None }
}

fn drafter(target: &LanguageModel, spec: &str) -> Box<dyn Drafter> {
    let file = Path::new("drafts/test.toml");
    let spec = DraftSpec::parse(file, spec).unwrap();
    draft::build(file, &spec, target, &|_| Ok(root(MODEL))).unwrap()
}

/// What is tried of one drafter: enough for several rounds, and no more than two cores do in a minute and a half.
struct Case {
    spec: &'static str,
    /// How many of the prompts.
    prompts: usize,
    /// Tokens of a prompt that are read; 0 for all.
    prompt_tokens: usize,
    max_tokens: usize,
}

/// Quantised products are slow on the CPU. The last drafter is the target itself, so every draft is accepted.
const CASES: [Case; 4] = [
    Case { spec: "kind = \"prompt-lookup\"\nmax_ngram = 3", prompts: 3, prompt_tokens: 0, max_tokens: 10 },
    Case { spec: "kind = \"layer-skip\"\nlayers = 26", prompts: 3, prompt_tokens: 24, max_tokens: 4 },
    Case { spec: "kind = \"quantized-self\"\nbits = 4", prompts: 2, prompt_tokens: 4, max_tokens: 2 },
    Case {
        spec: "kind = \"model\"\npath = \"target\"\ndtype = \"float32\"",
        prompts: 3,
        prompt_tokens: 24,
        max_tokens: 4,
    },
];
/// Tokens at the end of every prompt that are the chat template's.
const TEMPLATE_END: usize = 6;

/// A prompt of this many tokens, the user's last ones, and what plain decoding goes on with. For a whole prompt that is
/// known, and checked by [`greedy_tokens_equal_mlx_lms`].
fn prompt_and_text(target: &LanguageModel, chat: GoldenChat, length: usize, tokens: usize) -> (Vec<u32>, Vec<u32>) {
    if length == 0 {
        return (chat.prompt_tokens, chat.tokens[..tokens].to_vec());
    }
    let end = chat.prompt_tokens.len() - TEMPLATE_END;
    let prompt = chat.prompt_tokens[end - length..end].to_vec();
    let text = plain::decode(&target.transformer, &request(&prompt, tokens), &mut |_| ()).unwrap().tokens;
    (prompt, text)
}

#[test]
fn greedy_tokens_equal_mlx_lms() {
    let target = model();
    for (name, prompt) in golden().chats {
        let wanted = &prompt.tokens;
        let run =
            plain::decode(&target.transformer, &request(&prompt.prompt_tokens, wanted.len()), &mut |_| ()).unwrap();
        assert_eq!(&run.tokens, wanted, "{name}");
    }
}

#[test]
fn speculation_changes_no_token_and_replays_exactly() {
    let target = model();
    let mut texts = BTreeMap::new();
    for Case { spec, prompts, prompt_tokens, max_tokens } in CASES {
        let mut drafter = drafter(&target, spec);
        let name = spec.lines().next().unwrap();
        for (chat, golden) in golden().chats.into_iter().take(prompts) {
            let longest = *DRAFT_LENGTHS.last().unwrap();
            let text = || prompt_and_text(&target, golden, prompt_tokens, max_tokens + longest);
            let (tokens, text) = texts.entry((chat.clone(), prompt_tokens, max_tokens)).or_insert_with(text);
            let whole = [&tokens[..], text].concat();
            let matches = drafter.matches(&whole, tokens.len(), max_tokens, longest).unwrap();
            let drafts = matches.iter().map(|found| Draft { drafted: found.proposed, matched: found.matched });
            let trace = Trace::new(drafts.collect(), longest).unwrap();
            for draft_length in DRAFT_LENGTHS {
                let run = speculative::decode(
                    &target.transformer,
                    drafter.as_mut(),
                    draft_length,
                    &request(tokens, max_tokens),
                    &mut |_| (),
                )
                .unwrap();
                let case = format!("{name}, γ={draft_length}, {chat}");
                if let Some(at) = run.tokens.iter().zip(&*text).position(|(a, b)| a != b) {
                    let margin = logit_margin(&target.transformer, &whole[..tokens.len() + at]).unwrap();
                    panic!("{case}: parts from plain decoding at token {at}, where the margin is {margin}");
                }
                assert_eq!(run.tokens.len(), max_tokens, "{case}");
                let replayed = replay(&trace, draft_length).unwrap();
                let counts = (replayed.rounds, replayed.drafted, replayed.accepted);
                assert_eq!((run.rounds as f64, run.drafted as f64, run.accepted as f64), counts, "{case}: replay");
            }
        }
    }
}

#[test]
fn a_rolled_back_cache_equals_one_that_never_drafted() {
    let target = model();
    let chats = golden().chats;
    let prompt = &chats["code"];
    let (text, rest) = prompt.tokens.split_at(9);
    let read = [&prompt.prompt_tokens[..], text].concat();
    let logits = |wrong: usize| {
        let mut cache = target.transformer.new_cache();
        prefill(&target.transformer, &mut cache, &read).unwrap();
        if wrong > 0 {
            let held = cache.len();
            let noise: Vec<u32> = (0..wrong as u32).map(|i| 7 + 31 * i).collect();
            let input = mlx_rs::Array::from_slice(&noise, &[1, wrong as i32]);
            target.transformer.forward(&input, &mut cache, Logits::All).unwrap().eval().unwrap();
            cache.truncate(held);
        }
        let input = [&read[read.len() - 1..], &rest[..3]].concat();
        let input = mlx_rs::Array::from_slice(&input, &[1, 4]);
        let logits = target.transformer.forward(&input, &mut cache, Logits::All).unwrap();
        logits.eval().unwrap();
        logits.as_slice::<f32>().to_vec()
    };
    let clean = logits(0);
    for wrong in [1, 4, 17] {
        assert!(clean == logits(wrong), "after {wrong} rejected tokens");
    }
}
