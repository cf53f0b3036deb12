//! A trained drafter that reads the target's hidden states: what is proposed, and that no token changes.
#![cfg(feature = "mlx")]

use crate::distilled::{GREEDY, conditioned, drafter, some_ids, target, text, workplace};
use mlx_rs::Array;
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::{TryIndexOp, argmax_axis};
use ridgepoint::decode::keys::KeyStream;
use ridgepoint::decode::{Request, plain, speculative};
use ridgepoint::draft;
use ridgepoint::model::transformer::Transformer;
use ridgepoint::roofline::{Draft, Trace, replay};
use ridgepoint::scenario::DraftSpec;

/// The target's normed hidden states of `text` and, for each of its tokens, that of the position before.
fn features(target: &Transformer, text: &[u32]) -> (Array, Array) {
    let tokens = Array::from_slice(text, &[1, text.len() as i32]);
    let hidden = target.hidden_states(&tokens, None, &mut target.new_cache()).unwrap();
    let before =
        concatenate(&[mlx_rs::ops::zeros::<f32>(&[1, 1, 64]).unwrap(), hidden.try_index((.., ..-1, ..)).unwrap()], 1);
    (hidden, before.unwrap())
}

#[test]
fn hidden_states_that_count_for_nothing_change_nothing() {
    let embedding_only: Vec<f32> = (0..64 * 128).map(|i| if i % 128 == i / 128 { 1.0 } else { 0.0 }).collect();
    let ids = some_ids();
    let (plain, place) = (workplace(&ids), conditioned(&ids, Array::from_slice(&embedding_only, &[64, 128])));
    let target = target(&place);
    let text = text(&target.transformer, 40);
    let (mut own, mut expected) = (drafter(&place, &target, "own.toml"), drafter(&plain, &target, "own.toml"));
    let (hidden, _) = features(&target.transformer, &text);
    own.begin(&text[..1], 60).unwrap();
    own.observe(&hidden.try_index((.., ..-1, ..)).unwrap()).unwrap();
    assert_eq!(own.matches(&text, 5, 30, 4).unwrap(), expected.matches(&text, 5, 30, 4).unwrap());
}

#[test]
fn a_drafter_of_hidden_states_changes_no_token_and_its_trace_replays_it() {
    let fc = mlx_rs::random::normal::<f32>(&[64, 128], None, 0.15, &mlx_rs::random::key(4).unwrap()).unwrap();
    let ids = some_ids();
    let place = conditioned(&ids, fc.clone());
    let target = target(&place);
    let model = &target.transformer;
    let mut drafter = drafter(&place, &target, "own.toml");
    let mut matched = 0;
    for prompt in [[5, 17, 3, 40], [200, 9, 9, 1], [77, 78, 79, 80]] {
        let request =
            |max_tokens| Request { prompt: &prompt, max_tokens, sampling: GREEDY, seed: 0, end_ids: &[], read: None };
        let expected = plain::decode(model, &request(48), &mut |_| ()).unwrap().tokens;
        let whole = [&prompt[..], &expected].concat();
        let (hidden, _) = features(model, &whole);
        drafter.begin(&whole[..1], 60).unwrap();
        drafter.observe(&hidden.try_index((.., ..-1, ..)).unwrap()).unwrap();
        let matches = drafter.matches(&whole, prompt.len(), 40, 8).unwrap();
        matched += matches.iter().map(|found| found.matched).sum::<usize>();
        let drafts = matches.iter().map(|found| Draft { drafted: found.proposed, matched: found.matched }).collect();
        let trace = Trace::new(drafts, 8).unwrap();
        for draft_length in [1, 2, 4, 8] {
            let run = speculative::decode(model, drafter.as_mut(), draft_length, &request(40), &mut |_| ()).unwrap();
            assert_eq!(run.tokens, expected[..40], "γ={draft_length}");
            let replayed = replay(&trace, draft_length).unwrap();
            let counts = (replayed.rounds, replayed.drafted, replayed.accepted);
            assert_eq!((run.rounds as f64, run.drafted as f64, run.accepted as f64), counts, "γ={draft_length}");
        }
    }
    assert!(matched > 0, "nothing matched, so little was tested");
}

/// Every draft of a round against a model without a cache, which reads the whole text anew for each: the target's hidden
/// states where it has been, the drafter's own behind.
#[test]
fn drafts_of_hidden_states_are_those_of_whole_forwards() {
    let fc = mlx_rs::random::normal::<f32>(&[64, 128], None, 0.15, &mlx_rs::random::key(4).unwrap()).unwrap();
    let ids = some_ids();
    let place = conditioned(&ids, fc);
    let target = target(&place);
    let text = text(&target.transformer, 30);
    let (hidden, _) = features(&target.transformer, &text);
    let file = place.path("own.toml");
    let Ok(draft::Prototype::Model(own)) =
        draft::Prototype::timed(&file, &DraftSpec::read(&file).unwrap(), &target.transformer)
    else {
        panic!("a model")
    };
    let mut drafter = drafter(&place, &target, "own.toml");
    drafter.begin(&text[..6], 60).unwrap();
    drafter.observe(&hidden.try_index((.., ..5, ..)).unwrap()).unwrap();
    for end in 6..28 {
        let proposal = drafter.propose(&text[..end], 4, &GREEDY, &mut KeyStream::new(0)).unwrap().unwrap();
        let drafts: Vec<u32> = proposal.tokens.to_vec_exact().unwrap();
        let (_, mut before) = features(&target.transformer, &text[..end]);
        for step in 0..4 {
            let read = [&text[..end], &drafts[..step]].concat();
            let tokens = Array::from_slice(&read, &[1, read.len() as i32]);
            let states = own.hidden_states(&tokens, Some(&before), &mut own.new_cache()).unwrap();
            let last = states.try_index((.., -1.., ..)).unwrap();
            let choice = argmax_axis(own.head(&last).unwrap(), -1, false).unwrap();
            let token = own.token_ids(choice.reshape(&[-1]).unwrap()).unwrap().to_vec_exact::<u32>().unwrap();
            assert_eq!(token, [drafts[step]], "behind {end} tokens, draft {step}");
            before = concatenate(&[before, last], 1).unwrap();
        }
        drafter.settle(&text[..=end]).unwrap();
        drafter.observe(&hidden.try_index((.., end as i32 - 1..end as i32, ..)).unwrap()).unwrap();
    }
}
