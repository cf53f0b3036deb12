//! A scenario file with everything that it refers to.

use super::draft_file::DraftSpec;
use super::model_file::{ModelFile, ModelWeights};
use super::prompts::{PromptSet, load_prompts};
use super::schema::Scenario;
use super::stop_spec::StopSpec;
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
    /// The drafters in the scenario's order; none where it is simulated.
    pub drafts: Vec<NamedDraft>,
    /// All prompts of the set; none where it makes up its own.
    pub prompts: PromptSet,
}

/// A drafter with the name that results use: its file's name without `.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedDraft {
    pub name: String,
    pub path: PathBuf,
    pub spec: DraftSpec,
    /// The rule that ends its drafts early, if it has one.
    pub stop: Option<StopSpec>,
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
    let scenario = parse(path, &text)?;
    if scenario.simulated.is_some() {
        let (path, sha256) = (path.to_path_buf(), sha256_hex(text.as_bytes()));
        return Ok(Loaded { path, scenario, sha256, drafts: Vec::new(), prompts: PromptSet::default() });
    }
    let drafts = load_drafts(path, &scenario)?;
    if scenario.supposed.is_some() {
        let (path, sha256) = (path.to_path_buf(), sha256_hex(text.as_bytes()));
        return Ok(Loaded { path, scenario, sha256, drafts, prompts: PromptSet::default() });
    }
    let prompts = load_prompts(&find(path, "prompts", &scenario.prompts)?)?;
    let (needed, there) = (scenario.tune_prompts + scenario.confirm_prompts, prompts.prompts.len());
    if needed > there {
        let message = format!("tune_prompts + confirm_prompts = {needed}, but '{}' has {there}", scenario.prompts);
        return Err(field_error(path, "prompts", message));
    }
    Ok(Loaded { path: path.to_path_buf(), scenario, sha256: sha256_hex(text.as_bytes()), drafts, prompts })
}

/// A scenario from its text, validated; what it refers to is not looked for. `path` serves the messages.
pub fn parse(path: &Path, text: &str) -> Result<Scenario> {
    let scenario: Scenario = toml_file::parse(path, text)?;
    scenario.validate().map_err(|(field, message)| field_error(path, field, message))
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
        let draft = NamedDraft { name, spec: DraftSpec::read(&file)?, stop: StopSpec::read(&file)?, path: file };
        if scenario.supposed.is_some() && (draft.spec.looks_up() || draft.stop.is_some()) {
            let message = format!(
                "'{}' drafts by what its text says, which means nothing here; name a model without a rule",
                draft.name
            );
            return Err(field_error(path, &field, message));
        }
        drafts.push(draft);
    }
    Ok(drafts)
}

/// What an entry of a scenario or draft file names: as it is if absolute, else beside that file or in a folder above it.
pub fn find(file: &Path, field: &str, entry: &str) -> Result<PathBuf> {
    locate(file, entry).ok_or_else(|| {
        let message = format!("'{entry}' is neither beside this file nor in a folder above it; check the path");
        field_error(file, field, message)
    })
}

fn locate(file: &Path, entry: &str) -> Option<PathBuf> {
    let folder = std::path::absolute(file).ok()?;
    folder.ancestors().skip(1).map(|folder| folder.join(entry)).find(|candidate| candidate.exists())
}

impl ModelSource {
    /// Finds a model named in `file` (a scenario or draft file) under `field`: `hf://org/name[@revision]`, a path, or
    /// a name under `models/` or of `scenarios/models/NAME.toml`; paths are relative to the file or to a folder above it.
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
        let folder = std::path::absolute(file)?;
        if let Some(named) = ModelFile::find(&folder, model)? {
            return match named.weights {
                ModelWeights::Checkpoint(checkpoint) => ModelSource::find(&named.path, "model", &checkpoint),
                ModelWeights::Synthetic(_) => {
                    let message = format!(
                        "'{model}' has random weights, whose text and acceptance mean nothing; name a trained checkpoint"
                    );
                    Err(field_error(file, field, message))
                }
            };
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
    /// The model with random weights that acceptance is supposed for.
    pub fn random_target(&self) -> Result<ModelFile> {
        let model = &self.scenario.target.model;
        match ModelFile::find(&std::path::absolute(&self.path)?, model)? {
            Some(file) if matches!(file.weights, ModelWeights::Synthetic(_)) => Ok(file),
            _ => {
                let message = format!(
                    "'{model}' is no model with random weights (scenarios/models); what a checkpoint accepts is measured, without [supposed]"
                );
                Err(field_error(&self.path, "target.model", message))
            }
        }
    }

    /// Where the target's checkpoint is.
    pub fn target_source(&self) -> Result<ModelSource> {
        ModelSource::find(&self.path, "target.model", &self.scenario.target.model)
    }
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const SCENARIO: &str = r#"
name = "small"
drafts = ["drafts/lookup.toml"]
draft_lengths = "2-4"
prompts = "p.jsonl"
tune_prompts = 3
max_tokens = 8
[target]
model = "tiny"
"#;

    /// A checkout with `scenarios/small.toml` and what it needs.
    fn checkout(scenario: &str) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        for folder in ["scenarios", "drafts", "models/tiny"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("drafts/lookup.toml"), "kind = \"prompt-lookup\"\nmax_ngram = 3").unwrap();
        let prompts: String =
            (0..4).map(|i| format!("{{\"id\":\"p{i}\",\"category\":\"c\",\"prompt\":\"hello {i}\"}}\n")).collect();
        fs::write(root.path().join("scenarios/p.jsonl"), prompts).unwrap();
        let path = root.path().join("scenarios/small.toml");
        fs::write(&path, scenario).unwrap();
        (root, path)
    }

