//! Drafters: whatever proposes tokens for the target to verify.
//!
//! How to add a drafter: write `src/draft/NAME.rs` with a type that implements [`Drafter`], add its fields as one
//! variant of `DraftSpec` in `src/scenario/draft_file.rs`, one line to [`build`], and a TOML under `drafts/`.

pub mod lookup;
pub mod model;

use crate::decode::keys::KeyStream;
use crate::decode::sampling::Sampling;
use crate::measure::trace::{self, Match};
use crate::model::language_model::LanguageModel;
use crate::model::tokenizer::Mismatch;
use crate::model::weights::LoadOptions;
use crate::roofline::ModelShape;
use crate::scenario::DraftSpec;
use anyhow::Result;
use mlx_rs::Array;
use std::path::Path;

/// Makes the drafter that `spec` (from the draft file `file`) describes for `target`. `find` says where a checkpoint
/// that the file names lies.
pub fn build(
    file: &Path,
    spec: &DraftSpec,
    target: &LanguageModel,
    find: &dyn Fn(&str) -> Result<std::path::PathBuf>,
) -> Result<Box<dyn Drafter>> {
    let name = file.display();
    Ok(match spec {
        DraftSpec::Model(draft) => {
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
            Box::new(model::ModelDrafter::new(model.transformer))
        }
        DraftSpec::QuantizedSelf(draft) => {
            let quantized = target.transformer.quantized(draft.bits, draft.group_size)?;
            Box::new(model::ModelDrafter::new(quantized))
        }
        DraftSpec::LayerSkip(draft) => {
            let layers = target.transformer.config.num_layers as usize;
            if draft.layers >= layers {
                return Err(crate::usage!("{name}: layers: {} is not below the target's {layers}", draft.layers));
            }
            Box::new(model::ModelDrafter::new(target.transformer.truncated(draft.layers)))
        }
        DraftSpec::PromptLookup(draft) => Box::new(lookup::PromptLookup::new(draft.max_ngram, draft.min_ngram)?),
    })
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
