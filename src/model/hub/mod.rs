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

#[cfg(test)]
mod tests {
    use super::*;

    /// A `models/` folder with these files.
    fn models(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        }
        folder
    }

    fn local(model: &str, folder: &tempfile::TempDir) -> Result<PathBuf> {
        resolve_local(model, &[folder.path().to_path_buf()])
    }

    #[test]
    fn a_local_model_is_a_path_or_a_name_with_or_without_its_format() {
        let folder = models(&["a.Q4_1.gguf", "b.Q4_0.gguf", "b.Q8_0.gguf", "c/config.json", ".a.gguf.stamp"]);
        let path = folder.path().join("a.Q4_1.gguf");
        assert_eq!(local(path.to_str().unwrap(), &folder).unwrap(), path);
        assert_eq!(local("a.Q4_1.gguf", &folder).unwrap(), path);
        assert_eq!(local("a", &folder).unwrap(), path);
        assert_eq!(local("c", &folder).unwrap(), folder.path().join("c"));
        let error = local("b", &folder).unwrap_err().to_string();
        assert!(error.contains("b.Q4_0.gguf, b.Q8_0.gguf"), "{error}");
    }

    #[test]
    fn a_missing_model_is_one_line_with_the_way_to_get_it() {
        let folder = models(&[]);
        let cache = tempfile::tempdir().unwrap();
        let cached = |model| resolve_cached(&Reference::parse(model).unwrap(), cache.path());
        for (error, part) in [
            (local("SmolLM2-135M-Instruct", &folder), "run: scripts/fetch-model"),
            (local("SmolLM2-135M-Instruct.Q4_1.gguf", &folder), "run: scripts/fetch-model"),
            (local("org/name", &folder), "write hf://org/name"),
            (local("/no/such/place", &folder), "no such path"),
            (local("nothing", &folder), "hf://org/name"),
            (cached("hf://org/name@v1"), "run: ridgepoint fetch hf://org/name@v1"),
        ] {
            let error = error.unwrap_err();
            assert_eq!(crate::error::exit_code(&error), 2);
            let text = error.to_string();
            assert!(text.contains(part) && text.lines().count() == 1, "{text}");
        }
    }

    #[test]
    fn an_incomplete_snapshot_is_not_resolved() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let cache = models(&[&format!("models--org--name/snapshots/{commit}/config.json")]);
        let reference = Reference::parse(&format!("hf://org/name@{commit}")).unwrap();
        let error = resolve_cached(&reference, cache.path()).unwrap_err().to_string();
        assert!(error.contains("model.safetensors is missing") && error.contains("ridgepoint fetch"), "{error}");
    }

    #[test]
    fn local_models_are_listed_with_their_sizes() {
        let folder = models(&["a.gguf", "c/config.json", "notes.txt", ".a.gguf.stamp"]);
        let models = list_local(folder.path()).unwrap();
        assert_eq!(models.len(), 2);
        assert_eq!((models[0].model.as_str(), models[0].size_bytes), ("a.gguf", 2));
        assert_eq!(models[1].missing.as_deref(), Some("model.safetensors"));
    }
}
