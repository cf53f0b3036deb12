//! A scenario file with everything that it refers to.

use super::draft_file::DraftSpec;
use super::prompts::{PromptSet, load_prompts};
use super::schema::Scenario;
use super::toml_file::{self, field_error};
use crate::usage;
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A scenario, validated, with its draft files and its prompts.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The scenario's own file.
    pub path: PathBuf,
    pub scenario: Scenario,
    /// SHA-256 of the scenario's text, in hexadecimal.
    pub sha256: String,
    /// The drafters in the scenario's order.
    pub drafts: Vec<NamedDraft>,
    /// All prompts of the set.
    pub prompts: PromptSet,
}

/// A drafter with the name that results use: its file's name without `.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedDraft {
    pub name: String,
    pub path: PathBuf,
    pub spec: DraftSpec,
}

/// Where a checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A file or folder that exists.
    Local(PathBuf),
    /// `hf://org/name[@revision]`.
    Hub(String),
}

/// Reads a scenario, its draft files and its prompts. Models are not looked for: see [`ModelSource::find`].
pub fn load(path: &Path) -> Result<Loaded> {
    let text = toml_file::read_text(path, "scenario")?;
    let scenario: Scenario = toml_file::parse(path, &text)?;
    let scenario = scenario.validate().map_err(|(field, message)| field_error(path, field, message))?;
    let drafts = load_drafts(path, &scenario)?;
    let prompts = load_prompts(&find(path, "prompts", &scenario.prompts)?)?;
    let (needed, there) = (scenario.tune_prompts + scenario.confirm_prompts, prompts.prompts.len());
    if needed > there {
        let message = format!("tune_prompts + confirm_prompts = {needed}, but '{}' has {there}", scenario.prompts);
        return Err(field_error(path, "prompts", message));
    }
    Ok(Loaded { path: path.to_path_buf(), scenario, sha256: sha256_hex(text.as_bytes()), drafts, prompts })
}

fn load_drafts(path: &Path, scenario: &Scenario) -> Result<Vec<NamedDraft>> {
    let mut drafts: Vec<NamedDraft> = Vec::new();
    for (index, entry) in scenario.drafts.iter().enumerate() {
        let field = format!("drafts[{index}]");
        let file = find(path, &field, entry)?;
        let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_string();
        if name.is_empty() || name == "target" || name == "plain" {
            return Err(field_error(path, &field, format!("'{name}' cannot name a drafter; rename the file")));
        }
        if drafts.iter().any(|other| other.name == name) {
            return Err(field_error(path, &field, format!("a second drafter named '{name}'; rename one of the files")));
        }
        drafts.push(NamedDraft { name, spec: DraftSpec::read(&file)?, path: file });
    }
    Ok(drafts)
}

/// The file that a scenario's entry names: as it is if absolute, else beside the scenario or in a folder above it.
fn find(scenario: &Path, field: &str, entry: &str) -> Result<PathBuf> {
    locate(scenario, entry).ok_or_else(|| {
        let message = format!("'{entry}' is neither beside the scenario nor in a folder above it; check the path");
        field_error(scenario, field, message)
    })
}

fn locate(scenario: &Path, entry: &str) -> Option<PathBuf> {
    let folder = std::path::absolute(scenario).ok()?;
    folder.ancestors().skip(1).map(|folder| folder.join(entry)).find(|candidate| candidate.exists())
}

impl ModelSource {
    /// Finds a model named in `file` (a scenario or draft file) under `field`: `hf://org/name[@revision]`, a path, or
    /// a name under `models/`; paths are relative to the file or to a folder above it.
    pub fn find(file: &Path, field: &str, model: &str) -> Result<ModelSource> {
        if let Some(repository) = model.strip_prefix("hf://") {
            let (name, revision) = repository.split_once('@').unwrap_or((repository, "main"));
            let well_formed = name.split('/').count() == 2 && name.split('/').all(|part| !part.is_empty());
            if !well_formed || revision.is_empty() {
                let message = format!("'{model}' is not a repository; write hf://org/name or hf://org/name@revision");
                return Err(field_error(file, field, message));
            }
            return Ok(ModelSource::Hub(model.to_string()));
        }
        let under_models = format!("models/{model}");
        let found = locate(file, model).or_else(|| locate(file, &under_models));
        found.map(ModelSource::Local).ok_or_else(|| {
            usage!(
                "{}: {field}: there is no model '{model}'; fetch it with scripts/fetch-model or ridgepoint fetch, or correct the path",
                file.display()
            )
        })
    }
}

impl Loaded {
    /// Where the target's checkpoint is.
    pub fn target_source(&self) -> Result<ModelSource> {
        ModelSource::find(&self.path, "target.model", &self.scenario.target.model)
    }
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
