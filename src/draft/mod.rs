//! Drafters: whatever proposes tokens for the target to verify.
//!
//! How to add a drafter: write `src/draft/NAME.rs` with a type that implements [`Drafter`], add its fields as one
//! variant of `DraftSpec` in `src/scenario/draft_file.rs`, its case to [`Prototype`], and a TOML under `drafts/`.

pub mod combined;
pub mod conditioned;
pub mod distilled;
pub mod host;
pub mod lookup;
pub mod model;
pub mod suffix;
pub mod suffix_tree;

use crate::decode::keys::KeyStream;
use crate::decode::sampling::Sampling;
use crate::measure::trace::{self, Match, TextChances};
use crate::model::language_model::LanguageModel;
use crate::model::timed::TimedModel;
use crate::model::tokenizer::Mismatch;
use crate::model::transformer::Transformer;
use crate::model::weights::LoadOptions;
use crate::roofline::{ModelShape, Seen, Source, StopRule};
use crate::scenario::{self, DraftSpec, StopSpec};
use crate::usage;
use anyhow::{Context, Result};
use host::HostDrafter;
use mlx_rs::Array;
use std::path::{Path, PathBuf};

/// Makes the drafter that `spec` (from the draft file `file`) describes for `target`. `find` says where a checkpoint
/// that the file names lies.
pub fn build(
    file: &Path,
    spec: &DraftSpec,
    target: &LanguageModel,
    find: &dyn Fn(&str) -> Result<PathBuf>,
) -> Result<Box<dyn Drafter>> {
    let name = file.display();
    if let Some(lookup) = build_lookup(file, spec, target)? {
        return Ok(Box::new(lookup));
    }
    if let DraftSpec::Combined(draft) = spec {
        let (lookup_file, lookup) = part(file, "lookup", &draft.lookup)?;
        let Some(lookup) = build_lookup(&lookup_file, &lookup, target)? else {
            return Err(usage!(
                "{name}: lookup: '{}' runs a model; name a prompt-lookup or suffix drafter",
                draft.lookup
            ));
        };
        let (model_file, model) = part(file, "model", &draft.model)?;
        if matches!(model, DraftSpec::PromptLookup(_) | DraftSpec::Suffix(_) | DraftSpec::Combined(_)) {
            return Err(usage!(
                "{name}: model: '{}' is a {} drafter; name one that is a model",
                draft.model,
                model.kind()
            ));
        }
        let model = build(&model_file, &model, target, find)?;
        return Ok(Box::new(combined::Combined::new(lookup, model, draft.min_confidence)));
    }
    let draft = match spec {
        DraftSpec::Model(draft) => draft,
        DraftSpec::Distilled(draft) => {
            let folder = distilled::Folder::open(file, draft)?;
            if !draft.force {
                folder.check_target(file, &target.checkpoint.path)?;
            }
            return Prototype::Model(Box::new(folder.load(&target.transformer, draft.dtype)?)).drafter();
        }
        _ => return Prototype::derived(file, spec, &target.transformer)?.drafter(),
    };
    let options = LoadOptions { dtype: draft.dtype.map(Into::into), quantize: draft.quantize };
    let path = find(&draft.path)?;
    let model = LanguageModel::load(&path, &options)?;
    if let Some(Mismatch { id, ours, theirs }) = target.tokenizer.vocabulary_mismatch(&model.tokenizer) {
        return Err(usage!(
            "{name}: path: its vocabulary is not the target's: id {id} is {ours:?} for the target and {theirs:?} in {}; use a drafter of the same family",
            path.display()
        ));
    }
    let (target_size, size) = (target.transformer.config.vocab_size, model.transformer.config.vocab_size);
    if size > target_size {
        return Err(usage!(
            "{name}: path: it can propose {size} ids, the target knows {target_size}; use a drafter of the same family"
        ));
    }
    Prototype::Model(Box::new(model.transformer)).drafter()
}

