//! The TOML of a drafter (`drafts/*.toml`): its `kind` and the fields of that kind.

use super::precision::{Dtype, Quantization};
use super::toml_file::{self, field_error};
use anyhow::Result;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What proposes tokens. A drafter's name, in results and messages, is its file's name without `.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DraftSpec {
    Model(ModelDraft),
    QuantizedSelf(QuantizedSelf),
    LayerSkip(LayerSkip),
    Distilled(DistilledDraft),
    PromptLookup(PromptLookup),
}

/// Another checkpoint with the target's vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelDraft {
    /// A checkpoint's file, folder, name under `models/`, or `hf://org/name[@revision]`.
    pub path: String,
    /// The type its weights are held in; as stored if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    /// Quantises the weights on load: `"bits"` or `"bits:group"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantize: Option<Quantization>,
}

/// The target itself with its weights at fewer bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantizedSelf {
    /// Bits a weight: 2, 3, 4, 5, 6 or 8.
    pub bits: i32,
    /// Weights that share a scale: 32, 64 or 128.
    #[serde(default = "default_group_size")]
    pub group_size: i32,
}

/// The target's first layers with its own final norm and head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerSkip {
    /// How many of the target's layers, counted from the first.
    pub layers: usize,
}

/// A shallow drafter that `ridgepoint distill` trained for one target, whose embedding it shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DistilledDraft {
    /// The folder that was made, beside the draft file or in a folder above it.
    pub path: String,
    /// The type its weights are held in; that of the target's activations if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    /// Drafts for a target with other weights than those it was trained for, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// The continuation of the latest earlier occurrence, in prompt and output, of the last few tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptLookup {
    /// The longest run of last tokens that is looked for; it is tried first.
    pub max_ngram: usize,
    /// The shortest run that counts as found.
    #[serde(default = "default_min_ngram")]
    pub min_ngram: usize,
}

fn default_group_size() -> i32 {
    Quantization::DEFAULT_GROUP_SIZE
}

fn default_min_ngram() -> usize {
    1
}

/// The longest n-gram that can be looked for.
const MAX_NGRAM: usize = 64;

impl DraftSpec {
    /// Reads and validates a drafter's file.
    pub fn read(path: &Path) -> Result<DraftSpec> {
        DraftSpec::parse(path, &toml_file::read_text(path, "draft file")?)
    }

    /// The same from text; `path` serves the messages.
    pub fn parse(path: &Path, text: &str) -> Result<DraftSpec> {
        let kind = toml_file::parse::<Kind>(path, text)?.kind;
        let spec = match kind.as_str() {
            "model" => DraftSpec::Model(fields(path, text)?),
            "quantized-self" => DraftSpec::QuantizedSelf(fields(path, text)?),
            "layer-skip" => DraftSpec::LayerSkip(fields(path, text)?),
            "distilled" => DraftSpec::Distilled(fields(path, text)?),
            "prompt-lookup" => DraftSpec::PromptLookup(fields(path, text)?),
            other => {
                let expected =
                    "write \"model\", \"quantized-self\", \"layer-skip\", \"distilled\" or \"prompt-lookup\"";
                return Err(field_error(path, "kind", format!("there is no kind '{other}'; {expected}")));
            }
        };
        spec.validate().map_err(|(field, message)| field_error(path, field, message))?;
        Ok(spec)
    }

    /// The kind as the file spells it.
    pub fn kind(&self) -> &'static str {
        match self {
            DraftSpec::Model(_) => "model",
            DraftSpec::QuantizedSelf(_) => "quantized-self",
            DraftSpec::LayerSkip(_) => "layer-skip",
            DraftSpec::Distilled(_) => "distilled",
            DraftSpec::PromptLookup(_) => "prompt-lookup",
        }
    }

    fn validate(&self) -> Result<(), (&'static str, String)> {
        match self {
            DraftSpec::Model(model) if model.path.trim().is_empty() => {
                Err(("path", "is empty; name a checkpoint".to_string()))
            }
            DraftSpec::Model(_) => Ok(()),
            DraftSpec::QuantizedSelf(this) => {
                let field = if Quantization::BITS.contains(&this.bits) { "group_size" } else { "bits" };
                Quantization::new(this.bits, this.group_size).map(|_| ()).map_err(|message| (field, message))
            }
            DraftSpec::LayerSkip(this) if this.layers == 0 => Err(("layers", "must be at least 1, got 0".to_string())),
            DraftSpec::LayerSkip(_) => Ok(()),
            DraftSpec::Distilled(this) if this.path.trim().is_empty() => {
                Err(("path", "is empty; name a folder that ridgepoint distill made".to_string()))
            }
            DraftSpec::Distilled(_) => Ok(()),
            DraftSpec::PromptLookup(this) => {
                if !(1..=MAX_NGRAM).contains(&this.max_ngram) {
                    return Err(("max_ngram", format!("must be 1 to {MAX_NGRAM}, got {}", this.max_ngram)));
                }
                if !(1..=this.max_ngram).contains(&this.min_ngram) {
                    let (min, max) = (this.min_ngram, this.max_ngram);
                    return Err(("min_ngram", format!("must be 1 to max_ngram = {max}, got {min}")));
                }
                Ok(())
            }
        }
    }
}

