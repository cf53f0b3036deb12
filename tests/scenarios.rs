//! The scenarios, drafters and prompts that come with the project are valid and as the documentation says.

use ridgepoint::scenario::{DraftSpec, PromptInput, load};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn toml_files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

#[test]
fn every_scenario_loads_and_is_named_after_its_file() {
    for file in toml_files("scenarios") {
        let loaded = load(&file).unwrap();
        assert_eq!(Some(loaded.scenario.name.as_str()), file.file_stem().unwrap().to_str());
    }
}

#[test]
fn every_kind_of_drafter_has_an_example() {
    let mut kinds: Vec<&str> = toml_files("drafts").iter().map(|file| DraftSpec::read(file).unwrap().kind()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let expected = ["combined", "distilled", "layer-skip", "model", "prompt-lookup", "quantized-self", "suffix"];
    assert_eq!(kinds, expected);
}

#[test]
fn the_quickstart_prompts_are_balanced_in_every_block_of_eight() {
    let loaded = load(&root().join("scenarios/quickstart.toml")).unwrap();
    let prompts = &loaded.prompts.prompts;
    assert_eq!(prompts.len(), 40);
    assert!(loaded.scenario.tune_prompts >= 24);
    for block in prompts.chunks(8) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for prompt in block {
            *counts.entry(&prompt.category).or_default() += 1;
        }
        assert_eq!(counts.len(), 6, "{counts:?}");
        assert!(counts.values().all(|&count| count <= 2), "{counts:?}");
    }
    for prompt in prompts {
        let PromptInput::Chat(messages) = &prompt.input else { panic!("{} is no chat", prompt.id) };
        let words = messages[0].content.split_whitespace().count();
        assert!((40..=200).contains(&words), "{} has {words} words", prompt.id);
    }
}

#[test]
fn the_drafters_prompts_are_balanced_and_new() {
    let loaded = load(&root().join("scenarios/drafters.toml")).unwrap();
    let (tune, confirm) = loaded.prompts.prompts.split_at(loaded.scenario.tune_prompts);
    assert_eq!((tune.len(), confirm.len(), loaded.scenario.confirm_prompts), (24, 64, 64));
    for (prompts, least) in [(tune, 4), (confirm, 10)] {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        prompts.iter().for_each(|prompt| *counts.entry(&prompt.category).or_default() += 1);
        assert!(counts.len() == 6 && counts.values().all(|&count| count >= least), "{counts:?}");
    }
    // No eight words in a row stand in two prompts, nor in one of the quickstart's.
    let quickstart = load(&root().join("scenarios/quickstart.toml")).unwrap();
    let mut seen: BTreeMap<Vec<String>, String> = BTreeMap::new();
    for prompt in quickstart.prompts.prompts.iter().chain(&loaded.prompts.prompts) {
        let PromptInput::Chat(messages) = &prompt.input else { panic!("{} is no chat", prompt.id) };
        let text = messages[0].content.to_lowercase();
        let words: Vec<String> = text.split(|c: char| !c.is_alphanumeric()).map(str::to_string).collect();
        let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
        for run in words.windows(8) {
            let other = seen.insert(run.to_vec(), prompt.id.clone());
            assert!(other.as_ref().is_none_or(|other| *other == prompt.id), "{other:?} and {}: {run:?}", prompt.id);
        }
    }
}