    fn error(scenario: &str) -> String {
        let (_root, path) = checkout(scenario);
        let error = load(&path).unwrap_err();
        assert_eq!(crate::error::exit_code(&error), 2);
        let text = format!("{error:#}");
        assert!(text.contains("small.toml:"), "{text}");
        assert!(!text.contains('\n'), "{text}");
        text
    }

    #[test]
    fn a_scenario_is_loaded_with_drafts_prompts_and_defaults() {
        let (root, path) = checkout(SCENARIO);
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.scenario.draft_lengths.values(), [0, 2, 3, 4]);
        assert_eq!((loaded.scenario.confidence, loaded.scenario.practical_margin), (0.95, 0.02));
        assert_eq!(loaded.drafts[0].name, "lookup");
        assert_eq!(loaded.prompts.prompts.len(), 4);
        assert_eq!(loaded.target_source().unwrap(), ModelSource::Local(root.path().join("models/tiny")));
        assert_eq!(loaded.sha256, sha256_hex(SCENARIO.as_bytes()));
        // The one-block example of FIPS 180-4.
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn every_bad_field_is_named_with_what_it_may_be() {
        let changed = |from: &str, to: &str| {
            assert!(SCENARIO.contains(from));
            SCENARIO.replace(from, to)
        };
        for (text, expected) in [
            (changed("max_tokens = 8", "max_tokens = 1"), "max_tokens: must be 2 to"),
            (changed("max_tokens = 8", "max_token = 8"), "unknown field `max_token`"),
            (changed("max_tokens = 8", ""), "missing field `max_tokens`"),
            (changed("max_tokens = 8", "max_tokens = \"8\""), "line 7: max_tokens: invalid type: string"),
            (
                changed("max_tokens = 8", "max_tokens = 8\nconfidence = 1.5"),
                "confidence: must be 0.5 to 0.9999, got 1.5",
            ),
            (changed("max_tokens = 8", "max_tokens = 8\nconfidence = nan"), "confidence: must be 0.5 to 0.9999"),
            (changed("max_tokens = 8", "max_tokens = 8\ntime_budget = \"soon\""), "time_budget: 'soon' is not a time"),
            (changed("max_tokens = 8", "max_tokens = 8\nwidths = [1, 129]"), "widths: must be 1 to 128, got 129"),
            (changed("max_tokens = 8", "max_tokens = 8\nwidths = [1, \"x\"]"), "widths[1]: 'x' is not a range"),
            (changed("2-4", "2-200"), "draft_lengths: must be 1 to 127, got 200"),
            (changed("2-4", "0"), "draft_lengths: must be 1 to 127, got 0"),
            (changed("\"small\"", "\"../x\""), "name: '../x'"),
            (changed("drafts/lookup", "drafts/none"), "drafts[0]: 'drafts/none.toml' is neither beside"),
            (changed("[\"drafts/lookup.toml\"]", "[]"), "drafts: is empty"),
            (
                changed("[\"drafts/lookup.toml\"]", "[\"drafts/lookup.toml\", \"../drafts/lookup.toml\"]"),
                "drafts[1]: a second drafter named 'lookup'",
            ),
            (
                changed("tune_prompts = 3", "tune_prompts = 3\nconfirm_prompts = 2"),
                "confirm_prompts = 5, but 'p.jsonl' has 4",
            ),
            (changed("p.jsonl", "q.jsonl"), "prompts: 'q.jsonl' is neither"),
            (changed("\"tiny\"", "\"tiny\"\ndtype = \"int8\""), "target.dtype: unknown variant `int8`"),
            (changed("\"tiny\"", "\"tiny\"\nquantize = \"3:7\""), "target.quantize: groups of 7"),
            ("name = ".to_string(), "line 1:"),
        ] {
            let error = error(&text);
            assert!(error.contains(expected), "expected '{expected}' in: {error}");
        }
    }

    #[test]
    fn a_model_with_random_weights_is_no_target() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/quickstart.toml");
        let error = ModelSource::find(&file, "target.model", "mistral-7b").unwrap_err().to_string();
        assert!(error.ends_with("quickstart.toml: target.model: 'mistral-7b' has random weights, whose text and acceptance mean nothing; name a trained checkpoint"), "{error}");
    }

    #[test]
    fn models_are_found_by_path_by_name_and_on_the_hub() {
        let (root, path) = checkout(SCENARIO);
        let find = |model: &str| ModelSource::find(&path, "target.model", model).map_err(|error| error.to_string());
        let tiny = ModelSource::Local(root.path().join("models/tiny"));
        assert_eq!(find("models/tiny"), Ok(tiny.clone()));
        assert_eq!(find("tiny"), Ok(tiny));
        assert_eq!(find("hf://a/b@v1"), Ok(ModelSource::Hub("hf://a/b@v1".to_string())));
        for wrong in ["hf://a", "hf:///b", "hf://a/b/c", "hf://a/b@"] {
            assert!(find(wrong).unwrap_err().contains("write hf://org/name"), "{wrong}");
        }
        assert!(find("huge").unwrap_err().contains("there is no model 'huge'; fetch it"));
    }

    #[test]
    fn a_scenario_that_is_no_file_is_refused() {
        let (root, _) = checkout(SCENARIO);
        let message = |path: &Path| load(path).unwrap_err().to_string();
        assert!(message(&root.path().join("scenarios")).contains("is a folder"));
        assert!(message(&root.path().join("no.toml")).contains("cannot read this scenario"));
        let binary = root.path().join("binary.toml");
        fs::write(&binary, [0xff, 0xfe]).unwrap();
        assert!(message(&binary).contains("is not UTF-8"));
    }
}
