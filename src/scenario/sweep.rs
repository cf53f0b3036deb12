//! Many operating points from one scenario: the `[sweep]` table, and the cells that it stands for.

use super::load::{Loaded, sha256_hex};
use super::precision::{Dtype, Quantization};
use super::range::Range;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// What is varied. An axis that is not given has the scenario's own value.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sweep {
    /// In the place of `target.model`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// In the place of `target.dtype` and `target.quantize`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub precisions: Vec<Precision>,
    /// In the place of `context`; prompts are lengthened to it, as by `fill_context`.
    pub contexts: Range,
    /// In the place of `batch`.
    pub batches: Range,
}

/// In what numbers a target's weights are held: `float32`, `4:64 float32`, `4`, or `stored`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Precision {
    /// As stored if none.
    pub dtype: Option<Dtype>,
    pub quantize: Option<Quantization>,
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Precision, String> {
        let refused =
            || format!("'{text}' is no precision; write a dtype, bits, bits:group, both, or stored: \"4:64 float32\"");
        let mut precision = Precision::default();
        let mut words = 0;
        for word in text.split_whitespace() {
            words += 1;
            if word == "stored" && words == 1 && text.trim() == word {
                continue;
            }
            match (word.parse::<Dtype>(), word.starts_with(|first: char| first.is_ascii_digit())) {
                (Ok(dtype), _) if precision.dtype.is_none() => precision.dtype = Some(dtype),
                (_, true) if precision.quantize.is_none() => precision.quantize = Some(word.parse()?),
                _ => return Err(refused()),
            }
        }
        if words == 0 { Err(refused()) } else { Ok(precision) }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.quantize, self.dtype) {
            (None, None) => f.write_str("stored"),
            (Some(quantize), None) => quantize.fmt(f),
            (None, Some(dtype)) => dtype.fmt(f),
            (Some(quantize), Some(dtype)) => write!(f, "{quantize} {dtype}"),
        }
    }
}

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Precision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Precision, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One operating point with one drafter: a scenario of its own.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Names its folder: the place in the plan, from 1, and what it differs in from others.
    pub name: String,
    /// The drafter's name.
    pub draft: String,
    pub loaded: Loaded,
}

impl Cell {
    pub fn precision(&self) -> Precision {
        let target = &self.loaded.scenario.target;
        Precision { dtype: target.dtype, quantize: target.quantize }
    }
}

/// The values of an axis, or the scenario's own.
fn axis<T: Clone>(values: &[T], own: T) -> Vec<T> {
    if values.is_empty() { vec![own] } else { values.to_vec() }
}

impl Loaded {
    /// Targets x drafts x precisions x contexts x batches, the first changing slowest. Without a `[sweep]` table a cell for
    /// each draft.
    pub fn cells(&self) -> Vec<Cell> {
        let scenario = &self.scenario;
        let sweep = scenario.sweep.clone().unwrap_or_default();
        let own = Precision { dtype: scenario.target.dtype, quantize: scenario.target.quantize };
        let contexts: Vec<Option<usize>> = sweep.contexts.values().iter().copied().map(Some).collect();
        let targets = axis(&sweep.targets, scenario.target.model.clone());
        let precisions = axis(&sweep.precisions, own);
        let contexts = axis(&contexts, scenario.context);
        let batches = axis(sweep.batches.values(), scenario.batch);
        let draft_name =
            |place: usize| self.drafts.get(place).map_or(&scenario.drafts[place], |draft| &draft.name).clone();
        let mut cells = Vec::new();
        for target in &targets {
            for place in 0..scenario.drafts.len() {
                for precision in &precisions {
                    for context in &contexts {
                        for batch in &batches {
                            let named = [
                                (targets.len() > 1).then(|| last_part(target)),
                                (scenario.drafts.len() > 1).then(|| draft_name(place)),
                                (precisions.len() > 1).then(|| precision.to_string()),
                                context.filter(|_| contexts.len() > 1).map(|context| format!("context{context}")),
                                (batches.len() > 1).then(|| format!("batch{batch}")),
                            ];
                            let mut loaded = self.clone();
                            loaded.drafts = self.drafts.get(place).cloned().into_iter().collect();
                            let cell = &mut loaded.scenario;
                            cell.sweep = None;
                            cell.target.model = target.clone();
                            (cell.target.dtype, cell.target.quantize) = (precision.dtype, precision.quantize);
                            cell.drafts = vec![scenario.drafts[place].clone()];
                            (cell.context, cell.batch) = (*context, *batch);
                            cell.fill_context |= !sweep.contexts.values().is_empty();
                            let name = folder_name(cells.len() + 1, named.into_iter().flatten());
                            loaded.sha256 = sha256_hex(format!("{} {name}", self.sha256).as_bytes());
                            cells.push(Cell { name, draft: draft_name(place), loaded });
                        }
                    }
                }
            }
        }
        cells
    }
}

