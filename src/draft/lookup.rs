//! Prompt lookup: what followed the last time the text ended like this (Saxena 2023, "Prompt Lookup Decoding").
//!
//! Close to transformers' `prompt_lookup_num_tokens`, and different on purpose in two points. Both take the longest
//! n-gram at the end of the text that occurred before. transformers then copies after its *first* occurrence, and no
//! further than the text reaches; here it is the *most recent* one, and a copy that reaches the end of the text goes on
//! into itself, so a repeating text is continued at any length.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anyhow::Result;

use super::host::Lookup;
use super::suffix_tree::HostDraft;
use crate::usage;

/// A node of the tree of n-grams: the path to it spells the n-gram.
type Node = u32;
const ROOT: Node = 0;
/// For a node whose n-gram has not been followed by anything.
const NOWHERE: u32 = u32::MAX;

/// An index over the n-grams of the committed text. A token costs one hash lookup for each n, a proposal none.
#[derive(Debug, Clone)]
pub struct PromptLookup {
    max_ngram: usize,
    min_ngram: usize,
    text: Vec<u32>,
    children: HashMap<(Node, u32), Node>,
    /// For each node, where in the text the token after its n-gram's latest occurrence stands.
    follower: Vec<u32>,
    /// The nodes of the n-grams that end the text: entry n for the last n tokens. Shorter where the text is.
    endings: Vec<Node>,
}

impl PromptLookup {
    /// Matches n-grams of `max_ngram` tokens first, then shorter ones down to `min_ngram`. Errors are usage errors.
    pub fn new(max_ngram: usize, min_ngram: usize) -> Result<Self> {
        if min_ngram == 0 || max_ngram < min_ngram {
            return Err(usage!(
                "prompt lookup with max_ngram {max_ngram} and min_ngram {min_ngram}: give 1 <= min_ngram <= max_ngram"
            ));
        }
        Ok(Self {
            max_ngram,
            min_ngram,
            text: Vec::new(),
            children: HashMap::new(),
            follower: vec![NOWHERE],
            endings: vec![ROOT],
        })
    }

    /// Forgets everything and starts with a prompt.
    pub fn reset(&mut self, prompt: &[u32]) {
        self.text.clear();
        self.children.clear();
        self.follower.truncate(1);
        self.endings.truncate(1);
        self.extend(prompt);
    }

    /// Appends committed tokens.
    pub fn extend(&mut self, tokens: &[u32]) {
        for &token in tokens {
            self.push(token);
        }
    }

    /// Up to `max` tokens that followed the most recent earlier occurrence of the longest known n-gram at the end of
    /// the text; none if there is no such n-gram. Otherwise exactly `max`.
    pub fn continuation(&self, max: usize) -> Vec<u32> {
        let Some((_, start)) = self.longest_known() else { return Vec::new() };
        self.text[start as usize..].iter().copied().cycle().take(max).collect()
    }

    /// Tokens of the longest known n-gram at the end of the text, and where the token after its latest occurrence stands.
    fn longest_known(&self) -> Option<(usize, u32)> {
        let longest = self.endings.iter().enumerate().skip(self.min_ngram).rev();
        longest.map(|(n, &node)| (n, self.follower[node as usize])).find(|&(_, at)| at != NOWHERE)
    }

    fn push(&mut self, token: u32) {
        let position = self.text.len() as u32;
        for &node in &self.endings[1..] {
            self.follower[node as usize] = position;
        }
        if self.endings.len() <= self.max_ngram {
            self.endings.push(ROOT);
        }
        for n in (1..self.endings.len()).rev() {
            self.endings[n] = self.child(self.endings[n - 1], token);
        }
        self.text.push(token);
    }

    fn child(&mut self, parent: Node, token: u32) -> Node {
        match self.children.entry((parent, token)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.follower.push(NOWHERE);
                *new.insert(self.follower.len() as Node - 1)
            }
        }
    }
}

