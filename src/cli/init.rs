//! `ridgepoint init`: a commented scenario for one's own model.

use super::Global;
use crate::scenario::{self, ModelSource};
use crate::usage;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

const SCENARIO: &str = include_str!("init.toml");
const LOOKUP: (&str, &str) = ("drafts/prompt-lookup.toml", include_str!("../../drafts/prompt-lookup.toml"));
const PROMPTS: (&str, &str) = ("prompts/quickstart.jsonl", include_str!("../../scenarios/prompts/quickstart.jsonl"));

/// Write a commented scenario for a model, ready for tune, with a draft file and prompts beside it where there are none
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The target: a checkpoint's file or folder, a name under models/, or hf://org/name[@revision]; the only one under models/
    /// if not given
    model: Option<String>,
    /// The scenario's file; named after the model if not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn run(args: &Args, _global: &Global) -> Result<()> {
    let model = match &args.model {
        Some(model) => model.clone(),
        None => only_model()?,
    };
    let name = name_of(&model);
    let file = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
    let shown = file.display().to_string();
    if file.exists() {
        return Err(usage!("{shown}: is there already; name another file with --out"));
    }
    // A model that is not there is found out now, with the command that gets it.
    ModelSource::find(&file, "target.model", &model)?;
    for (path, text) in [LOOKUP, PROMPTS] {
        beside(&file, path, text)?;
    }
    let written = SCENARIO.replace("{name}", &name).replace("{model}", &model);
    fs::write(&file, written).with_context(|| format!("cannot write {shown}; check the folder's permissions"))?;
    scenario::load(&file)?;
    println!("{shown}: edit it as you like, then run: ridgepoint tune {shown}");
    Ok(())
}

/// The only entry of `models/`.
fn only_model() -> Result<String> {
    let entries = fs::read_dir("models").into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    found.retain(|name| !name.starts_with('.'));
    found.sort();
    match found.as_slice() {
        [one] => Ok(format!("models/{one}")),
        [] => Err(usage!("name a model: a checkpoint's file or folder, or hf://org/name")),
        several => Err(usage!("name one of the models: {}", several.join(", "))),
    }
}

/// Of a model's path or repository a name for files and results.
fn name_of(model: &str) -> String {
    let last = model.trim_end_matches('/').rsplit('/').next().unwrap_or(model);
    let last = last.split('@').next().unwrap_or(last).trim_end_matches(".gguf");
    let name: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    let name: String = name.trim_start_matches('.').chars().take(64).collect();
    if name.is_empty() { "scenario".to_string() } else { name }
}

/// Writes a file that the scenario refers to, unless one is found beside it or above.
fn beside(scenario: &Path, path: &str, text: &str) -> Result<()> {
    let absolute = std::path::absolute(scenario)?;
    let folder = absolute.parent().context("a file lies in a folder")?;
    if folder.ancestors().any(|folder| folder.join(path).exists()) {
        return Ok(());
    }
    let file = folder.join(path);
    let within = file.parent().context("a file lies in a folder")?;
    fs::create_dir_all(within)
        .and_then(|()| fs::write(&file, text))
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}: written", file.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn a_scenario_is_named_after_its_model() {
        for (model, name) in [
            ("models/Smol.Q4_1.gguf", "Smol.Q4_1"),
            ("hf://org/Name-1B@main", "Name-1B"),
            ("/a/b c/", "b-c"),
            ("/", "scenario"),
        ] {
            assert_eq!(name_of(model), name);
        }
    }
}
