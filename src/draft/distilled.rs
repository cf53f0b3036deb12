//! A shallow drafter that was trained for one target: a folder with `config.json` and `model.safetensors`.
//!
//! It has layers and a final norm of its own. The embedding is the target's, and its head is the rows of the target's
//! head for the ids in `draft_ids`, the most frequent ones (after FR-Spec, Zhao et al. 2025): a small model spends most
//! of its time on a head over the whole vocabulary.

use crate::model::checkpoint::weights_sha256;
use crate::model::transformer::Transformer;
use crate::model::weights::{self, LoadOptions};
use crate::model::{config, config_of};
use crate::scenario::{DistilledDraft, Quantization, find, parse_json};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The layout of the folder that this program writes and reads.
pub const SCHEMA_VERSION: u32 = 1;
/// The kind of drafter, in `config.json` as in the draft file.
pub const KIND: &str = "distilled";
/// The name of the tensor with the ids that the head can give: uint32, ascending.
pub const DRAFT_IDS: &str = "draft_ids";

/// `config.json` of the folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FolderConfig {
    pub schema_version: u32,
    /// Always `distilled`.
    pub kind: String,
    /// The target's name.
    pub target: String,
    /// SHA-256 of the target's weights, in hexadecimal.
    pub target_sha256: String,
    /// The drafter's sizes, under the names of the hub's `config.json`.
    pub model: Value,
    /// Whether the target's hidden states are an input.
    pub feature_conditioned: bool,
    /// How many ids the head can give.
    pub head_vocabulary: i32,
    /// How the matrices are quantised in the file, where they are: `bits` and `group_size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Value>,
    /// What the training was, for people.
    #[serde(default)]
    pub training: Value,
}

/// A drafter's folder whose `config.json` was read.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    config: FolderConfig,
}

impl Folder {
    /// The folder that the draft file `file` names.
    pub fn open(file: &Path, draft: &DistilledDraft) -> Result<Folder> {
        let path = find(file, "path", &draft.path)?;
        let shown = path.join("config.json").display().to_string();
        let text = std::fs::read_to_string(path.join("config.json")).map_err(|error| {
            crate::usage!("{shown}: cannot be read ({error}); name a folder that ridgepoint distill made")
        })?;
        let config: FolderConfig = parse_json(&path.join("config.json"), &text)?;
        if config.schema_version != SCHEMA_VERSION {
            return Err(crate::usage!(
                "{shown}: schema_version: is {}, this program reads {SCHEMA_VERSION}; use the ridgepoint that made it",
                config.schema_version
            ));
        }
        if config.kind != KIND {
            return Err(crate::usage!("{shown}: kind: is '{}', not '{KIND}'; name another folder", config.kind));
        }
        Ok(Folder { path, config })
    }

    /// Refuses a target, loaded from `target`, with other weights than those that the drafter was trained for.
    pub fn check_target(&self, file: &Path, target: &Path) -> Result<()> {
        if weights_sha256(target)? == self.config.target_sha256 {
            return Ok(());
        }
        let (shown, trained, folder) = (target.display(), &self.config.target, self.path.display());
        Err(crate::usage!(
            "{}: path: {folder} was trained for '{trained}', and the weights of {shown} are others; train a drafter for them with ridgepoint distill, or insist with force = true",
            file.display()
        ))
    }

    /// The model as the draft file wants it: its matrices in `dtype` or in the type of the target's activations, or quantised.
    pub fn load(&self, target: &Transformer, draft: &DistilledDraft) -> Result<Transformer> {
        let source = self.path.join("config.json").display().to_string();
        let config = self.model_config(&source, target)?;
        let dtype = draft.dtype.map_or(target.dtype(), Into::into);
        let (_, mut weights) = weights::load(&self.path, &LoadOptions { dtype: Some(dtype), quantize: None })?;
        weights.check_memory()?;
        let ids = weights.take_ids(DRAFT_IDS, self.config.head_vocabulary)?;
        self.check_ids(&ids, config.vocab_size)?;
        #[cfg(target_os = "linux")]
        let _heap = weights.heap()?;
        let conditioned = self.config.feature_conditioned;
        let model = Transformer::take_drafter(target, config, &ids, conditioned, dtype, &mut weights)?;
        weights.finish()?;
        match draft.quantize {
            Some(Quantization { bits, group_size }) => model.products_quantized(bits, group_size),
            None => Ok(model),
        }
    }

    fn model_config(&self, source: &str, target: &Transformer) -> Result<config::Config> {
        let config = config_of(&format!("{source}: model"), &self.config.model)?;
        for (field, found, wanted) in [
            ("hidden_size", config.hidden_size, target.config.hidden_size),
            ("vocab_size", config.vocab_size, target.config.vocab_size),
        ] {
            if found != wanted {
                return Err(crate::usage!(
                    "{source}: model.{field}: is {found}, the target's is {wanted}; use a drafter trained for this target"
                ));
            }
        }
        if !(1..=config.vocab_size).contains(&self.config.head_vocabulary) {
            let (found, most) = (self.config.head_vocabulary, config.vocab_size);
            return Err(crate::usage!("{source}: head_vocabulary: must be 1 to {most}, got {found}"));
        }
        Ok(config)
    }

    fn check_ids(&self, ids: &[u32], vocab: i32) -> Result<()> {
        if ids.windows(2).all(|pair| pair[0] < pair[1]) && ids.last().is_some_and(|last| *last < vocab as u32) {
            return Ok(());
        }
        anyhow::bail!(
            "{}: tensor '{DRAFT_IDS}' is not ascending ids below {vocab}; train it again",
            self.path.display()
        )
    }
}
