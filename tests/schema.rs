//! The JSON Schemas are current, accept every committed file and refuse bad ones; `init`, completions and manual pages.

use ridgepoint::scenario::{DraftSpec, KINDS, MachineFile, ModelFile, load};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ridgepoint")).current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Every committed TOML file with its kind.
fn committed() -> Vec<(&'static str, PathBuf)> {
    let folders = [
        ("scenario", "scenarios"),
        ("draft", "drafts"),
        ("machine", "scenarios/machines"),
        ("model", "scenarios/models"),
    ];
    let mut files = Vec::new();
    for (kind, folder) in folders {
        let entries = fs::read_dir(Path::new(ROOT).join(folder)).unwrap().map(|entry| entry.unwrap().path());
        files.extend(entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).map(|path| (kind, path)));
    }
    assert!(files.len() > 15);
    files
}

#[test]
fn the_committed_schemas_are_current() {
    for kind in KINDS {
        let output = run(Path::new(ROOT), &["schema", kind]);
        let committed = fs::read_to_string(Path::new(ROOT).join(format!("docs/schema/{kind}.schema.json"))).unwrap();
        assert!(text(&output.stdout) == committed, "run: ridgepoint schema {kind} > docs/schema/{kind}.schema.json");
    }
    assert_eq!(run(Path::new(ROOT), &["schema", "poem"]).status.code(), Some(2));
}

/// An independent validator and our own readers agree, on good files and on bad ones.
#[test]
fn an_independent_validator_agrees_with_our_readers() {
    let python = Path::new(ROOT).join(".venv/bin/python");
    if !Command::new(&python).args(["-c", "import jsonschema"]).output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no jsonschema in .venv");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let quickstart = fs::read_to_string(Path::new(ROOT).join("scenarios/quickstart.toml")).unwrap();
    let simulated = fs::read_to_string(Path::new(ROOT).join("scenarios/sweep-simulated.toml")).unwrap();
    let changed = |of: &str, from: &str, to: &str| {
        assert!(of.contains(from), "{from}");
        of.replacen(from, to, 1)
    };
    let bad = [
        ("scenario", changed(&quickstart, "seed = 1", "sed = 1")),
        ("scenario", changed(&quickstart, "tune_prompts = 24", "tune_prompts = 2")),
        ("scenario", changed(&quickstart, "tune_prompts = 24", "")),
        ("scenario", changed(&quickstart, "\"1-8\"", "\"1..8\"")),
        ("scenario", changed(&quickstart, "\"1-8\"", "true")),
        ("scenario", changed(&quickstart, "confidence = 0.95", "confidence = 1.5")),
        ("scenario", changed(&quickstart, "dtype = \"float32\"", "dtype = \"int8\"")),
        ("scenario", changed(&quickstart, "dtype = \"float32\"", "quantize = \"7\"")),
        ("scenario", changed(&quickstart, "name = \"quickstart\"", "name = \"../x\"")),
        ("scenario", changed(&simulated, "\"4:64 bfloat16\"]", "\"4:65 bfloat16\"]")),
        ("scenario", changed(&simulated, "shape = \"kink\"", "shape = \"knick\"")),
        ("scenario", changed(&simulated, "drift = 0.03", "drifts = 0.03")),
        ("draft", "kind = \"magic\"".into()),
        ("draft", "kind = \"layer-skip\"\nlayers = 2\ndepth = 1".into()),
        ("draft", "kind = \"layer-skip\"\nlayers = \"2\"".into()),
        ("draft", "layers = 2".into()),
        ("machine", "description = \"d\"\nsource = \"s\"\nbandwidth_gb_s = -1".into()),
        ("machine", "description = \"d\"\nsource = \"s\"\n[matrix_tflop_s]\nfp16 = 1.0".into()),
        ("model", "description = \"neither\"".into()),
        ("model", "model = \"x\"\n[config]\na = 1".into()),
    ];
    let mut arguments: Vec<(String, PathBuf)> =
        committed().into_iter().map(|(kind, path)| (kind.to_string(), path)).collect();
    let good = arguments.len();
    fs::create_dir(place.path().join("drafts")).unwrap();
    for (number, (kind, text)) in bad.iter().enumerate() {
        let path = place.path().join(format!("{number}.toml"));
        fs::write(&path, text).unwrap();
        let refused = match *kind {
            "scenario" => load(&path).err(),
            "draft" => DraftSpec::read(&path).err(),
            "machine" => MachineFile::read(&path).err(),
            _ => ModelFile::read(&path).err(),
        };
        assert!(refused.is_some(), "{kind} {text}");
        arguments.push((kind.to_string(), path));
    }
    let output = Command::new(&python)
        .arg(Path::new(ROOT).join("scripts/oracle/schema.py"))
        .arg(Path::new(ROOT).join("docs/schema"))
        .args(arguments.iter().flat_map(|(kind, path)| [kind.clone(), path.display().to_string()]))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(lines.len(), arguments.len());
    for (place, line) in lines.iter().enumerate() {
        let expected = if place < good { "ok " } else { "bad " };
        assert!(line.starts_with(expected), "{line}: {:?}", place.checked_sub(good).map(|place| &bad[place]));
    }
}

