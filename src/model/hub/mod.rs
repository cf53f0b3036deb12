//! Models by name. Wherever the program takes a model it is one of: a path; the name of an entry of `models/`;
//! `hf://org/name[@revision]` or `hf://org/name/file.gguf[@revision]` in the cache that the hub's own tools share.
//!
//! How to add one more file that is fetched: add its name to `TEXT_FILES` in `fetch.rs`.

mod cache;
mod client;
mod download;
mod fetch;
mod reference;
mod settings;

pub use cache::CachedModel;
pub use fetch::fetch;
pub use reference::Reference;
pub use settings::Settings;

use crate::usage;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The model that `scripts/fetch-model` fetches.
const DEFAULT_MODEL: &str = "SmolLM2-135M-Instruct";

/// The file or folder of a model argument, without touching the network. What is not there is a usage error that says
/// how to get it.
pub fn resolve(model: &str) -> Result<PathBuf> {
    if Reference::is_one(model) {
        resolve_cached(&Reference::parse(model)?, &Settings::from_env()?.cache)
    } else {
        resolve_local(model, &model_folders())
    }
}

fn resolve_cached(reference: &Reference, cache: &Path) -> Result<PathBuf> {
    match cache::find(cache, reference) {
        Some(cache::Snapshot { path, missing: None }) => Ok(path),
        Some(cache::Snapshot { missing: Some(file), .. }) => Err(usage!(
            "model {reference}: {file} is missing in the cache {}; run: ridgepoint fetch {reference}",
            cache.display()
        )),
        None => {
            Err(usage!("model {reference} is not in the cache {}; run: ridgepoint fetch {reference}", cache.display()))
        }
    }
}

fn resolve_local(model: &str, folders: &[PathBuf]) -> Result<PathBuf> {
    let path = Path::new(model);
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    let is_name = path.components().count() == 1;
    if is_name {
        for folder in folders {
            if let Some(found) = find_by_name(model, folder)? {
                return Ok(found);
            }
        }
    }
    Err(match model.split_once('/') {
        _ if is_name && model.starts_with(DEFAULT_MODEL) => {
            usage!("model '{model}' is not in models/; run: scripts/fetch-model")
        }
        Some((org, name)) if Reference::parse(&format!("hf://{org}/{name}")).is_ok() => {
            usage!("model '{model}': there is no such path; for a checkpoint on the hub write hf://{model}")
        }
        Some(_) => usage!("model '{model}': there is no such path"),
        None => usage!(
            "model '{model}': there is no such path, and models/ has no such entry; write a path, one of its names, or \
             hf://org/name"
        ),
    })
}

/// An entry of `folder` called `name`, or the one GGUF file whose name goes on with the format, as
/// `name.Q4_1.gguf` does.
fn find_by_name(name: &str, folder: &Path) -> Result<Option<PathBuf>> {
    let exact = folder.join(name);
    if exact.exists() {
        return Ok(Some(exact));
    }
    let start = format!("{name}.");
    let mut found: Vec<String> = local_names(folder);
    found.retain(|entry| entry.starts_with(&start) && entry.ends_with(".gguf"));
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(folder.join(one))),
        several => Err(usage!("model '{name}' could be any of {} in models/; write one of them", several.join(", "))),
    }
}

/// The folders called `models` beside the work and beside the program: in the current folder or above it, and above
/// the executable.
fn model_folders() -> Vec<PathBuf> {
    let work = std::env::current_dir().ok();
    let program = std::env::current_exe().ok();
    let above = [work.as_deref(), program.as_deref()].into_iter().flatten().flat_map(Path::ancestors);
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in above.map(|folder| folder.join("models")).filter(|folder| folder.is_dir()) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// Every model that can be named: those in `models/`, then those in the hub's cache.
pub fn available() -> Result<Vec<CachedModel>> {
    let mut models = Vec::new();
    for folder in model_folders() {
        models.extend(list_local(&folder)?);
    }
    models.extend(cache::list(&Settings::from_env()?.cache));
    Ok(models)
}

/// The models in a `models/` folder by name, sorted: GGUF files and folders with a `config.json`.
fn list_local(folder: &Path) -> Result<Vec<CachedModel>> {
    let mut models = Vec::new();
    for name in local_names(folder) {
        let path = folder.join(&name);
        let data = std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if data.is_file() && name.ends_with(".gguf") {
            models.push(CachedModel { model: name, size_bytes: data.len(), missing: None });
        } else if path.join("config.json").is_file() {
            let files = std::fs::read_dir(&path).into_iter().flatten().flatten();
            let size_bytes = files.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum();
            models.push(CachedModel { model: name, size_bytes, missing: cache::missing_file(&path) });
        }
    }
    Ok(models)
}

/// The names in a folder that do not begin with a dot, sorted.
fn local_names(folder: &Path) -> Vec<String> {
    let mut names = cache::file_names(folder);
    names.retain(|name| !name.starts_with('.'));
    names
}