/// A drafter that finds its tokens in text; none if the kind is another.
fn build_lookup(file: &Path, spec: &DraftSpec, target: &LanguageModel) -> Result<Option<HostDrafter>> {
    Ok(match spec {
        DraftSpec::PromptLookup(draft) => {
            let lookup = lookup::PromptLookup::new(draft.max_ngram, draft.min_ngram)?;
            Some(HostDrafter::new(Box::new(lookup)))
        }
        DraftSpec::Suffix(draft) => {
            let corpus = suffix::read_corpus(file, &draft.corpus, &target.tokenizer)?;
            Some(HostDrafter::new(Box::new(suffix::Suffix::new(draft, &corpus))))
        }
        _ => None,
    })
}

/// Another draft file that one names.
fn part(file: &Path, field: &str, name: &str) -> Result<(PathBuf, DraftSpec)> {
    let found = scenario::find(file, field, name)?;
    if StopSpec::read(&found)?.is_some() {
        let shown = file.display();
        return Err(usage!("{shown}: {field}: '{name}' has a [stop] table of its own; put one into {shown} instead"));
    }
    let spec = DraftSpec::read(&found)?;
    Ok((found, spec))
}

/// What a drafter is made from, as often as one is needed; the drafters share weights.
#[derive(Debug, Clone)]
pub enum Prototype {
    /// A transformer that drafts.
    Model(Box<Transformer>),
    /// The longest and the shortest n-gram that are looked up.
    Lookup { max_ngram: usize, min_ngram: usize },
    /// The counts of all endings, without a corpus.
    Suffix(scenario::Suffix),
}

impl Prototype {
    /// What is only to be timed: nothing that it proposes is verified, so its vocabulary does not matter and its weights,
    /// like the target's, may be random.
    pub fn timed(file: &Path, spec: &DraftSpec, target: &Transformer) -> Result<Prototype> {
        match spec {
            DraftSpec::Model(draft) => {
                let model = TimedModel::load(&draft.path, draft.dtype, draft.quantize);
                let model = model.with_context(|| format!("{}: path", file.display()))?;
                Ok(Prototype::Model(Box::new(model.transformer)))
            }
            DraftSpec::Distilled(draft) => {
                let model = distilled::Folder::open(file, draft)?.load(target, draft.dtype)?;
                Ok(Prototype::Model(Box::new(model)))
            }
            _ => Prototype::derived(file, spec, target),
        }
    }

    /// What needs no weights of its own.
    fn derived(file: &Path, spec: &DraftSpec, target: &Transformer) -> Result<Prototype> {
        Ok(match spec {
            DraftSpec::Model(_) | DraftSpec::Distilled(_) => unreachable!("has weights of its own"),
            DraftSpec::QuantizedSelf(draft) => {
                Prototype::Model(Box::new(target.quantized(draft.bits, draft.group_size)?))
            }
            DraftSpec::LayerSkip(draft) => {
                let layers = target.config.num_layers as usize;
                if draft.layers >= layers {
                    let name = file.display();
                    return Err(usage!("{name}: layers: {} is not below the target's {layers}", draft.layers));
                }
                Prototype::Model(Box::new(target.truncated(draft.layers)))
            }
            DraftSpec::PromptLookup(draft) => {
                Prototype::Lookup { max_ngram: draft.max_ngram, min_ngram: draft.min_ngram }
            }
            DraftSpec::Suffix(draft) => Prototype::Suffix(draft.clone()),
            DraftSpec::Combined(_) => {
                return Err(usage!(
                    "{}: kind: a combined drafter takes the time of its model; name that",
                    file.display()
                ));
            }
        })
    }

    /// A drafter before its first text.
    pub fn drafter(&self) -> Result<Box<dyn Drafter>> {
        Ok(match self {
            Prototype::Model(model) if model.is_conditioned() => {
                Box::new(conditioned::ConditionedDrafter::new(model.as_ref().clone())?)
            }
            Prototype::Model(model) => Box::new(model::ModelDrafter::new(model.as_ref().clone())),
            Prototype::Lookup { max_ngram, min_ngram } => {
                Box::new(HostDrafter::new(Box::new(lookup::PromptLookup::new(*max_ngram, *min_ngram)?)))
            }
            Prototype::Suffix(spec) => Box::new(HostDrafter::new(Box::new(suffix::Suffix::new(spec, &[])))),
        })
    }
}