/// Of a model's path or name what tells it from others.
fn last_part(model: &str) -> String {
    model.trim_end_matches('/').rsplit('/').next().unwrap_or(model).trim_end_matches(".gguf").to_string()
}

fn folder_name(place: usize, parts: impl Iterator<Item = String>) -> String {
    let mut name = format!("{place:03}");
    for part in parts {
        name.push('-');
        name.extend(part.chars().map(|c| if c.is_ascii_alphanumeric() || "._".contains(c) { c } else { '-' }));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    #[test]
    fn precisions_are_read_and_written_back() {
        for (text, dtype, bits) in [
            ("float32", Some(Dtype::Float32), None),
            ("4:32", None, Some((4, 32))),
            ("8:64 bfloat16", Some(Dtype::Bfloat16), Some((8, 64))),
            ("stored", None, None),
        ] {
            let precision: Precision = text.parse().unwrap();
            assert_eq!((precision.dtype, precision.quantize.map(|q| (q.bits, q.group_size))), (dtype, bits));
            assert_eq!(precision.to_string(), text);
        }
        assert_eq!("float32 4".parse::<Precision>().unwrap().to_string(), "4:64 float32");
        for text in ["", "int8", "float32 float16", "4 8", "7", "stored float32", "float32 stored"] {
            assert!(text.parse::<Precision>().is_err(), "{text}");
        }
    }

    #[test]
    fn cells_are_the_product_of_the_axes() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/quickstart.toml");
        let mut loaded = load(&file).unwrap();
        assert_eq!(
            loaded.cells().iter().map(|cell| &*cell.name).collect::<Vec<_>>(),
            ["001-prompt-lookup", "002-smollm2-135m-distilled"]
        );
        loaded.scenario.sweep = Some(Sweep {
            targets: vec!["models/a.gguf".into(), "hf://o/b".into()],
            precisions: vec!["float32".parse().unwrap(), "4:64 float32".parse().unwrap()],
            contexts: "64,128".parse().unwrap(),
            batches: Range::default(),
        });
        let cells = loaded.cells();
        assert_eq!(cells.len(), 16);
        assert_eq!(cells[0].name, "001-a-prompt-lookup-float32-context64");
        assert_eq!(cells[15].name, "016-b-smollm2-135m-distilled-4-64-float32-context128");
        let last = &cells[15].loaded.scenario;
        assert_eq!((last.target.model.as_str(), last.context, last.fill_context), ("hf://o/b", Some(128), true));
        assert_eq!(
            (last.drafts.as_slice(), &last.sweep),
            (&["drafts/smollm2-135m-distilled.toml".to_string()][..], &None)
        );
        assert_eq!(cells[15].precision().to_string(), "4:64 float32");
        let mut hashes: Vec<&str> = cells.iter().map(|cell| &*cell.loaded.sha256).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 16);
    }
}
