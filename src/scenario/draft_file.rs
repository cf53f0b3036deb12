//! The TOML of a drafter (`drafts/*.toml`): its `kind` and the fields of that kind.

use super::precision::{Dtype, Quantization};
use super::schema::{MAX_WIDTH, within};
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
    Suffix(Suffix),
    Combined(CombinedDraft),
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
    /// Quantises what it multiplies by on load: `"bits"` or `"bits:group"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantize: Option<Quantization>,
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

/// The most frequent continuation, in prompt, output and earlier outputs, of an ending of the text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Suffix {
    /// The longest ending that is looked for.
    #[serde(default = "default_max_match")]
    pub max_match: usize,
    /// The shortest ending that counts as found.
    #[serde(default = "default_min_ngram")]
    pub min_match: usize,
    /// A draft ends before the estimated chance that all of it is accepted falls below this.
    #[serde(default = "default_min_probability")]
    pub min_probability: f64,
    /// A draft is at most this many times as long as the ending that it continues.
    #[serde(default = "default_length_factor")]
    pub length_factor: f64,
    /// No draft is longer.
    #[serde(default = "default_max_draft")]
    pub max_draft: usize,
    /// Files with earlier outputs, beside the draft file or in a folder above it: `.jsonl` with a field `text`, or plain text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corpus: Vec<String>,
}

/// A lookup where it is sure enough, else a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CombinedDraft {
    /// The draft file of a prompt-lookup or suffix drafter, beside this one or in a folder above it.
    pub lookup: String,
    /// The draft file of a drafter that runs a model.
    pub model: String,
    /// The least confidence of a found draft's first token with which it is taken: n / (n + 1) for one that was seen once
    /// behind n equal tokens.
    #[serde(default = "default_min_confidence")]
    pub min_confidence: f64,
}

fn default_max_match() -> usize {
    24
}

fn default_min_probability() -> f64 {
    0.1
}

fn default_length_factor() -> f64 {
    2.0
}

fn default_max_draft() -> usize {
    16
}

fn default_min_confidence() -> f64 {
    0.75
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
    /// Whether some of its tokens are found in text, and so may be none.
    pub fn looks_up(&self) -> bool {
        matches!(self, DraftSpec::PromptLookup(_) | DraftSpec::Suffix(_) | DraftSpec::Combined(_))
    }

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
            "suffix" => DraftSpec::Suffix(fields(path, text)?),
            "combined" => DraftSpec::Combined(fields(path, text)?),
            other => {
                let expected = "write \"model\", \"quantized-self\", \"layer-skip\", \"distilled\", \"prompt-lookup\", \"suffix\" or \"combined\"";
                return Err(field_error(path, "kind", format!("there is no kind '{other}'; {expected}")));
            }
        };
        spec.validate().map_err(|(field, message)| field_error(path, field, message))?;
        Ok(spec)
    }

    /// Sets `force` where the kind has it.
    pub fn insist(&mut self) {
        if let DraftSpec::Distilled(draft) = self {
            draft.force = true;
        }
    }

    /// The kind as the file spells it.
    pub fn kind(&self) -> &'static str {
        match self {
            DraftSpec::Model(_) => "model",
            DraftSpec::QuantizedSelf(_) => "quantized-self",
            DraftSpec::LayerSkip(_) => "layer-skip",
            DraftSpec::Distilled(_) => "distilled",
            DraftSpec::PromptLookup(_) => "prompt-lookup",
            DraftSpec::Suffix(_) => "suffix",
            DraftSpec::Combined(_) => "combined",
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
            DraftSpec::Suffix(this) => this.validate(),
            DraftSpec::Combined(this) => within("min_confidence", this.min_confidence, 0.0, 1.0),
        }
    }
}

impl Suffix {
    fn validate(&self) -> Result<(), (&'static str, String)> {
        within("max_match", self.max_match, 1, MAX_NGRAM)?;
        within("min_match", self.min_match, 1, self.max_match)?;
        within("min_probability", self.min_probability, 0.0, 1.0)?;
        within("length_factor", self.length_factor, 0.01, 1000.0)?;
        within("max_draft", self.max_draft, 1, MAX_WIDTH - 1)
    }
}

/// The one field that every draft file has; the others are read by the kind's own struct.
#[derive(Deserialize)]
struct Kind {
    kind: String,
}

/// The kind's own fields: everything in the file but `kind`, `description` and the `[stop]` table.
/// Read in a second pass rather than by an internally tagged enum, which would lose the field's name in errors.
fn fields<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    let mut table: toml::Table = toml_file::parse(path, text)?;
    table.remove("kind");
    // Read on its own: see `StopSpec`.
    table.remove("stop");
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
        let distilled = DistilledDraft { path: "drafts/a".into(), dtype: None, quantize: None, force: true };
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
            ("kind = \"suffix\"\nmax_match = 0", "drafts/x.toml: max_match: must be 1 to 64, got 0"),
            ("kind = \"suffix\"\nmin_match = 30", "drafts/x.toml: min_match: must be 1 to 24, got 30"),
            ("kind = \"suffix\"\nmin_probability = nan", "drafts/x.toml: min_probability: must be 0 to 1, got NaN"),
            ("kind = \"suffix\"\nlength_factor = 0", "drafts/x.toml: length_factor: must be 0.01 to 1000, got 0"),
            ("kind = \"suffix\"\nmax_draft = 128", "drafts/x.toml: max_draft: must be 1 to 127, got 128"),
            ("kind = \"combined\"\nmodel = \"m\"", "drafts/x.toml: missing field `lookup`"),
            (
                "kind = \"combined\"\nmodel = \"m\"\nlookup = \"l\"\nmin_confidence = 2",
                "drafts/x.toml: min_confidence: must be 0 to 1, got 2",
            ),
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
