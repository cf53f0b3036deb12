//! `ridgepoint sweep` on a tiny checkpoint: cells of precisions and contexts, and a model that is missing.
#![cfg(feature = "mlx")]

use crate::tiny::Workplace;
use ridgepoint::results::{CellRow, CellState, CostRow, PromptRow, RunRow, read, read_raw};
use std::collections::BTreeSet;

const SCENARIO: &str = r#"
name = "cells"
drafts = ["lookup.toml"]
draft_lengths = "1-2"
prompts = "p.jsonl"
tune_prompts = 3
confirm_prompts = 1
max_tokens = 8
arms = 1
time_budget = "20s"
[target]
model = "tiny"
dtype = "float32"
[sweep]
targets = ["absent", "tiny"]
contexts = "10, 32, 48"
"#;

#[test]
fn cells_run_at_their_context_and_a_missing_model_is_a_row() {
    let place = Workplace::new();
    place.write("cells.toml", SCENARIO);
    let sweep = |more: &[&str]| {
        place.run(&[&["sweep", "cells.toml", "--results", "r", "--machine", "m", "--quiet"], more].concat())
    };
    let plan = sweep(&["--dry-run"]);
    let text = String::from_utf8(plan.stdout).unwrap();
    assert!(text.contains("cells: 6 cells, 0 done, 6 to run: at most 20s each, 2m in all"), "{text}");

    let output = sweep(&[]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("4 of 6 cells failed; see r/m/cells/cells.csv"), "{message}");
    let rows: Vec<CellRow> = read_raw(&place.path("r/m/cells")).unwrap();
    let errors: Vec<&str> = rows.iter().map(|row| row.error.as_str()).collect();
    for error in &errors[..3] {
        assert!(error.contains("cells.toml: target.model: there is no model 'absent'"), "{error}");
    }
    // The prompts are longer than ten tokens less half a run.
    assert!(errors[3].contains("which do not fit a context of 10 with 8 of output"), "{}", errors[3]);
    assert_eq!((rows[4].state, rows[5].state), (CellState::Done, CellState::Done), "{errors:?}");
    assert!(rows[4].seconds > 0.0);

    for (row, context) in rows[4..].iter().zip([32, 48]) {
        let folder = place.path("r/m/cells").join(&row.cell);
        let costs: Vec<CostRow> = read(&folder).unwrap();
        assert!(costs.iter().all(|cost| cost.context == context));
        let prompts: Vec<PromptRow> = read(&folder).unwrap();
        // Half a run of 8 tokens later the cache holds the context.
        assert!(prompts.iter().all(|prompt| prompt.prompt_tokens == context - 4), "{prompts:?}");
        let hashes: BTreeSet<&str> = prompts.iter().map(|prompt| &*prompt.tokens_sha256).collect();
        assert_eq!(hashes.len(), prompts.len());
        let runs: Vec<RunRow> = read(&folder).unwrap();
        assert!(!runs.is_empty() && runs.iter().all(|run| run.error.is_empty()), "{runs:?}");
    }
    let map = std::fs::read_to_string(place.path("r/m/cells/regimes.csv")).unwrap();
    assert_eq!(map.lines().count(), 1 + 2, "{map}");
}

#[test]
fn tune_sends_a_sweep_to_its_own_command() {
    let place = Workplace::new();
    place.write("cells.toml", SCENARIO);
    place.refused(
        &["tune", "cells.toml"],
        2,
        &["cells.toml: has a [sweep] or [simulated] table; run it with ridgepoint sweep"],
    );
    place.write("cells.toml", &SCENARIO.replace("arms = 1", "arms = 1\nbatch = 2"));
    place.refused(&["sweep", "cells.toml"], 2, &["cells.toml: batch: a model decodes one sequence"]);
}
