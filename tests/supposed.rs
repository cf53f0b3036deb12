//! `ridgepoint tune` on random weights with supposed acceptance: real rounds that accept what was drawn.
#![cfg(feature = "mlx")]

use crate::tiny::Workplace;
use ridgepoint::results::{CostRow, DecisionRow, PromptRow, Role, RunRow, TraceRow, read};
use ridgepoint::roofline::{Draft, Trace, replay};
use std::collections::BTreeSet;

const MODEL: &str = r#"
dtype = "float32"
[config]
model_type = "llama"
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
vocab_size = 64
max_position_embeddings = 64
tie_word_embeddings = true
"#;
const SCENARIO: &str = r#"
name = "supposed"
drafts = ["skip.toml"]
draft_lengths = "1-4"
tune_prompts = 3
confirm_prompts = 1
max_tokens = 16
context = 40
arms = 2
[target]
model = "random"
[supposed]
acceptance = [0.5, 0.9]
"#;

fn workplace() -> Workplace {
    let place = Workplace::new();
    std::fs::create_dir_all(place.path("scenarios/models")).unwrap();
    place.write("scenarios/models/random.toml", MODEL);
    place.write("supposed.toml", SCENARIO);
    place
}

#[test]
fn rounds_accept_what_was_drawn_and_say_that_it_was_supposed() {
    let place = workplace();
    let output = place.run(&["tune", "supposed.toml", "--results", "r", "--machine", "m", "--quiet"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("warning: acceptance is supposed, not measured"), "{shown}");
    let folder = place.path("r/m/supposed");
    let decisions: Vec<DecisionRow> = read(&folder).unwrap();
    assert_eq!(decisions.len(), 2);
    assert!(decisions.iter().all(|row| row.warnings.contains("acceptance is supposed, not measured")), "{decisions:?}");

    let traces: Vec<TraceRow> = read(&folder).unwrap();
    let share = |drafter: &str| {
        let of: Vec<&TraceRow> = traces.iter().filter(|row| row.drafter == drafter).collect();
        of.iter().filter(|row| row.matched > 0).count() as f64 / of.len() as f64
    };
    // 48 positions: the standard errors are 0.07 and 0.04.
    assert!((share("skip-supposed-0.5") - 0.5).abs() < 0.22 && (share("skip-supposed-0.9") - 0.9).abs() < 0.13);

    let prompts: Vec<PromptRow> = read(&folder).unwrap();
    // Half a run of 16 tokens later the cache holds the context.
    assert!(prompts.iter().all(|prompt| prompt.prompt_tokens == 32), "{prompts:?}");
    let runs: Vec<RunRow> = read(&folder).unwrap();
    let drafted: Vec<&RunRow> = runs.iter().filter(|run| run.draft_length > 0 && run.split == "tune").collect();
    // Two draft lengths a drafter, or one where the second is predicted to lose too much: that hangs on what was timed.
    let arms: BTreeSet<_> = drafted.iter().map(|run| (&run.drafter, run.draft_length)).collect();
    let drafters: BTreeSet<_> = arms.iter().map(|(drafter, _)| drafter).collect();
    assert!(drafters.len() == 2 && arms.len() <= 4, "{arms:?}");
    assert_eq!(drafted.len(), 3 * arms.len());
    for run in drafted {
        let of = traces.iter().filter(|row| row.prompt == run.prompt && row.drafter == run.drafter);
        let drafts = of.map(|row| Draft { drafted: row.drafted as usize, matched: row.matched as usize }).collect();
        let expected = replay(&Trace::new(drafts, 4).unwrap(), run.draft_length as usize).unwrap();
        assert_eq!((run.tokens, run.rounds as f64), (16, expected.rounds), "{run:?}");
        assert_eq!((run.drafted as f64, run.accepted as f64), (expected.drafted, expected.accepted), "{run:?}");
        assert_eq!(run.first_divergence, None);
    }
    let costs: Vec<CostRow> = read(&folder).unwrap();
    assert!(costs.iter().any(|row| row.role == Role::Drafter && row.drafter == "skip-supposed-0.9"));
    // The same command finds it complete.
    let again = place.run(&["tune", "supposed.toml", "--results", "r", "--machine", "m", "--quiet"]);
    assert!(again.status.success() && String::from_utf8(again.stderr).unwrap().contains("complete"));
}

#[test]
fn what_cannot_be_supposed_is_one_line() {
    let place = workplace();
    for (from, to, part) in [
        ("[0.5, 0.9]", "[]", "supposed.acceptance: give 1 to 20 chances, got 0"),
        ("[0.5, 0.9]", "[1.5]", "supposed.acceptance: must be 0 to 1, got 1.5"),
        ("[0.5, 0.9]", "[0.5, 0.5]", "supposed.acceptance: has 0.5 twice"),
        ("\"random\"", "\"tiny\"", "target.model: 'tiny' is no model with random weights"),
        ("\"skip.toml\"", "\"lookup.toml\"", "drafts[0]: 'lookup' drafts by what its text says"),
        ("context = 40", "prompts = \"p.jsonl\"", "prompts: mean nothing to random weights; leave it out"),
        ("context = 40", "temperature = 1.0", "temperature: tokens are accepted with declared chances; leave it out"),
        ("context = 40", "context = 63", "exceed its context of 64"),
    ] {
        assert!(SCENARIO.contains(from));
        place.write("changed.toml", &SCENARIO.replace(from, to));
        place.refused(&["tune", "changed.toml", "--results", "r"], 2, &[part]);
    }
    // Without the table random weights are still no target.
    place.write(
        "changed.toml",
        &SCENARIO.replace("[supposed]\nacceptance = [0.5, 0.9]", "").replace("arms = 2", "prompts = \"p.jsonl\""),
    );
    place.refused(&["tune", "changed.toml", "--results", "r"], 2, &["'random' has random weights"]);
}