#[test]
fn init_writes_a_scenario_that_is_valid_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir_all(place.path().join("models/My.Model")).unwrap();
    let output = run(place.path(), &["init"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).ends_with("then run: ridgepoint tune My.Model.toml\n"), "{}", text(&output.stdout));
    let loaded = load(&place.path().join("My.Model.toml")).unwrap();
    assert_eq!((loaded.scenario.name.as_str(), loaded.scenario.target.model.as_str()), ("My.Model", "models/My.Model"));
    assert_eq!(loaded.drafts[0].name, "prompt-lookup");
    assert!(loaded.prompts.prompts.len() >= 40);

    let refused = |arguments: &[&str], expected: &str| {
        let output = run(place.path(), arguments);
        let message = text(&output.stderr);
        assert_eq!((output.status.code(), message.lines().count()), (Some(2), 1), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{message}");
    };
    refused(&["init"], "My.Model.toml: is there already; name another file with --out");
    refused(&["init", "none"], "target.model: there is no model 'none'; fetch it");
    fs::create_dir(place.path().join("models/Other")).unwrap();
    refused(&["init", "--out", "x.toml"], "name one of the models: My.Model, Other");
    // What the user has is used and left alone.
    fs::write(place.path().join("drafts/prompt-lookup.toml"), "kind = \"prompt-lookup\"\nmax_ngram = 9\n").unwrap();
    assert!(run(place.path(), &["init", "Other", "--out", "other.toml"]).status.success());
    let drafted = fs::read_to_string(place.path().join("drafts/prompt-lookup.toml")).unwrap();
    assert!(drafted.contains("max_ngram = 9"));
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let place = tempfile::tempdir().unwrap();
    let help = run(place.path(), &["--help"]);
    let listed = text(&help.stdout).split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let word = |line: &str| line.split_whitespace().next().unwrap_or_default().to_string();
    let is_command = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let mut commands: Vec<String> = listed.lines().filter(is_command).map(word).collect();
    commands.retain(|command| command != "help");
    assert!(commands.len() >= 9, "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(place.path(), &["completions", shell]);
        assert!(output.status.success());
        commands.iter().for_each(|command| assert!(text(&output.stdout).contains(command), "{shell} {command}"));
    }
    if let Ok(checked) = Command::new("bash")
        .args(["-c", "source <(\"$0\" completions bash) && complete -p ridgepoint", env!("CARGO_BIN_EXE_ridgepoint")])
        .output()
    {
        assert!(checked.status.success() && text(&checked.stdout).contains("ridgepoint"), "{}", text(&checked.stderr));
    }
    assert!(run(place.path(), &["man", "pages"]).status.success());
    let mut pages: Vec<String> = fs::read_dir(place.path().join("pages"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    let mut expected: Vec<String> = commands.iter().map(|command| format!("ridgepoint-{command}.1")).collect();
    expected.push("ridgepoint.1".to_string());
    expected.sort();
    assert_eq!(pages, expected);
    let page = fs::read_to_string(place.path().join("pages/ridgepoint-predict.1")).unwrap();
    assert!(page.contains(".TH RIDGEPOINT-PREDICT 1") && page.contains("\\-\\-against"), "{page}");
}
