//! The n-grams of a growing text with how often each was followed by what: a suffix tree of bounded depth.
//!
//! After Oliaro et al. 2024, "SuffixDecoding: Extreme Speculative Decoding for Emerging AI Applications": the draft is the
//! most frequent continuation of an ending of the text, as long as its probability by the counts lasts, and the ending is the
//! one whose draft is expected to have the most tokens accepted. The estimate of a probability is our own: see
//! [`SuffixTree::draft`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// A place in the tree: the path to it spells the n-gram.
type Node = u32;
const ROOT: Node = 0;
/// For a node without a child.
const NOWHERE: Node = u32::MAX;

/// What is known of one n-gram.
#[derive(Debug, Clone, Copy)]
struct NGram {
    /// Its last token.
    token: u32,
    /// How often it occurred.
    count: u32,
    /// How often it was followed by a token; the ending of a text is not.
    followed: u32,
    /// The n-gram one token longer that followed most often, the latest of equals.
    best: Node,
    /// The n-gram without its first token.
    shorter: Node,
}

/// How drafts are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DraftRule {
    /// The shortest ending of the text that counts as found.
    pub min_match: usize,
    /// A draft ends before the probability that all of it is accepted falls below this.
    pub min_probability: f64,
    /// A draft is at most this many times as long as the ending that it continues.
    pub length_factor: f64,
    /// No draft is longer. It must not depend on the draft length asked for: a shorter draft is the start of a longer one.
    pub max_draft: usize,
}

/// A continuation of the text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostDraft {
    pub tokens: Vec<u32>,
    /// For each token the estimated chance that it is right, given that those before it are.
    pub confidences: Vec<f64>,
}

impl HostDraft {
    /// Tokens expected to be accepted if the confidences are right.
    pub fn expected(&self) -> f64 {
        let mut all = 1.0;
        self.confidences.iter().map(|confidence| (all *= confidence, all).1).sum()
    }

    pub fn truncate(&mut self, length: usize) {
        self.tokens.truncate(length);
        self.confidences.truncate(length);
    }
}

/// Which endings of another text a tree knows: entry n is the node of the last n tokens, up to the longest one known.
#[derive(Debug, Clone)]
pub struct Endings(Vec<Node>);

impl Default for Endings {
    fn default() -> Self {
        Endings(vec![ROOT])
    }
}

/// A token costs one hash look-up for each length of n-gram, a proposal none.
#[derive(Debug, Clone)]
pub struct SuffixTree {
    /// Tokens of the longest n-gram: one more than the longest ending that is matched.
    depth: usize,
    nodes: Vec<NGram>,
    children: HashMap<(Node, u32), Node>,
    /// The nodes of the n-grams that end the text: entry n for the last n tokens. Shorter where the text is.
    endings: Vec<Node>,
}

impl SuffixTree {
    /// Matches endings of up to `max_match` tokens, at least 1.
    pub fn new(max_match: usize) -> Self {
        let root = NGram { token: 0, count: 0, followed: 0, best: NOWHERE, shorter: ROOT };
        SuffixTree { depth: max_match + 1, nodes: vec![root], children: HashMap::new(), endings: vec![ROOT] }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.nodes.truncate(1);
        self.nodes[0] = NGram { followed: 0, best: NOWHERE, ..self.nodes[0] };
        self.children.clear();
        self.end_text();
    }

    /// The next token begins another text: no n-gram reaches over its start.
    pub fn end_text(&mut self) {
        self.endings.truncate(1);
    }

    pub fn extend(&mut self, tokens: &[u32]) {
        tokens.iter().for_each(|&token| self.push(token));
    }

    fn push(&mut self, token: u32) {
        if self.endings.len() <= self.depth {
            self.endings.push(ROOT);
        }
        let mut shorter = ROOT;
        let mut ending = ROOT;
        for n in 1..self.endings.len() {
            let longer = self.follow(ending, token, shorter);
            (shorter, ending) = (longer, std::mem::replace(&mut self.endings[n], longer));
        }
    }

