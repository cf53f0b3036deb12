//! Drafters: whatever proposes tokens for the target to verify.
//!
//! How to add a drafter: write `src/draft/NAME.rs` with a type that implements [`Drafter`], add its fields as one
//! variant of `DraftSpec` in `src/scenario/draft_file.rs`, its case to [`Prototype`], and a TOML under `drafts/`.

pub mod conditioned;
pub mod distilled;
pub mod lookup;
pub mod model;

use crate::decode::keys::KeyStream;
use crate::decode::sampling::Sampling;
use crate::measure::trace::{self, Match};
use crate::model::language_model::LanguageModel;
use crate::model::timed::TimedModel;
use crate::model::tokenizer::Mismatch;
use crate::model::transformer::Transformer;
use crate::model::weights::LoadOptions;
use crate::roofline::ModelShape;
use crate::scenario::DraftSpec;
use anyhow::{Context, Result};
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
        return Err(crate::usage!(
            "{name}: path: its vocabulary is not the target's: id {id} is {ours:?} for the target and {theirs:?} in {}; use a drafter of the same family",
            path.display()
        ));
    }
    let (target_size, size) = (target.transformer.config.vocab_size, model.transformer.config.vocab_size);
    if size > target_size {
        return Err(crate::usage!(
            "{name}: path: it can propose {size} ids, the target knows {target_size}; use a drafter of the same family"
        ));
    }
    Prototype::Model(Box::new(model.transformer)).drafter()
}

/// What a drafter is made from, as often as one is needed; the drafters share weights.
#[derive(Debug, Clone)]
pub enum Prototype {
    /// A transformer that drafts.
    Model(Box<Transformer>),
    /// The longest and the shortest n-gram that are looked up.
    Lookup { max_ngram: usize, min_ngram: usize },
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
                    return Err(crate::usage!("{name}: layers: {} is not below the target's {layers}", draft.layers));
                }
                Prototype::Model(Box::new(target.truncated(draft.layers)))
            }
            DraftSpec::PromptLookup(draft) => {
                Prototype::Lookup { max_ngram: draft.max_ngram, min_ngram: draft.min_ngram }
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
            Prototype::Lookup { max_ngram, min_ngram } => Box::new(lookup::PromptLookup::new(*max_ngram, *min_ngram)?),
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

    /// What it proposes at each of `positions` positions of the decided `text` from `first` on, and how far that matches.
    /// `text` must reach `draft_length` tokens beyond the last position, so that no match is cut short.
    fn matches(&mut self, text: &[u32], first: usize, positions: usize, draft_length: usize) -> Result<Vec<Match>> {
        trace::one_by_one(self, text, first, positions, draft_length)
    }

    /// The sizes of the model that it runs, one forward for each token it proposes; none if it runs none.
    fn shape(&self) -> Option<ModelShape> {
        None
    }
}
