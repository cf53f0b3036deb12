//! What `ridgepoint cost` declares before it measures.

use super::load::sha256_hex;
use super::machine_file::MachineFile;
use super::range::Range;
use super::schema::{MAX_TOKENS, MAX_WIDTH};
use crate::usage;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most sequences of one forward.
const MAX_BATCH: usize = 1024;
/// Most passes over all widths.
const MAX_PASSES: usize = 10_000;

/// The grid of one model's forwards, and how its curve is judged. It is copied to the results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CostPlan {
    /// The model as it was named.
    pub model: String,
    /// Tokens of one sequence in a forward.
    pub widths: Range,
    /// Tokens in the cache before the forward.
    pub contexts: Range,
    /// Sequences in a forward.
    pub batches: Range,
    /// Passes over the whole grid, each in its own random order.
    pub passes: usize,
    /// Drafters whose proposals are timed too, by name: their draft files.
    pub drafters: BTreeMap<String, serde_json::Value>,
    /// Tokens of a proposal.
    pub draft_lengths: Range,
    /// Of the random orders.
    pub seed: u64,
    /// Of every interval, and of all cliffs and falls of a curve together.
    pub confidence: f64,
    /// A cliff or fall by less than this share is none.
    pub smallest_change: f64,
    /// What a data sheet says of the machine; none where there is no such file.
    pub spec: Option<MachineFile>,
}

impl CostPlan {
    /// Refuses what cannot be measured, naming the flag.
    pub fn validate(self) -> Result<Self> {
        let within = |flag: &str, values: &Range, least: usize, most: usize| match values
            .values()
            .iter()
            .find(|value| !(least..=most).contains(value))
        {
            Some(value) => Err(usage!("--{flag}: must be {least} to {most}, got {value}")),
            None => Ok(()),
        };
        within("widths", &self.widths, 1, MAX_WIDTH)?;
        within("contexts", &self.contexts, 0, MAX_TOKENS)?;
        within("batches", &self.batches, 1, MAX_BATCH)?;
        within("draft-lengths", &self.draft_lengths, 1, MAX_WIDTH - 1)?;
        if !(1..=MAX_PASSES).contains(&self.passes) {
            return Err(usage!("--passes: must be 1 to {MAX_PASSES}, got {}", self.passes));
        }
        if !(0.5..=0.9999).contains(&self.confidence) {
            return Err(usage!("--confidence: must be 0.5 to 0.9999, got {}", self.confidence));
        }
        Ok(self)
    }

    /// SHA-256 of all of it, in hexadecimal.
    pub fn sha256(&self) -> Result<String> {
        Ok(sha256_hex(&serde_json::to_vec(self)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_measured_is_refused_by_its_flag() {
        let range = |text: &str| text.parse::<Range>().unwrap();
        let plan = CostPlan {
            model: "m".to_string(),
            widths: range("1-128"),
            contexts: range("0,256"),
            batches: range("1"),
            passes: 7,
            drafters: BTreeMap::new(),
            draft_lengths: range("1-16"),
            seed: 0,
            confidence: 0.95,
            smallest_change: 0.05,
            spec: None,
        };
        assert_eq!(plan.clone().validate().unwrap(), plan);
        for (plan, expected) in [
            (CostPlan { widths: range("0-4"), ..plan.clone() }, "--widths: must be 1 to 128, got 0"),
            (CostPlan { widths: range("129"), ..plan.clone() }, "--widths: must be 1 to 128, got 129"),
            (CostPlan { batches: range("0,1"), ..plan.clone() }, "--batches: must be 1 to 1024, got 0"),
            (CostPlan { contexts: range("99999999"), ..plan.clone() }, "--contexts: must be 0 to"),
            (CostPlan { draft_lengths: range("0"), ..plan.clone() }, "--draft-lengths: must be 1 to 127, got 0"),
            (CostPlan { passes: 0, ..plan.clone() }, "--passes: must be 1 to 10000, got 0"),
            (CostPlan { confidence: 1.0, ..plan.clone() }, "--confidence: must be 0.5 to 0.9999, got 1"),
        ] {
            let error = plan.validate().unwrap_err();
            assert_eq!(crate::error::exit_code(&error), 2);
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }
}