    /// Counts that `token` followed the n-gram `parent`. `shorter` is the resulting n-gram without its first token.
    fn follow(&mut self, parent: Node, token: u32, shorter: Node) -> Node {
        let child = match self.children.entry((parent, token)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.nodes.push(NGram { token, count: 0, followed: 0, best: NOWHERE, shorter });
                *new.insert(self.nodes.len() as Node - 1)
            }
        };
        self.nodes[child as usize].count += 1;
        let count = self.nodes[child as usize].count;
        let best = self.nodes[parent as usize].best;
        let surpassed = best == NOWHERE || count >= self.nodes[best as usize].count;
        let parent = &mut self.nodes[parent as usize];
        parent.followed += 1;
        if surpassed {
            parent.best = child;
        }
        child
    }

    /// The draft with the most tokens expected to be accepted, of the endings of the tree's own text or of another; the
    /// longest ending's among equals.
    ///
    /// A token that followed an n-gram of d tokens c of f times is taken to be right with the chance c / (f + 1/d): as if
    /// an unseen continuation had been seen 1/d times, since the longer the ending, the likelier it is to go on as before.
    pub fn draft(&self, other: Option<&Endings>, rule: &DraftRule) -> HostDraft {
        let endings = other.map_or(&self.endings, |endings| &endings.0);
        let mut best = HostDraft::default();
        let mut most = 0.0;
        for (matched, &node) in endings.iter().enumerate().take(self.depth).skip(rule.min_match).rev() {
            if self.nodes[node as usize].followed == 0 {
                continue;
            }
            let draft = self.continuation(node, matched, rule);
            let expected = draft.expected();
            if expected > most {
                (best, most) = (draft, expected);
            }
        }
        best
    }

    /// Follows another text by one token.
    pub fn advance(&self, endings: &mut Endings, token: u32) {
        let further = endings.0.iter().take(self.depth);
        let further = further.map_while(|&node| self.children.get(&(node, token)).copied());
        endings.0 = std::iter::once(ROOT).chain(further).collect();
    }

    /// The most frequent way on from an n-gram of `depth` tokens.
    fn continuation(&self, mut node: Node, mut depth: usize, rule: &DraftRule) -> HostDraft {
        let longest = ((rule.length_factor * depth as f64).ceil() as usize).min(rule.max_draft);
        let mut draft = HostDraft::default();
        let mut all = 1.0;
        while draft.tokens.len() < longest {
            // At the tree's depth, and where the text ended, one token less is remembered.
            while depth > 0 && (depth == self.depth || self.nodes[node as usize].followed == 0) {
                (node, depth) = (self.nodes[node as usize].shorter, depth - 1);
            }
            if depth == 0 {
                break;
            }
            let NGram { best, followed, .. } = self.nodes[node as usize];
            let NGram { token, count, .. } = self.nodes[best as usize];
            let confidence = f64::from(count) / (f64::from(followed) + 1.0 / depth as f64);
            all *= confidence;
            if all < rule.min_probability {
                break;
            }
            draft.tokens.push(token);
            draft.confidences.push(confidence);
            (node, depth) = (best, depth + 1);
        }
        draft
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: DraftRule = DraftRule { min_match: 1, min_probability: 0.1, length_factor: 2.0, max_draft: 6 };

    fn draft(text: &[u32]) -> HostDraft {
        let mut tree = SuffixTree::new(8);
        tree.extend(text);
        tree.draft(None, &RULE)
    }

    fn endings(tree: &SuffixTree, text: &[u32]) -> Endings {
        let mut endings = Endings::default();
        text.iter().for_each(|&token| tree.advance(&mut endings, token));
        endings
    }

    /// How often `context` is followed by each token in the texts, with where it last was, by scanning them.
    fn followers(texts: &[&[u32]], context: &[u32]) -> Vec<(u32, u32)> {
        let mut counts: Vec<(u32, u32, (usize, usize))> = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            for at in context.len()..text.len() {
                if &text[at - context.len()..at] != context {
                    continue;
                }
                match counts.iter_mut().find(|one| one.0 == text[at]) {
                    Some(one) => (one.1, one.2) = (one.1 + 1, (number, at)),
                    None => counts.push((text[at], 1, (number, at))),
                }
            }
        }
        counts.sort_by_key(|&(_, count, last)| std::cmp::Reverse((count, last)));
        counts.into_iter().map(|(token, count, _)| (token, count)).collect()
    }

    /// The definition, word by word.
    fn scan(texts: &[&[u32]], text: &[u32], max_match: usize, rule: &DraftRule) -> HostDraft {
        let mut best = HostDraft::default();
        for matched in (rule.min_match..=max_match.min(text.len())).rev() {
            let ending = &text[text.len() - matched..];
            if followers(texts, ending).is_empty() {
                continue;
            }
            let longest = ((rule.length_factor * matched as f64).ceil() as usize).min(rule.max_draft);
            let (mut draft, mut context, mut all) = (HostDraft::default(), ending.to_vec(), 1.0);
            while draft.tokens.len() < longest {
                while !context.is_empty() && (context.len() > max_match || followers(texts, &context).is_empty()) {
                    context.remove(0);
                }
                if context.is_empty() {
                    break;
                }
                let found = followers(texts, &context);
                let total: u32 = found.iter().map(|one| one.1).sum();
                let (token, count) = found[0];
                let confidence = f64::from(count) / (f64::from(total) + 1.0 / context.len() as f64);
                all *= confidence;
                if all < rule.min_probability {
                    break;
                }
                draft.tokens.push(token);
                draft.confidences.push(confidence);
                context.push(token);
            }
            if draft.expected() > best.expected() {
                best = draft;
            }
        }
        best
    }

    #[test]
    fn the_most_frequent_continuation_wins_and_the_latest_of_equals() {
        // After 1 came 2, 2 and 3.
        assert_eq!(draft(&[1, 2, 9, 1, 3, 8, 1, 2, 7, 1]).tokens[0], 2);
        assert_eq!(draft(&[1, 2, 9, 1, 3, 8, 1]).tokens[0], 3);
        assert_eq!(draft(&[1, 2, 3]), HostDraft::default());
        assert_eq!(draft(&[]), HostDraft::default());
    }

    #[test]
    fn confidence_grows_with_count_and_match() {
        // 1 was followed by 2 once: 1 / (1 + 1/1); then 1 2 by 9 once: 1 / (1 + 1/2).
        let found = draft(&[1, 2, 9, 8, 1]);
        assert_eq!(found.tokens, [2, 9]);
        assert_eq!(found.confidences, [0.5, 2.0 / 3.0]);
        assert!((found.expected() - (0.5 + 1.0 / 3.0)).abs() < 1e-15);
    }

    #[test]
    fn a_draft_that_reaches_the_end_goes_on_into_itself() {
        assert_eq!(draft(&[4, 4, 4]).tokens, [4, 4, 4, 4]);
        assert_eq!(draft(&[1, 2, 1, 2, 1]).tokens, [2, 1, 2, 1, 2, 1]);
    }

    #[test]
    fn other_texts_are_known_but_not_joined() {
        let mut tree = SuffixTree::new(4);
        let draft = |tree: &SuffixTree, text: &[u32]| tree.draft(Some(&endings(tree, text)), &RULE).tokens;
        tree.extend(&[1, 2]);
        tree.end_text();
        tree.extend(&[3, 4]);
        assert_eq!(draft(&tree, &[9, 1]), [2]);
        assert_eq!(draft(&tree, &[1, 2]), [] as [u32; 0]);
        tree.clear();
        assert_eq!(draft(&tree, &[9, 1]), [] as [u32; 0]);
    }

    proptest! {
        #[test]
        fn equals_a_naive_scan(
            before in prop::collection::vec(0u32..4, 0..30),
            text in prop::collection::vec(0u32..4, 0..50),
            max_match in 1usize..6,
            min_match in 1usize..3,
            max_draft in 0usize..8,
            length_factor in 0.5f64..4.0,
            min_probability in 0.0f64..0.6,
            cut in 0usize..50,
        ) {
            let rule = DraftRule { min_match, min_probability, length_factor, max_draft };
            let mut tree = SuffixTree::new(max_match);
            tree.extend(&[3, 1, 2]);
            tree.clear();
            tree.extend(&before);
            tree.end_text();
            let cut = cut.min(text.len());
            tree.extend(&text[..cut]);
            prop_assert_eq!(tree.draft(None, &rule), scan(&[&before, &text[..cut]], &text[..cut], max_match, &rule));
            tree.extend(&text[cut..]);
            let found = tree.draft(None, &rule);
            prop_assert_eq!(&found, &scan(&[&before, &text], &text, max_match, &rule));
            let mut known = SuffixTree::new(max_match);
            known.extend(&before);
            prop_assert_eq!(known.draft(Some(&endings(&known, &text)), &rule), scan(&[&before], &text, max_match, &rule));
        }
    }
}
