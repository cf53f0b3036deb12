//! The hub's cache on disk, shared with the hub's other tools: `models--org--name/{blobs,refs,snapshots}`.

use super::reference::{Reference, is_plain_name};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The index of a checkpoint whose weights are in several files.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// A repository's snapshot in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder, or the GGUF file if the reference names one.
    pub path: PathBuf,
    /// The first file that a loader needs and that is not there; none if the snapshot is complete.
    pub missing: Option<String>,
}

/// Looks for a reference in the cache. Nothing is written and no network is touched.
pub fn find(cache: &Path, reference: &Reference) -> Option<Snapshot> {
    let repo = hf_hub::Cache::new(cache.to_path_buf()).repo(reference.repo());
    let commit = if is_commit(&reference.revision) {
        reference.revision.clone()
    } else {
        let refs = cache.join(reference.repo().folder_name()).join("refs").join(&reference.revision);
        std::fs::read_to_string(refs).ok()?.trim().to_string()
    };
    let folder = repo.pointer_path(&commit);
    if !is_plain_name(&commit) || !folder.is_dir() {
        return None;
    }
    Some(match &reference.file {
        Some(file) => {
            let path = folder.join(file);
            Snapshot { missing: (!path.is_file()).then(|| file.clone()), path }
        }
        None => Snapshot { missing: missing_file(&folder), path: folder },
    })
}

/// Whether a revision is a full commit rather than a branch or a tag.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The first file that a loader needs and `folder` lacks.
pub fn missing_file(folder: &Path) -> Option<String> {
    let lacks = |name: &str| !folder.join(name).is_file();
    if lacks("config.json") {
        return Some(String::from("config.json"));
    }
    match std::fs::read(folder.join(INDEX_FILE)) {
        Ok(text) => match shards(&text) {
            Ok(shards) => shards.into_iter().find(|shard| lacks(shard)),
            Err(_) => Some(INDEX_FILE.to_string()),
        },
        Err(_) => {
            let names = file_names(folder);
            (!names.iter().any(|name| is_weights_file(name))).then(|| String::from("model.safetensors"))
        }
    }
}

/// Whether a file of a repository holds weights of the checkpoint: other names are copies for other programs.
pub fn is_weights_file(name: &str) -> bool {
    name.starts_with("model") && name.ends_with(".safetensors")
}

/// The weight files that an index lists, each once.
pub fn shards(index: &[u8]) -> Result<BTreeSet<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).context("no valid 'weight_map'")?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(bad) = shards.iter().find(|name| !is_plain_name(name)) {
        bail!("weight_map: '{bad}' is no file name");
    }
    if shards.is_empty() {
        bail!("weight_map is empty");
    }
    Ok(shards)
}

/// A checkpoint in the cache.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CachedModel {
    /// What to write as a model argument.
    pub model: String,
    /// Bytes on disk of all files of the repository.
    pub size_bytes: u64,
    /// The first file that is not there; none if it can be loaded.
    pub missing: Option<String>,
}

/// Every repository of models in the cache at each revision it was fetched by, in the order of their names.
pub fn list(cache: &Path) -> Vec<CachedModel> {
    let mut models = Vec::new();
    for folder in file_names(cache) {
        let Some((org, name)) = folder.strip_prefix("models--").and_then(|repo| repo.split_once("--")) else {
            continue;
        };
        for revision in revisions(&cache.join(&folder).join("refs"), "") {
            let Ok(mut reference) = Reference::parse(&format!("hf://{org}/{name}@{revision}")) else { continue };
            let Some(snapshot) = find(cache, &reference) else { continue };
            let size_bytes = blob_bytes(&cache.join(&folder).join("blobs"));
            let gguf_files: Vec<String> =
                file_names(&snapshot.path).into_iter().filter(|name| name.ends_with(".gguf")).collect();
            if snapshot.missing.is_none() || gguf_files.is_empty() {
                models.push(CachedModel { model: reference.to_string(), size_bytes, missing: snapshot.missing });
            }
            for file in gguf_files {
                let size_bytes = std::fs::metadata(snapshot.path.join(&file)).map_or(0, |data| data.len());
                reference.file = Some(file);
                models.push(CachedModel { model: reference.to_string(), size_bytes, missing: None });
            }
        }
    }
    models
}

