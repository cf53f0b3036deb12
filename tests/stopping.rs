//! Rules that end drafts early do in a run what the replay of their trace says, round by round, and change no token.
#![cfg(feature = "mlx")]

use mlx_rs::Dtype;
use ridgepoint::decode::sampling::Sampling;
use ridgepoint::decode::speculative::{self, Verification};
use ridgepoint::decode::{Request, plain, prefill};
use ridgepoint::draft::Drafter;
use ridgepoint::draft::combined::Combined;
use ridgepoint::draft::host::HostDrafter;
use ridgepoint::draft::lookup::PromptLookup;
use ridgepoint::draft::model::ModelDrafter;
use ridgepoint::draft::suffix::Suffix;
use ridgepoint::model::transformer::Transformer;
use ridgepoint::model::weights::LoadOptions;
use ridgepoint::roofline::{
    CostCurve, Costs, Padding, RuledRound, Source, StopRule, TokenDraft, TokenTrace, fit_rule, rounds_ruled,
};
use ridgepoint::scenario::DraftSpec;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

const TOKENS: usize = 60;
const LONGEST: usize = 6;
/// Repeats itself, so that lookups find something.
const PROMPT: [u32; 18] = [5, 17, 3, 40, 41, 8, 5, 17, 3, 40, 41, 8, 2, 60, 11, 5, 17, 3];

fn load(name: &str) -> Transformer {
    mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(name);
    ridgepoint::model::load(&path, &LoadOptions { dtype: Some(Dtype::Float32), quantize: None }).unwrap().1
}

fn request(max_tokens: usize) -> Request<'static> {
    Request { prompt: &PROMPT, max_tokens, sampling: Sampling::GREEDY, seed: 0, end_ids: &[], read: None }
}

/// The same model at fewer bits: often right, not always.
fn model_drafter(target: &Transformer) -> Box<dyn Drafter> {
    Box::new(ModelDrafter::new(target.quantized(4, 32).unwrap()))
}

fn suffix() -> HostDrafter {
    let spec = DraftSpec::parse(Path::new("suffix.toml"), "kind = \"suffix\"\nmin_probability = 0.01").unwrap();
    let DraftSpec::Suffix(spec) = spec else { unreachable!() };
    HostDrafter::new(Box::new(Suffix::new(&spec, &[])))
}

fn drafters(target: &Transformer) -> Vec<(&'static str, Box<dyn Drafter>)> {
    let lookup = || HostDrafter::new(Box::new(PromptLookup::new(3, 1).unwrap()));
    vec![
        ("model", model_drafter(target)),
        ("prompt lookup", Box::new(lookup())),
        ("suffix", Box::new(suffix())),
        ("combined", Box::new(Combined::new(suffix(), model_drafter(target), 0.6))),
    ]
}

fn trace(drafter: &mut dyn Drafter, text: &[u32]) -> TokenTrace {
    let first = PROMPT.len();
    let drafts = drafter.token_drafts(text, first, TOKENS, LONGEST).unwrap();
    let drafts = drafts.into_iter().enumerate().map(|(position, draft)| TokenDraft {
        source: draft.source,
        matched: draft.matching(&text[first + position..]).matched,
        seen: draft.seen,
    });
    TokenTrace::new(drafts.collect(), LONGEST).unwrap()
}

fn costs() -> Costs {
    let draft = CostCurve::from_samples((1..=LONGEST).map(|length| (length, 0.1 * length as f64))).unwrap();
    let target = CostCurve::from_samples((1..=LONGEST + 1).map(|width| (width, 1.0 + 0.15 * width as f64))).unwrap();
    Costs { plain_s: 1.1, draft, target, overlap_s: 0.0, pad: false }
}

fn rules(trace: &TokenTrace) -> Vec<(&'static str, Option<StopRule>)> {
    vec![
        ("none", None),
        ("p-min 0.1", Some(StopRule::PMin { threshold: 0.1 })),
        ("p-min 0.6", Some(StopRule::PMin { threshold: 0.6 })),
        ("entropy", Some(StopRule::Entropy { weight: 0.1, threshold: 0.5 })),
        ("average", Some(StopRule::AcceptanceAverage { memory: 3.0 })),
        (
            "cost-aware",
            Some(StopRule::CostAware(Arc::new(fit_rule(std::slice::from_ref(trace), LONGEST, &costs()).unwrap()))),
        ),
    ]
}

