//! Prompt lookup against transformers' candidate generator (`scripts/oracle/prompt_lookup.py`).
#![cfg(feature = "mlx")]

use ridgepoint::draft::lookup::PromptLookup;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    max_tokens: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: Vec<u32>,
    max_ngram: usize,
    /// Earlier occurrences of the longest known n-gram that ends the text.
    occurrences: usize,
    /// transformers' proposal: after the first of them, no further than the text reaches.
    proposed: Vec<u32>,
    /// The same after the most recent of them.
    most_recent: Vec<u32>,
}

#[test]
fn proposals_begin_like_those_of_transformers() {
    let golden: Golden = serde_json::from_str(include_str!("golden/prompt_lookup.json")).unwrap();
    let (mut equal, mut continued) = (0, 0);
    for case in &golden.cases {
        let mut lookup = PromptLookup::new(case.max_ngram, 1).unwrap();
        lookup.reset(&case.text);
        let ours = lookup.continuation(golden.max_tokens);
        assert_eq!(ours.is_empty(), case.proposed.is_empty(), "{:?}", case.text);
        assert!(ours.starts_with(&case.most_recent), "{:?}: {ours:?}, {:?}", case.text, case.most_recent);
        if case.occurrences == 1 {
            assert!(ours.starts_with(&case.proposed));
            equal += 1;
        }
        if !ours.is_empty() {
            assert_eq!(ours.len(), golden.max_tokens);
            continued += usize::from(ours.len() > case.most_recent.len());
        }
    }
    assert!(equal >= 20 && continued >= 20, "the cases no longer cover what they should: {equal}, {continued}");
}
