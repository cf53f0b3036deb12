//! Suffix decoding: the most frequent continuation in prompt, output, and a corpus of earlier outputs.

use super::host::Lookup;
use super::suffix_tree::{DraftRule, Endings, HostDraft, SuffixTree};
use crate::model::tokenizer::Tokenizer;
use crate::scenario::{self, Suffix as SuffixSpec};
use crate::usage;
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;

/// A tree over the text, and one over the corpus, which all texts share.
#[derive(Debug, Clone)]
pub struct Suffix {
    rule: DraftRule,
    own: SuffixTree,
    corpus: Option<(Arc<SuffixTree>, Endings)>,
}

impl Suffix {
    /// `corpus` holds earlier texts, as tokens.
    pub fn new(spec: &SuffixSpec, corpus: &[Vec<u32>]) -> Self {
        let SuffixSpec { max_match, min_match, min_probability, length_factor, max_draft, .. } = *spec;
        let mut tree = SuffixTree::new(max_match);
        for text in corpus {
            tree.extend(text);
            tree.end_text();
        }
        Suffix {
            rule: DraftRule { min_match, min_probability, length_factor, max_draft },
            own: SuffixTree::new(max_match),
            corpus: (!corpus.is_empty()).then(|| (Arc::new(tree), Endings::default())),
        }
    }
}

impl Lookup for Suffix {
    fn reset(&mut self, prompt: &[u32]) {
        self.own.clear();
        if let Some((_, endings)) = &mut self.corpus {
            *endings = Endings::default();
        }
        self.extend(prompt);
    }

    fn extend(&mut self, tokens: &[u32]) {
        self.own.extend(tokens);
        if let Some((tree, endings)) = &mut self.corpus {
            tokens.iter().for_each(|&token| tree.advance(endings, token));
        }
    }

    /// Of the text's own continuation and the corpus's the one with more tokens expected to be accepted.
    fn draft(&self, max: usize) -> HostDraft {
        let mut draft = self.own.draft(None, &self.rule);
        if let Some((tree, endings)) = &self.corpus {
            let other = tree.draft(Some(endings), &self.rule);
            if other.expected() > draft.expected() {
                draft = other;
            }
        }
        draft.truncate(max);
        draft
    }
}

/// The texts of the corpus files that the draft file `file` names, as tokens: a `.jsonl` file has one text a line in the
/// field `text`, any other is one text.
pub fn read_corpus(file: &Path, names: &[String], tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>> {
    let shown = file.display();
    let mut texts = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let field = format!("corpus[{place}]");
        let path = scenario::find(file, &field, name)?;
        let refused = |why: String| usage!("{shown}: {field}: '{name}' {why}");
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| refused(format!("cannot be read as text ({error})")))?;
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            texts.push(tokenizer.encode(&text, false)?);
            continue;
        }
        for (line, json) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let value = serde_json::from_str::<serde_json::Value>(json).ok();
            let text = value.as_ref().and_then(|value| value.get("text")?.as_str());
            let text = text.ok_or_else(|| refused(format!("line {}: is no object with a field 'text'", line + 1)))?;
            texts.push(tokenizer.encode(text, false)?);
        }
    }
    Ok(texts)
}
