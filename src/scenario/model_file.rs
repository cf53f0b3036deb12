//! Models by name: `scenarios/models/NAME.toml` says which checkpoint a name stands for, or gives the shapes of one whose
//! weights are made up when it is loaded. Timing needs no trained weights; acceptance does.

use super::precision::Dtype;
use super::toml_file::{self, field_error};
use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where files of named models lie, below a checkout.
const FOLDER: &str = "scenarios/models";

/// One `scenarios/models/NAME.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFile {
    /// The file's name without `.toml`.
    pub name: String,
    pub path: PathBuf,
    /// One sentence for people.
    pub description: String,
    pub weights: ModelWeights,
    /// The type the weights are held in unless something else is asked for; as stored if not given.
    pub dtype: Option<Dtype>,
}

/// Where the weights come from.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelWeights {
    /// A checkpoint's file, folder, name under `models/`, or `hf://org/name[@revision]`.
    Checkpoint(String),
    /// Random, in the shapes that this `config.json` gives.
    Synthetic(serde_json::Value),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["model"] }, { "required": ["config"] }]))]
struct Fields {
    /// One sentence for people.
    #[serde(default)]
    description: String,
    /// A checkpoint's file, folder, name under `models/`, or `hf://org/name[@revision]`.
    model: Option<String>,
    /// The `config.json` of a checkpoint, for random weights in its shapes.
    config: Option<serde_json::Value>,
    /// The type the weights are held in; as stored if not given.
    dtype: Option<Dtype>,
}

pub(super) fn json_schema() -> schemars::Schema {
    schemars::schema_for!(Fields)
}

impl ModelFile {
    /// The file of `name` in `scenarios/models` of `folder` or of a folder above it, if there is one.
    pub fn find(folder: &Path, name: &str) -> Result<Option<ModelFile>> {
        if !super::is_file_name(name) {
            return Ok(None);
        }
        let file = format!("{FOLDER}/{name}.toml");
        let found = folder.ancestors().map(|folder| folder.join(&file)).find(|path| path.is_file());
        found.map(|path| ModelFile::read(&path)).transpose()
    }

    /// Reads one file.
    pub fn read(path: &Path) -> Result<ModelFile> {
        let fields: Fields = toml_file::parse(path, &toml_file::read_text(path, "model file")?)?;
        let weights = match (fields.model, fields.config) {
            (Some(model), None) => ModelWeights::Checkpoint(model),
            (None, Some(config)) => ModelWeights::Synthetic(config),
            (Some(_), Some(_)) => {
                return Err(field_error(path, "config", "give either 'model' (trained) or 'config' (random weights)"));
            }
            (None, None) => {
                return Err(field_error(path, "model", "is missing; name a checkpoint, or give a [config]"));
            }
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Fields { description, dtype, .. } = fields;
        Ok(ModelFile { name, path: path.to_path_buf(), description, weights, dtype })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ModelFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.toml");
        std::fs::write(&path, text).unwrap();
        ModelFile::read(&path)
    }

    #[test]
    fn a_model_file_names_a_checkpoint_or_gives_shapes() {
        let trained = read("model = \"models/x\"\ndtype = \"float32\"").unwrap();
        assert_eq!((&*trained.name, trained.dtype), ("m", Some(Dtype::Float32)));
        assert_eq!(trained.weights, ModelWeights::Checkpoint("models/x".into()));
        let synthetic = read("[config]\nhidden_size = 8").unwrap();
        assert_eq!(synthetic.weights, ModelWeights::Synthetic(serde_json::json!({ "hidden_size": 8 })));
        for (text, expected) in [
            ("", "m.toml: model: is missing"),
            ("model = \"x\"\n[config]", "m.toml: config: give either"),
            ("modle = \"x\"", "unknown field `modle`"),
            ("model = \"x\"\ndtype = \"int8\"", "dtype"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(crate::error::exit_code(&error), 2);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_name_is_looked_for_in_the_checkout() {
        let found = ModelFile::find(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model").as_path(), "mistral-7b");
        assert!(matches!(found.unwrap().unwrap().weights, ModelWeights::Synthetic(_)));
        assert_eq!(ModelFile::find(Path::new("."), "../models/mistral-7b").unwrap(), None);
        assert_eq!(ModelFile::find(Path::new("."), "no-such-model").unwrap(), None);
    }
}