/// Tokens proposed for one round. Lazy: nothing need be evaluated yet.
#[derive(Debug)]
pub struct Proposal {
    /// `[k]`, uint32.
    pub tokens: Array,
    /// `[k, vocab]`, float32: what they were drawn from; none where the drafter is deterministic.
    pub probabilities: Option<Array>,
}

/// All that a drafter would propose at one position, with what a stopping rule sees of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenDrafts {
    pub source: Source,
    pub tokens: Vec<u32>,
    pub seen: Vec<Seen>,
}

impl TokenDrafts {
    /// How far it matches what follows in the text.
    pub fn matching(&self, following: &[u32]) -> Match {
        let matched = self.tokens.iter().zip(following).take_while(|(draft, token)| draft == token).count();
        Match { proposed: self.tokens.len(), matched }
    }
}

/// Whatever proposes tokens. It sees committed tokens only; what was rejected is not its business beyond `propose`.
pub trait Drafter {
    /// Starts a new text with its prompt; `room` is how many tokens it may grow to in all, drafts included, so that
    /// nothing need grow while a run is timed.
    fn begin(&mut self, prompt: &[u32], room: i32) -> Result<()>;

    /// Up to `draft_length` tokens to follow `committed` (the whole text so far, prompt included); none if it has
    /// nothing to propose.
    fn propose(
        &mut self,
        committed: &[u32],
        draft_length: usize,
        sampling: &Sampling,
        keys: &mut KeyStream,
    ) -> Result<Option<Proposal>>;

    /// The size of the target's hidden states, if it reads them: then [`observe`](Self::observe) must be called after
    /// `begin` and `settle`.
    fn hidden_size(&self) -> Option<i32> {
        None
    }

    /// The target's normed hidden states of the next `n` committed positions, `[1, n, hidden]`; the last committed token is
    /// always one that the target has not read yet. Lazy.
    fn observe(&mut self, _hidden: &Array) -> Result<()> {
        Ok(())
    }

    /// Tells it the text as it is after a round: what it holds beyond that text was rejected.
    fn settle(&mut self, committed: &[u32]) -> Result<()>;

    /// What it proposes at each of `positions` positions of the decided `text` from `first` on, whatever its rule, and how
    /// far that matches. `text` must reach `draft_length` tokens beyond the last position, so that no match is cut short.
    fn matches(&mut self, text: &[u32], first: usize, positions: usize, draft_length: usize) -> Result<Vec<Match>> {
        trace::check_length(text, first, positions + draft_length)?;
        let drafts = self.token_drafts(text, first, positions, draft_length)?;
        let drafts = drafts.iter().enumerate();
        Ok(drafts.map(|(position, draft)| draft.matching(&text[first + position..])).collect())
    }

    /// The same for a `text` that was sampled: its chances of the text's own tokens. A drafter that draws its tokens must
    /// say them itself.
    fn text_chances(
        &mut self,
        text: &[u32],
        first: usize,
        positions: usize,
        draft_length: usize,
        _sampling: &Sampling,
    ) -> Result<Vec<TextChances>> {
        let matches = self.matches(text, first, positions, draft_length)?;
        Ok(matches.into_iter().map(TextChances::from).collect())
    }

    /// Sets the rule that ends drafts before the length asked for, from the next text on; none lets them be.
    fn stop_by(&mut self, rule: Option<StopRule>);

    /// All tokens that it could propose at each of `positions` positions of the decided `text` from `first` on, whatever its
    /// rule, also beyond the first that the text does not go on with.
    fn token_drafts(
        &mut self,
        text: &[u32],
        first: usize,
        positions: usize,
        draft_length: usize,
    ) -> Result<Vec<TokenDrafts>>;

    /// The part of it whose proposals take time.
    fn timed_part(&mut self) -> &mut dyn Drafter;

    /// The sizes of the model that it runs, one forward for each token it proposes; none if it runs none.
    fn shape(&self) -> Option<ModelShape> {
        None
    }
}