/// The one field that every draft file has; the others are read by the kind's own struct.
#[derive(Deserialize)]
struct Kind {
    kind: String,
}

/// The kind's own fields: everything in the file but `kind` and `description`.
/// Read in a second pass rather than by an internally tagged enum, which would lose the field's name in errors.
fn fields<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    let mut table: toml::Table = toml_file::parse(path, text)?;
    table.remove("kind");
    if let Some(description) = table.remove("description")
        && !description.is_str()
    {
        return Err(field_error(path, "description", "must be a string"));
    }
    serde_path_to_error::deserialize(table).map_err(|error| {
        let field = error.path().to_string();
        let message = error.inner().message().to_string();
        if field == "." { crate::usage!("{}: {message}", path.display()) } else { field_error(path, &field, message) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DraftSpec, String> {
        DraftSpec::parse(Path::new("drafts/x.toml"), text).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn each_kind_is_read() {
        let spec = parse("kind = \"prompt-lookup\"\nmax_ngram = 3").unwrap();
        assert_eq!(spec, DraftSpec::PromptLookup(PromptLookup { max_ngram: 3, min_ngram: 1 }));
        let spec = parse("kind = \"layer-skip\"\ndescription = \"two layers\"\nlayers = 2").unwrap();
        assert_eq!(spec, DraftSpec::LayerSkip(LayerSkip { layers: 2 }));
        let spec = parse("kind = \"distilled\"\npath = \"drafts/a\"\nforce = true").unwrap();
        let distilled = DistilledDraft { path: "drafts/a".into(), dtype: None, force: true };
        assert_eq!(spec, DraftSpec::Distilled(distilled));
        let spec = parse("kind = \"quantized-self\"\nbits = 4").unwrap();
        assert_eq!(spec, DraftSpec::QuantizedSelf(QuantizedSelf { bits: 4, group_size: 64 }));
        let spec = parse("kind = \"model\"\npath = \"hf://a/b\"\ndtype = \"bfloat16\"\nquantize = \"4:32\"").unwrap();
        let DraftSpec::Model(model) = &spec else { panic!("{spec:?}") };
        assert_eq!(model.dtype, Some(Dtype::Bfloat16));
        assert_eq!(model.quantize, Some(Quantization { bits: 4, group_size: 32 }));
        assert_eq!(serde_json::to_value(&spec).unwrap()["kind"], spec.kind());
    }

    #[test]
    fn errors_name_the_file_and_the_field() {
        for (text, expected) in [
            ("", "drafts/x.toml: line 1: missing field `kind`"),
            ("kind = \"magic\"", "drafts/x.toml: kind: there is no kind 'magic'"),
            ("kind = \"layer-skip\"", "drafts/x.toml: missing field `layers`"),
            ("kind = \"layer-skip\"\nlayers = 0", "drafts/x.toml: layers: must be at least 1"),
            ("kind = \"layer-skip\"\nlayers = \"2\"", "drafts/x.toml: layers: invalid type"),
            ("kind = \"layer-skip\"\nlayers = 2\ndepth = 1", "drafts/x.toml: depth: unknown field `depth`"),
            ("kind = \"quantized-self\"\nbits = 7", "drafts/x.toml: bits: 7 bits"),
            ("kind = \"quantized-self\"\nbits = 4\ngroup_size = 7", "drafts/x.toml: group_size: groups of 7"),
            ("kind = \"prompt-lookup\"\nmax_ngram = 0", "drafts/x.toml: max_ngram: must be 1 to 64"),
            ("kind = \"prompt-lookup\"\nmax_ngram = 2\nmin_ngram = 3", "drafts/x.toml: min_ngram: must be 1 to"),
            ("kind = \"model\"\npath = \" \"", "drafts/x.toml: path: is empty"),
            ("kind = \"distilled\"\npath = \"\"", "drafts/x.toml: path: is empty; name a folder"),
            ("kind = \"distilled\"\npath = \"a\"\nforce = 1", "drafts/x.toml: force: invalid type"),
            ("kind = \"model\"\npath = \"a\"\nquantize = \"1\"", "drafts/x.toml: quantize: 1 bits"),
            ("kind = \"model\"\npath = \"a\"\ndtype = \"f8\"", "drafts/x.toml: dtype: unknown variant `f8`"),
            ("kind = [", "drafts/x.toml: line 1:"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
