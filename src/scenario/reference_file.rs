//! `reference.toml`: what belongs to a published cost curve, beside its `cost.csv`.

use super::toml_file::{self, field_error};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file's name; a folder that has it holds published times instead of a run of this program.
pub const REFERENCE_FILE: &str = "reference.toml";

/// What the published times belong to, and the ceilings and drafters that were published with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceFile {
    /// Who published the numbers, and where.
    pub source: String,
    pub machine: String,
    /// Columns of `cost.csv` on which the source is silent.
    #[serde(default)]
    pub not_stated: Vec<String>,
    /// Confidence of the intervals.
    pub confidence: f64,
    /// Memory bandwidth of the data sheet, 10^9 bytes a second.
    pub bandwidth_gb_s: f64,
    /// Matrix rate of the data sheet or assumed, 10^12 FLOP a second.
    pub matrix_tflop_s: f64,
    /// Bandwidth that a copy reached, 10^9 bytes a second.
    pub copy_bandwidth_gb_s: f64,
    /// Models that could draft.
    #[serde(default)]
    pub drafters: Vec<PublishedDrafter>,
}

/// A model that could draft, with the time of one plain step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedDrafter {
    pub name: String,
    /// Milliseconds a drafted token.
    pub step_ms: f64,
}

impl ReferenceFile {
    /// Reads and checks the file of a folder.
    pub fn read(folder: &Path) -> Result<ReferenceFile> {
        let path = folder.join(REFERENCE_FILE);
        let file: ReferenceFile = toml_file::parse(&path, &toml_file::read_text(&path, "reference file")?)?;
        if !(0.5..=0.9999).contains(&file.confidence) {
            return Err(field_error(&path, "confidence", format!("must be 0.5 to 0.9999, got {}", file.confidence)));
        }
        let rates = [
            ("bandwidth_gb_s", file.bandwidth_gb_s),
            ("matrix_tflop_s", file.matrix_tflop_s),
            ("copy_bandwidth_gb_s", file.copy_bandwidth_gb_s),
        ];
        let steps = file.drafters.iter().map(|drafter| ("drafters.step_ms", drafter.step_ms));
        for (field, value) in rates.into_iter().chain(steps) {
            if !(value > 0.0 && value.is_finite()) {
                return Err(field_error(&path, field, format!("must be above 0, got {value}")));
            }
        }
        Ok(file)
    }
}
