//! At temperature > 0 the replay gives the rounds and acceptances of real runs on average: those of exactly the texts
//! that the runs commit, and those of texts that plain decoding commits.
#![cfg(feature = "mlx")]

use mlx_rs::Dtype;
use ridgepoint::decode::sampling::Sampling;
use ridgepoint::decode::{Request, Round, plain, speculative};
use ridgepoint::draft::Drafter;
use ridgepoint::draft::host::HostDrafter;
use ridgepoint::draft::lookup::PromptLookup;
use ridgepoint::draft::model::ModelDrafter;
use ridgepoint::measure::model_trace::probabilities;
use ridgepoint::measure::trace::TextChances;
use ridgepoint::model::transformer::Transformer;
use ridgepoint::model::weights::LoadOptions;
use ridgepoint::roofline::{Draft, Trace, replay};
use std::path::Path;

const PROMPT: [u32; 9] = [5, 17, 3, 40, 5, 17, 2, 5, 17];
const TOKENS: usize = 12;
const LONGEST: usize = 4;
const SEEDS: u64 = 400;
/// Standard errors that a right replay stays within; a wrong one must be off by three times as many.
const CLOSE: f64 = 4.0;

fn target() -> Transformer {
    mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/llama");
    ridgepoint::model::load(&path, &LoadOptions { dtype: Some(Dtype::Float32), quantize: None }).unwrap().1
}

/// Rounds, drafted, accepted.
type Counts = [f64; 3];

/// A text of a run, and what the run did in the rounds that began within the budget.
fn run(target: &Transformer, drafter: &mut dyn Drafter, length: usize, request: &Request) -> (Vec<u32>, Counts) {
    let (mut committed, mut counts) = (0, Counts::default());
    let mut observe = |round: Round| {
        if committed < TOKENS {
            let done = [1.0, round.drafted as f64, round.accepted as f64];
            counts.iter_mut().zip(done).for_each(|(count, done)| *count += done);
        }
        committed += round.tokens.len();
    };
    let tokens = speculative::decode(target, drafter, length, request, &mut observe).unwrap().tokens;
    (tokens, counts)
}

/// What the replay says of a text if the chance of acceptance is `chances`' of the target's and the drafter's.
fn replayed(
    target: &Transformer,
    drafter: &mut dyn Drafter,
    length: usize,
    request: &Request,
    text: &[u32],
    chances: fn(&TextChances, &[f32]) -> Vec<f32>,
) -> Counts {
    let (whole, first) = ([request.prompt, text].concat(), request.prompt.len());
    let p = probabilities(target, &whole, first, TOKENS + LONGEST, &request.sampling).unwrap();
    let q = drafter.text_chances(&whole, first, TOKENS, LONGEST, &request.sampling).unwrap();
    let drafts = q.iter().map(|draft| Draft { drafted: draft.proposed, matched: 0 }).collect();
    let chances = q.iter().enumerate().map(|(position, draft)| chances(draft, &p[position..]));
    let chances = chances.map(|chances| chances.into_iter().map(f64::from).collect()).collect();
    let found = replay(&Trace::sampled(drafts, LONGEST, chances).unwrap(), length).unwrap();
    [found.rounds, found.drafted, found.accepted]
}

/// The acceptance of a draft x drawn from q, in the place of that of a committed token.
fn of_a_draft(draft: &TextChances, target: &[f32]) -> Vec<f32> {
    target.iter().zip(&draft.probabilities).map(|(&p, &q)| if p >= q { 1.0 } else { p / q }).collect()
}

/// The mean in standard errors.
fn z(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    if mean == 0.0 { 0.0 } else { mean / (variance / n).sqrt() }
}

/// Standard errors between runs and replays of (their own texts, plain texts, their own texts by the wrong formula), for
/// each count, with the share of drafts accepted.
fn compare(drafter: &mut dyn Drafter, temperature: f32, length: usize) -> ([[f64; 3]; 3], f64) {
    let target = target();
    let sampling = Sampling::new(temperature, 1.0).unwrap();
    let mut differences: [[Vec<f64>; 3]; 3] = Default::default();
    let mut total = Counts::default();
    for seed in 0..SEEDS {
        let request =
            |seed| Request { prompt: &PROMPT, max_tokens: TOKENS + LONGEST, sampling, seed, end_ids: &[], read: None };
        let (text, counts) = run(&target, drafter, length, &request(seed));
        let plain = plain::decode(&target, &request(SEEDS + seed), &mut |_| ()).unwrap().tokens;
        let expected = [
            replayed(&target, drafter, length, &request(seed), &text, TextChances::acceptance),
            replayed(&target, drafter, length, &request(seed), &plain, TextChances::acceptance),
            replayed(&target, drafter, length, &request(seed), &text, of_a_draft),
        ];
        for (differences, expected) in differences.iter_mut().zip(expected) {
            (0..3).for_each(|count| differences[count].push(counts[count] - expected[count]));
        }
        (0..3).for_each(|count| total[count] += counts[count]);
    }
    (differences.map(|counts| counts.map(|values| z(&values))), total[2] / total[1])
}

#[test]
fn a_drafter_that_draws_is_replayed_as_it_runs() {
    let mut drafter = ModelDrafter::new(target().truncated(1));
    for length in [1, LONGEST] {
        let ([own, plain, wrong], acceptance) = compare(&mut drafter, 0.3, length);
        assert!((0.1..0.9).contains(&acceptance), "the test says little at an acceptance of {acceptance}");
        assert!(own.iter().chain(&plain).all(|z| z.abs() < CLOSE), "γ={length}: {own:?} {plain:?}");
        assert!(wrong[0].abs() > 3.0 * CLOSE && wrong[2].abs() > 3.0 * CLOSE, "γ={length}: {wrong:?}");
    }
}

#[test]
fn a_drafter_that_draws_nothing_is_replayed_as_it_runs() {
    let mut drafter = HostDrafter::new(Box::new(PromptLookup::new(2, 1).unwrap()));
    let ([own, plain, _], acceptance) = compare(&mut drafter, 0.1, LONGEST);
    assert!((0.05..0.95).contains(&acceptance), "the test says little at an acceptance of {acceptance}");
    assert!(own.iter().all(|z| *z == 0.0), "given the text nothing is left to chance: {own:?}");
    assert!(plain.iter().all(|z| z.abs() < CLOSE), "{plain:?}");
}