/// The files below `refs`: a revision such as `refs/pr/1` is a file in folders.
fn revisions(folder: &Path, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in file_names(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            found.extend(revisions(&path, &format!("{prefix}{name}/")));
        } else {
            found.push(format!("{prefix}{name}"));
        }
    }
    found
}

fn blob_bytes(blobs: &Path) -> u64 {
    file_names(blobs).iter().filter_map(|name| std::fs::metadata(blobs.join(name)).ok()).map(|data| data.len()).sum()
}

/// The names in a folder, sorted; none if it cannot be read.
pub fn file_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A repository as the hub's own tools leave it, with these files in its snapshot.
    fn cache_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let cache = tempfile::tempdir().unwrap();
        let repo = cache.path().join("models--org--name");
        let snapshot = repo.join("snapshots").join(COMMIT);
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(repo.join("refs/refs/pr")).unwrap();
        std::fs::write(repo.join("refs/main"), COMMIT).unwrap();
        std::fs::write(repo.join("refs/refs/pr/1"), COMMIT).unwrap();
        for (name, text) in files {
            std::fs::write(snapshot.join(name), text).unwrap();
        }
        cache
    }

    fn missing(files: &[(&str, &str)], reference: &str) -> Option<String> {
        let cache = cache_with(files);
        find(cache.path(), &Reference::parse(reference).unwrap()).unwrap().missing
    }

    #[test]
    fn a_snapshot_is_complete_when_every_shard_is_there() {
        let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
        let config = ("config.json", "{}");
        assert_eq!(missing(&[], "hf://org/name"), Some("config.json".into()));
        assert_eq!(missing(&[config], "hf://org/name"), Some("model.safetensors".into()));
        assert_eq!(missing(&[config, ("model.safetensors", "")], "hf://org/name"), None);
        let first = ("model-1.safetensors", "");
        assert_eq!(missing(&[config, (INDEX_FILE, index), first], "hf://org/name"), Some("model-2.safetensors".into()));
        let second = ("model-2.safetensors", "");
        assert_eq!(missing(&[config, (INDEX_FILE, index), first, second], "hf://org/name"), None);
        assert_eq!(missing(&[config, (INDEX_FILE, "{"), first], "hf://org/name"), Some(INDEX_FILE.into()));
    }

    #[test]
    fn revisions_are_branches_commits_or_requests() {
        let files = [("config.json", "{}"), ("model.safetensors", "")];
        for revision in ["main", "refs/pr/1", COMMIT] {
            assert_eq!(missing(&files, &format!("hf://org/name@{revision}")), None);
        }
        let cache = cache_with(&files);
        assert_eq!(find(cache.path(), &Reference::parse("hf://org/name@other").unwrap()), None);
        assert_eq!(find(cache.path(), &Reference::parse("hf://org/other").unwrap()), None);
    }

    #[test]
    fn the_cache_is_listed_with_what_can_be_loaded() {
        let cache = cache_with(&[("name.Q8_0.gguf", "12345")]);
        let models = list(cache.path());
        let names: Vec<&str> = models.iter().map(|model| model.model.as_str()).collect();
        assert_eq!(names, ["hf://org/name/name.Q8_0.gguf", "hf://org/name/name.Q8_0.gguf@refs/pr/1"]);
        assert_eq!(models[0].size_bytes, 5);
        assert_eq!(list(cache_with(&[]).path())[0].missing, Some("config.json".into()));
    }

    #[test]
    fn an_index_cannot_name_files_elsewhere() {
        assert!(shards(br#"{"weight_map": {"a": "../../x"}}"#).is_err());
        assert!(shards(br#"{"weight_map": {}}"#).is_err());
        assert!(shards(b"[]").is_err());
    }
}