/// The rounds of a real run: drafted and accepted, the last round's without what the budget cut off.
fn run(
    target: &Transformer,
    drafter: &mut dyn Drafter,
    draft_length: usize,
    padding: &Padding,
) -> (Vec<u32>, Vec<(usize, usize)>, [usize; 3]) {
    let mut rounds = Vec::new();
    let mut observe = |round: ridgepoint::decode::Round| rounds.push((round.drafted, round.accepted));
    let how = Verification { padding: padding.clone(), supposed: None };
    let run = speculative::decode_as(target, drafter, draft_length, &how, &request(TOKENS), &mut observe).unwrap();
    (run.tokens, rounds, [run.rounds, run.drafted, run.accepted])
}

#[test]
fn every_rule_does_in_a_run_what_its_replay_says() {
    for name in ["llama", "qwen3"] {
        let target = load(name);
        let text = plain::decode(&target, &request(TOKENS + LONGEST), &mut |_| ()).unwrap().tokens;
        let whole = [&PROMPT[..], &text].concat();
        for (kind, mut drafter) in drafters(&target) {
            let trace = trace(drafter.as_mut(), &whole);
            let mut different = BTreeSet::new();
            for (rule_name, rule) in rules(&trace) {
                for draft_length in [1, 3, LONGEST] {
                    let case = format!("{name}, {kind}, {rule_name}, γ={draft_length}");
                    drafter.stop_by(rule.clone());
                    let (tokens, mut rounds, counts) =
                        run(&target, drafter.as_mut(), draft_length, &Padding::default());
                    assert_eq!(tokens, text[..TOKENS], "{case}");
                    let replayed = rounds_ruled(&trace, draft_length, rule.as_ref()).unwrap();
                    let sum = |of: fn(&RuledRound) -> usize| replayed.iter().map(of).sum::<usize>();
                    assert_eq!(counts, [replayed.len(), sum(|one| one.drafted), sum(|one| one.accepted)], "{case}");
                    let mut expected: Vec<_> = replayed.iter().map(|one| (one.drafted, one.accepted)).collect();
                    rounds.pop();
                    expected.pop();
                    assert_eq!(rounds, expected, "{case}");
                    if draft_length == LONGEST {
                        different.insert(counts);
                    }
                }
            }
            assert!(different.len() >= 3, "{name}, {kind}: the rules hardly differ: {different:?}");
        }
    }
}

#[test]
fn a_combined_drafter_drafts_from_both_sources() {
    let target = load("llama");
    let text = plain::decode(&target, &request(TOKENS + LONGEST), &mut |_| ()).unwrap().tokens;
    let whole = [&PROMPT[..], &text].concat();
    let mut combined = Combined::new(suffix(), model_drafter(&target), 0.6);
    let drafts = combined.token_drafts(&whole, PROMPT.len(), TOKENS, LONGEST).unwrap();
    let from = |source| drafts.iter().filter(|draft| draft.source == source).count();
    assert!(from(Source::Lookup) >= 5 && from(Source::Model) >= 5, "{} {}", from(Source::Lookup), from(Source::Model));
}

#[test]
fn padded_verifications_commit_the_same_tokens() {
    let target = load("llama");
    let text = plain::decode(&target, &request(TOKENS), &mut |_| ()).unwrap().tokens;
    let curve =
        CostCurve::from_samples([(1, 1.0), (2, 3.0), (3, 3.0), (4, 3.0), (5, 3.5), (6, 4.0), (7, 4.0), (12, 2.0)]);
    let padding = Padding::of(&curve.unwrap(), LONGEST + 1);
    assert_eq!(padding.width(4), 12);
    let mut drafter = model_drafter(&target);
    for draft_length in [1, 3, LONGEST] {
        let (tokens, rounds, _) = run(&target, drafter.as_mut(), draft_length, &padding);
        assert_eq!(tokens, text, "γ={draft_length}");
        assert_eq!(rounds, run(&target, drafter.as_mut(), draft_length, &Padding::default()).1, "γ={draft_length}");
    }
}

/// Runs may start from one cache that has read the prompt.
#[test]
fn a_run_from_a_copy_of_the_cache_is_the_same_and_leaves_it_alone() {
    for name in ["llama", "qwen3"] {
        let target = load(name);
        let expected = plain::decode(&target, &request(TOKENS), &mut |_| ()).unwrap().tokens;
        let mut cache = target.new_cache();
        prefill(&target, &mut cache, &PROMPT).unwrap();
        let request = Request { read: Some(&cache), ..request(TOKENS) };
        for (drafter_name, mut drafter) in drafters(&target) {
            let run = speculative::decode(&target, drafter.as_mut(), LONGEST, &request, &mut |_| ()).unwrap();
            assert_eq!(run.tokens, expected, "{name}, {drafter_name}");
            assert_eq!(plain::decode(&target, &request, &mut |_| ()).unwrap().tokens, expected, "{name}");
        }
        assert_eq!(cache.len(), PROMPT.len() as i32 - 1);
    }
}
