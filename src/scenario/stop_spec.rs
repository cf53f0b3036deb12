//! The `[stop]` table of a draft file: the rule that ends drafts before the draft length.

use super::toml_file::{self, field_error};
use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A rule as declared; `src/roofline/stop.rs` says what each does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum StopSpec {
    /// Ends before the first token whose confidence is below `threshold`.
    PMin { threshold: f64 },
    /// Ends before the first token for which 1 - √(`weight` · entropy) is below `threshold`.
    Entropy {
        #[serde(default = "default_weight")]
        weight: f64,
        threshold: f64,
    },
    /// As long as the average acceptance of about the last `memory` draft tokens makes likely.
    AcceptanceAverage {
        #[serde(default = "default_memory")]
        memory: f64,
    },
    /// Ends where a further token is expected to gain less than it costs on the measured t(b).
    CostAware {
        /// A results folder whose traces and costs the rule is fitted on, beside the draft file or in a folder above it;
        /// `tune` fits it on its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fitted: Option<String>,
    },
}

/// AdaEDL's.
fn default_weight() -> f64 {
    0.2
}

fn default_memory() -> f64 {
    16.0
}

/// What a draft file is read for here.
#[derive(Deserialize)]
struct Table {
    kind: String,
    stop: Option<toml::Value>,
}

impl StopSpec {
    /// The rule of a draft file; none if it has no `[stop]` table.
    pub fn read(path: &Path) -> Result<Option<StopSpec>> {
        StopSpec::parse(path, &toml_file::read_text(path, "draft file")?)
    }

    /// The same from text; `path` serves the messages.
    pub fn parse(path: &Path, text: &str) -> Result<Option<StopSpec>> {
        let table: Table = toml_file::parse(path, text)?;
        let Some(stop) = table.stop else { return Ok(None) };
        let spec: StopSpec =
            stop.try_into().map_err(|error: toml::de::Error| field_error(path, "stop", error.message()))?;
        spec.validate().map_err(|(field, message)| field_error(path, field, message))?;
        if matches!(spec, StopSpec::Entropy { .. }) && ["prompt-lookup", "suffix"].contains(&table.kind.as_str()) {
            let message =
                format!("a {} drafter has no distribution to take the entropy of; use another rule", table.kind);
            return Err(field_error(path, "stop.kind", message));
        }
        Ok(Some(spec))
    }

    /// The kind as the file spells it.
    pub fn kind(&self) -> &'static str {
        match self {
            StopSpec::PMin { .. } => "p-min",
            StopSpec::Entropy { .. } => "entropy",
            StopSpec::AcceptanceAverage { .. } => "acceptance-average",
            StopSpec::CostAware { .. } => "cost-aware",
        }
    }

    fn validate(&self) -> Result<(), (&'static str, String)> {
        let within = |field, value: f64, low: f64, high: f64| match (low..=high).contains(&value) {
            true => Ok(()),
            false => Err((field, format!("must be {low} to {high}, got {value}"))),
        };
        match self {
            StopSpec::PMin { threshold } => within("stop.threshold", *threshold, 0.0, 1.0),
            StopSpec::Entropy { weight, threshold } => {
                within("stop.weight", *weight, 0.0, 100.0)?;
                within("stop.threshold", *threshold, 0.0, 1.0)
            }
            StopSpec::AcceptanceAverage { memory } => within("stop.memory", *memory, 1.0, 1e6),
            StopSpec::CostAware { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<StopSpec>, String> {
        StopSpec::parse(Path::new("drafts/x.toml"), text).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn each_rule_is_read() {
        let rule = |stop: &str| parse(&format!("kind = \"layer-skip\"\nlayers = 2\n[stop]\n{stop}")).unwrap().unwrap();
        assert_eq!(rule("kind = \"p-min\"\nthreshold = 0.4"), StopSpec::PMin { threshold: 0.4 });
        assert_eq!(rule("kind = \"entropy\"\nthreshold = 0.3"), StopSpec::Entropy { weight: 0.2, threshold: 0.3 });
        assert_eq!(rule("kind = \"acceptance-average\""), StopSpec::AcceptanceAverage { memory: 16.0 });
        assert_eq!(rule("kind = \"cost-aware\""), StopSpec::CostAware { fitted: None });
        assert_eq!(parse("kind = \"layer-skip\"").unwrap(), None);
    }

    #[test]
    fn errors_name_the_file_and_the_field() {
        let stop = |kind: &str, stop: &str| format!("kind = \"{kind}\"\n[stop]\n{stop}");
        for (text, expected) in [
            (stop("model", "kind = \"hope\""), "drafts/x.toml: stop: unknown variant `hope`"),
            (stop("model", "kind = \"p-min\""), "drafts/x.toml: stop: missing field `threshold`"),
            (
                stop("model", "kind = \"p-min\"\nthreshold = 1.5"),
                "drafts/x.toml: stop.threshold: must be 0 to 1, got 1.5",
            ),
            (stop("model", "kind = \"p-min\"\nthreshold = nan"), "drafts/x.toml: stop.threshold: must be 0 to 1"),
            (stop("model", "kind = \"p-min\"\nthreshold = 0.5\nx = 1"), "drafts/x.toml: stop: unknown field `x`"),
            (stop("model", "kind = \"acceptance-average\"\nmemory = 0.5"), "drafts/x.toml: stop.memory: must be 1 to"),
            (
                stop("suffix", "kind = \"entropy\"\nthreshold = 0.5"),
                "drafts/x.toml: stop.kind: a suffix drafter has no",
            ),
            ("kind = \"model\"\nstop = 3".to_string(), "drafts/x.toml: stop: "),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(expected), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
