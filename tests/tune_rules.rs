//! `ridgepoint tune` and `generate` with drafters that have a stopping rule: files, exact replay, refusals.
#![cfg(feature = "mlx")]

use crate::tiny::Workplace;
use ridgepoint::results::{
    CalibrationRow, DecisionRow, DraftTokenRow, PolicyRow, PredictionRow, RunRow, StopRuleRow, StopThresholdRow,
    TraceRow, read,
};
use std::collections::BTreeSet;
use std::fs;

const DRAFTS: &str = r#"drafts = ["half.toml", "half-sure.toml", "half-average.toml", "half-cost.toml", "both.toml"]"#;

/// The tiny model, drafted by itself at 8 bits: mostly right.
fn workplace() -> Workplace {
    let place = Workplace::new();
    let half = "kind = \"quantized-self\"\nbits = 3\ngroup_size = 32\n";
    place.write("half.toml", half);
    place.write("half-sure.toml", &format!("{half}[stop]\nkind = \"p-min\"\nthreshold = 0.3\n"));
    place.write("half-average.toml", &format!("{half}[stop]\nkind = \"acceptance-average\"\nmemory = 4\n"));
    place.write("half-cost.toml", &format!("{half}[stop]\nkind = \"cost-aware\"\n"));
    let both = "kind = \"combined\"\nlookup = \"lookup.toml\"\nmodel = \"half.toml\"\nmin_confidence = 0.6\n";
    place.write("both.toml", &format!("{both}[stop]\nkind = \"cost-aware\"\n"));
    place.change_scenario(r#"drafts = ["lookup.toml", "skip.toml"]"#, DRAFTS);
    let scenario = fs::read_to_string(place.path("changed.toml")).unwrap();
    place.write("changed.toml", &scenario.replace("max_tokens = 8", "max_tokens = 24").replace("small", "ruled"));
    place
}

#[test]
fn rules_are_traced_fitted_replayed_and_run() {
    let place = workplace();
    let tune = ["tune", "changed.toml", "--results", "r", "--machine", "m", "--budget", "5m"];
    let output = place.run(&tune);
    assert!(output.status.success(), "{output:?}");
    let folder = place.path("r/m/ruled");

    let rules: Vec<StopRuleRow> = read(&folder).unwrap();
    let names: Vec<_> =
        rules.iter().map(|row| (row.drafter.as_str(), row.rule.as_str(), row.without_rule.as_str())).collect();
    let expected = [
        ("half-sure", "p-min", "half"),
        ("half-average", "acceptance-average", "half"),
        ("half-cost", "cost-aware", "half"),
        ("both", "cost-aware", ""),
    ];
    assert_eq!(names, expected);

    // Every token that the trace counts is there.
    let traces: Vec<TraceRow> = read(&folder).unwrap();
    let tokens: Vec<DraftTokenRow> = read(&folder).unwrap();
    let drafted =
        |drafter: &str| traces.iter().filter(|row| row.drafter == drafter).map(|row| row.drafted).sum::<u64>();
    for (drafter, ..) in expected {
        assert_eq!(tokens.iter().filter(|row| row.drafter == drafter).count() as u64, drafted(drafter), "{drafter}");
    }
    let sources: BTreeSet<_> = tokens.iter().filter(|row| row.drafter == "both").map(|row| &row.source[..]).collect();
    assert_eq!(sources, BTreeSet::from(["lookup", "model"]));

    // Runs did what the replay says, to the token.
    let decisions: Vec<DecisionRow> = read(&folder).unwrap();
    assert_eq!(decisions.len(), 5);
    for row in &decisions {
        assert!(!row.warnings.contains("in the replay"), "{}: {}", row.drafter, row.warnings);
    }
    let runs: Vec<RunRow> = read(&folder).unwrap();
    let rounds = |drafter: &str| -> BTreeSet<(String, u64, u64)> {
        let of = runs.iter().filter(|run| run.drafter == drafter && run.split == "tune");
        of.map(|run| (run.prompt.clone(), run.draft_length, run.drafted)).collect()
    };
    assert_ne!(rounds("half"), rounds("half-sure"), "the rule cuts nothing");

    let policies: Vec<PolicyRow> = read(&folder).unwrap();
    assert_eq!(policies.len(), 4 * 3, "every rule at every draft length");
    for row in &policies {
        let bound = row.oracle_tok_per_s * (1.0 + 1e-9);
        assert!(row.static_tok_per_s <= bound && row.rule_tok_per_s <= bound, "{row:?}");
        assert!(row.static_tok_per_s >= row.plain_tok_per_s * (1.0 - 1e-9), "{row:?}");
    }
    let thresholds: Vec<StopThresholdRow> = read(&folder).unwrap();
    assert_eq!(thresholds.len(), 2 * (1 + 2 + 3), "two cost-aware drafters");
    let calibrations: Vec<CalibrationRow> = read(&folder).unwrap();
    let reached: u64 = calibrations
        .iter()
        .filter(|row| row.drafter == "half-cost" && row.draft_position == 1)
        .map(|row| row.reached)
        .sum();
    assert_eq!(reached, 3 * 24, "every position of three prompts reaches the first place");
    let predictions: Vec<PredictionRow> = read(&folder).unwrap();
    assert!(predictions.iter().all(|row| row.replay_tok_per_s.is_some()));

    // All that is derived is rebuilt byte for byte.
    let derived =
        ["policies.csv", "calibration.csv", "stop_thresholds.csv", "predictions.csv", "decision.csv", "arms.csv"];
    let before = derived.map(|file| fs::read(folder.join(file)).unwrap());
    derived.iter().for_each(|file| fs::remove_file(folder.join(file)).unwrap());
    assert!(place.run(&["analyze", "r/m/ruled"]).status.success());
    assert_eq!(derived.map(|file| fs::read(folder.join(file)).unwrap()), before);

    // The fitted rule serves elsewhere.
    let draft = fs::read_to_string(place.path("half-cost.toml")).unwrap();
    place.write("half-cost.toml", &draft.replace("cost-aware\"", "cost-aware\"\nfitted = \"r/m/ruled\""));
    let generate = |extra: &[&str]| {
        let command =
            ["generate", "tiny", "--prompt", "one two", "-n", "16", "--ignore-eos", "--dtype", "float32", "--json"];
        let output = place.run(&[&command[..], extra].concat());
        assert!(output.status.success(), "{output:?}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (json["tokens"].clone(), json["drafted"].as_u64().unwrap())
    };
    let plain = generate(&[]);
    let ruled = generate(&["--draft", "half-cost.toml", "--draft-length", "3"]);
    let sure = generate(&["--draft", "half-sure.toml", "--draft-length", "3"]);
    let without = generate(&["--draft", "half.toml", "--draft-length", "3"]);
    assert!(plain.0 == ruled.0 && plain.0 == sure.0 && plain.0 == without.0);
    assert!(sure.1 < without.1, "{sure:?} {without:?}");
    place.refused(
        &["generate", "tiny", "--prompt", "a", "--draft", "half-cost.toml", "--draft-length", "9"],
        2,
        &["half-cost.toml: stop.fitted:", "has no rule of 'half-cost' for --draft-length 9"],
    );
}

#[test]
fn draft_files_that_cannot_be_are_refused_with_file_and_field() {
    let place = workplace();
    let generate = |draft: &str, parts: &[&str]| {
        place.refused(&["generate", "tiny", "--prompt", "a", "--draft", draft, "--draft-length", "2"], 2, parts);
    };
    generate("half-cost.toml", &["half-cost.toml: stop.fitted: is missing; name the results folder"]);
    let combined =
        |lookup: &str, model: &str| format!("kind = \"combined\"\nlookup = \"{lookup}\"\nmodel = \"{model}\"\n");
    for (lookup, model, expected) in [
        ("none.toml", "half.toml", "lookup: 'none.toml' is neither"),
        ("half.toml", "half.toml", "lookup: 'half.toml' runs a model"),
        ("lookup.toml", "lookup.toml", "model: 'lookup.toml' is a prompt-lookup drafter"),
        ("lookup.toml", "x.toml", "model: 'x.toml' is a combined drafter"),
        ("lookup.toml", "half-sure.toml", "model: 'half-sure.toml' has a [stop] table of its own"),
    ] {
        place.write("x.toml", &combined(lookup, model));
        generate("x.toml", &["x.toml: ", expected]);
    }
    place.write("x.toml", "kind = \"suffix\"\ncorpus = [\"no.txt\"]\n");
    generate("x.toml", &["x.toml: corpus[0]: 'no.txt' is neither"]);
    place.write("bad.jsonl", "{\"text\": \"a\"}\n\n{\"words\": 1}\n");
    place.write("x.toml", "kind = \"suffix\"\ncorpus = [\"bad.jsonl\"]\n");
    generate("x.toml", &["x.toml: corpus[0]: 'bad.jsonl' line 3: is no object with a field 'text'"]);
    place.refused(
        &["cost", "tiny", "--draft", "half-sure.toml", "--results", "r"],
        2,
        &["--draft half-sure.toml: has a [stop] table"],
    );
}