impl Lookup for PromptLookup {
    fn reset(&mut self, prompt: &[u32]) {
        PromptLookup::reset(self, prompt);
    }

    fn extend(&mut self, tokens: &[u32]) {
        PromptLookup::extend(self, tokens);
    }

    /// The longer what was found, the likelier it is to go on: a token behind n equal ones is taken to be right with the
    /// chance n / (n + 1), as a suffix tree takes one that was seen once.
    fn draft(&self, max: usize) -> HostDraft {
        let Some((matched, _)) = self.longest_known() else { return HostDraft::default() };
        let confidence = |place: usize| (matched + place) as f64 / (matched + place + 1) as f64;
        HostDraft { tokens: self.continuation(max), confidences: (0..max).map(confidence).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word by word.
    fn scan(text: &[u32], max_ngram: usize, min_ngram: usize, max: usize) -> Vec<u32> {
        for n in (min_ngram..=max_ngram).rev().filter(|&n| n < text.len()) {
            let ending = &text[text.len() - n..];
            let Some(start) = (0..text.len() - n).rev().find(|&at| &text[at..at + n] == ending) else { continue };
            let mut continued = text.to_vec();
            for k in 0..max {
                continued.push(continued[start + n + k]);
            }
            return continued.split_off(text.len());
        }
        Vec::new()
    }

    fn proposal(text: &[u32], max: usize) -> Vec<u32> {
        let mut lookup = PromptLookup::new(3, 1).unwrap();
        lookup.reset(text);
        lookup.continuation(max)
    }

    #[test]
    fn longest_first_then_most_recent() {
        assert_eq!(proposal(&[1, 2, 3, 9, 2, 3, 8, 1, 2, 3], 2), [9, 2]);
        assert_eq!(proposal(&[5, 1, 7, 5, 2, 8, 5], 2), [2, 8]);
        assert_eq!(proposal(&[1, 2, 3, 4], 2), [] as [u32; 0]);
        assert_eq!(proposal(&[], 2), [] as [u32; 0]);
    }

    #[test]
    fn a_copy_that_reaches_the_end_goes_on_into_itself() {
        assert_eq!(proposal(&[4, 4], 3), [4, 4, 4]);
        assert_eq!(proposal(&[1, 2, 1, 2, 1], 5), [2, 1, 2, 1, 2]);
        assert_eq!(proposal(&[7, 8, 9, 7], 4), [8, 9, 7, 8]);
    }

    #[test]
    fn short_ngrams_can_be_left_out() {
        let mut lookup = PromptLookup::new(4, 2).unwrap();
        lookup.reset(&[1, 5, 2, 5]);
        assert!(lookup.continuation(3).is_empty());
        lookup.reset(&[1, 2, 3, 1, 2]);
        assert_eq!(lookup.continuation(1), [3]);
    }

    #[test]
    fn impossible_lengths_are_usage_errors() {
        for (max, min) in [(0, 0), (2, 0), (1, 2)] {
            assert_eq!(crate::error::exit_code(&PromptLookup::new(max, min).unwrap_err()), 2);
        }
    }

    proptest! {
        #[test]
        fn equals_a_naive_scan(
            text in prop::collection::vec(0u32..4, 0..60),
            max_ngram in 1usize..6,
            min_ngram in 1usize..3,
            max in 0usize..8,
            cut in 0usize..60,
        ) {
            let max_ngram = max_ngram.max(min_ngram);
            let mut lookup = PromptLookup::new(max_ngram, min_ngram).unwrap();
            let cut = cut.min(text.len());
            lookup.reset(&[3, 1, 2]);
            lookup.reset(&text[..cut]);
            prop_assert_eq!(lookup.continuation(max), scan(&text[..cut], max_ngram, min_ngram, max));
            lookup.extend(&text[cut..]);
            prop_assert_eq!(lookup.continuation(max), scan(&text, max_ngram, min_ngram, max));
        }
    }
}
