//! Results of `vllm bench serve --save-result --save-detailed`, one file for each draft length: a request is a run of a
//! prompt, timed from its first token on.

use super::rows::RunRow;
use crate::usage;
use anyhow::Result;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One file; what else it says is not needed.
#[derive(Deserialize)]
struct Bench {
    input_lens: Vec<u64>,
    output_lens: Vec<u64>,
    /// Of each request, the seconds between the pieces that it was answered in.
    itls: Vec<Vec<f64>>,
    errors: Vec<Option<String>>,
    #[serde(default)]
    max_concurrency: Option<u64>,
    /// As long as drafts are; missing without speculation.
    #[serde(default)]
    spec_decode_per_position_acceptance_rates: Vec<f64>,
    #[serde(default)]
    spec_decode_num_drafts: u64,
}

/// The requests as runs of the tuning split, and what to know about them. The draft length of a file is the number of
/// places that it has acceptance rates for, 0 if none. Requests that failed somewhere are left out.
///
/// # Errors
/// A file that is not such JSON, two of one draft length, none of plain decoding, or files whose prompts differ in length.
pub fn read_vllm(paths: &[PathBuf]) -> Result<(Vec<RunRow>, Vec<String>)> {
    let mut benches: BTreeMap<u64, (&Path, Bench)> = BTreeMap::new();
    for path in paths {
        let bench = read(path)?;
        let draft_length = bench.spec_decode_per_position_acceptance_rates.len() as u64;
        if let Some((other, first)) = benches.values().next()
            && first.input_lens != bench.input_lens
        {
            return Err(usage!(
                "{}: input_lens: are not those of {}; run both with the same dataset and seed",
                path.display(),
                other.display()
            ));
        }
        if let Some((other, _)) = benches.insert(draft_length, (path, bench)) {
            return Err(usage!(
                "{}: drafts {draft_length} tokens as {} does; give one file for each draft length",
                path.display(),
                other.display()
            ));
        }
    }
    if !benches.contains_key(&0) {
        return Err(usage!(
            "{}: was measured with drafts, as are all files given; give one of plain decoding too",
            paths[0].display()
        ));
    }
    let requests = benches.values().next().map_or(0, |(_, bench)| bench.input_lens.len());
    let failed = |place: &usize| benches.values().any(|(_, bench)| bench.seconds(*place).is_none());
    let failures = (0..requests).filter(failed).count();
    let mut runs = Vec::new();
    for place in (0..requests).filter(|place| !failed(place)) {
        for (draft_length, (_, bench)) in &benches {
            runs.push(RunRow {
                prompt: format!("request {place}"),
                split: "tune".to_string(),
                drafter: if *draft_length == 0 { "" } else { "draft" }.to_string(),
                draft_length: *draft_length,
                order: runs.len() as u64,
                tokens: bench.output_lens[place] - 1,
                seconds: bench.seconds(place),
                ..RunRow::default()
            });
        }
    }
    let mut notes = vec![
        "each file was measured in one go, so that drift between them looks like a difference between draft lengths"
            .into(),
    ];
    if benches.values().any(|(_, bench)| bench.max_concurrency != Some(1)) {
        notes.push("requests ran side by side (not --max-concurrency 1): their times depend on each other".into());
    }
    if failures > 0 {
        notes.push(format!("{failures} of {requests} requests failed or gave a single token somewhere; left out"));
    }
    Ok((runs, notes))
}

fn read(path: &Path) -> Result<Bench> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| usage!("{shown}: cannot be read ({error})"))?;
    let mut from = serde_json::Deserializer::from_str(&text);
    let bench: Bench = serde_path_to_error::deserialize(&mut from).map_err(|error| {
        usage!(
            "{shown}: {}: {}; give what vllm bench serve --save-result --save-detailed writes",
            error.path(),
            error.inner()
        )
    })?;
    if bench.spec_decode_num_drafts > 0 && bench.spec_decode_per_position_acceptance_rates.is_empty() {
        return Err(usage!(
            "{shown}: spec_decode_per_position_acceptance_rates: is missing, so the draft length is not known; measure with a vLLM that writes it"
        ));
    }
    let requests = bench.input_lens.len();
    for (field, found) in
        [("output_lens", bench.output_lens.len()), ("itls", bench.itls.len()), ("errors", bench.errors.len())]
    {
        if found != requests {
            return Err(usage!("{shown}: {field}: has {found} entries, input_lens {requests}; the file is damaged"));
        }
    }
    Ok(bench)
}

impl Bench {
    /// Seconds from the first token to the last; none if the request failed or has no second one.
    fn seconds(&self, place: usize) -> Option<f64> {
        let failed = self.errors[place].as_ref().is_some_and(|error| !error.is_empty());
        let seconds: f64 = self.itls[place].iter().sum();
        (!failed && self.output_lens[place] > 1 && seconds > 0.0).then_some(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_all(files: &[serde_json::Value]) -> Result<(Vec<RunRow>, Vec<String>)> {
        let root = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (place, file) in files.iter().enumerate() {
            paths.push(root.path().join(format!("{place}.json")));
            std::fs::write(&paths[place], file.to_string()).unwrap();
        }
        read_vllm(&paths)
    }

    fn plain() -> serde_json::Value {
        json!({ "input_lens": [9, 8, 7], "output_lens": [5, 4, 3], "itls": [[0.25, 0.25, 0.25, 0.25], [0.1, 0.1, 0.1], []],
                "errors": ["", "", "broken"], "max_concurrency": 1, "ttfts": [1.0, 1.0, 1.0] })
    }

    fn drafted() -> serde_json::Value {
        json!({ "input_lens": [9, 8, 7], "output_lens": [5, 4, 3], "itls": [[0.3, 0.2], [0.1], [0.2]],
                "errors": ["", "", ""], "max_concurrency": 1, "spec_decode_per_position_acceptance_rates": [0.8, 0.5] })
    }

    #[test]
    fn requests_are_runs_of_prompts() {
        let (runs, notes) = read_all(&[drafted(), plain()]).unwrap();
        let found: Vec<_> =
            runs.iter().map(|run| (run.prompt.as_str(), run.draft_length, run.tokens, run.seconds)).collect();
        assert_eq!(
            found,
            [
                ("request 0", 0, 4, Some(1.0)),
                ("request 0", 2, 4, Some(0.5)),
                ("request 1", 0, 3, Some(0.1 + 0.1 + 0.1)),
                ("request 1", 2, 3, Some(0.1)),
            ]
        );
        assert!(notes.len() == 2 && notes[1].starts_with("1 of 3 requests failed"), "{notes:?}");
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let changed = |field: &str, value: serde_json::Value| {
            let mut file = drafted();
            file[field] = value;
            read_all(&[plain(), file]).unwrap_err().to_string()
        };
        assert!(changed("input_lens", json!([9, 8, 6])).contains("1.json: input_lens: are not those of"));
        assert!(changed("spec_decode_per_position_acceptance_rates", json!([])).contains("drafts 0 tokens as"));
        let unknown =
            json!({ "spec_decode_num_drafts": 5, "input_lens": [], "output_lens": [], "itls": [], "errors": [] });
        assert!(read_all(&[unknown]).unwrap_err().to_string().contains("so the draft length is not known"));
        assert!(read_all(&[drafted()]).unwrap_err().to_string().contains("give one of plain decoding too"));
        assert!(changed("itls", json!([[0.1]])).contains("itls: has 1 entries, input_lens 3"));
        assert!(changed("output_lens", json!("x")).contains("output_lens: invalid type"));
    }
}
