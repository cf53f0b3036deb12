//! A checkpoint from the hub into the cache: only the files that a loader reads, and all of them or none.

use super::cache::{self, INDEX_FILE};
use super::client::{Client, RemoteFile};
use super::download::{Destination, create_folder_of, download};
use super::reference::{Reference, is_plain_name};
use super::settings::Settings;
use anyhow::{Context, Result, anyhow, bail};
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a loader reads beside the weights, where a repository has it.
const TEXT_FILES: [&str; 11] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];

/// The wait after a first try without new bytes.
const PAUSE: Duration = Duration::from_secs(1);

/// Brings a checkpoint into the hub's cache and returns its folder (or its GGUF file). What is there is not fetched
/// again, and what broke off goes on. The snapshot appears when all its files are there and checked. Offline it only
/// looks into the cache.
pub fn fetch(reference: &Reference, settings: &Settings, bar: &ProgressBar) -> Result<PathBuf> {
    if settings.offline {
        return match cache::find(&settings.cache, reference) {
            Some(snapshot) if snapshot.missing.is_none() => Ok(snapshot.path),
            found => Err(anyhow!(
                "{reference}: HF_HUB_OFFLINE is set and {} in the cache {}; unset it to fetch",
                found.and_then(|snapshot| snapshot.missing).unwrap_or_else(|| String::from("the model")) + " is not",
                settings.cache.display()
            )),
        };
    }
    let fetch = Fetch { reference, settings, client: Client::new(settings), bar };
    fetch.run()
}

struct Fetch<'a> {
    reference: &'a Reference,
    settings: &'a Settings,
    client: Client,
    bar: &'a ProgressBar,
}

impl Fetch<'_> {
    fn run(&self) -> Result<PathBuf> {
        self.bar.set_message("asking the hub");
        let info = self.client.repo_info(self.reference)?;
        if !cache::is_commit(&info.sha) {
            bail!("{}: the hub names no valid commit: '{}'", self.reference, info.sha);
        }
        let names: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        let files = self.remote_files(&info.sha, &self.wanted(&info.sha, &names)?)?;
        self.bar.set_length(files.iter().map(|file| file.size_bytes).sum());
        for file in &files {
            self.bring(file)?;
        }
        self.publish(&info.sha, &files)?;
        let folder = self.repo_folder().join("snapshots").join(&info.sha);
        Ok(self.reference.file.as_ref().map_or(folder.clone(), |file| folder.join(file)))
    }

    /// The files that a loader reads, of those that the repository has.
    fn wanted(&self, commit: &str, names: &[String]) -> Result<Vec<String>> {
        let has = |name: &str| names.iter().any(|other| other == name);
        if let Some(file) = &self.reference.file {
            return if has(file) {
                Ok(vec![file.clone()])
            } else {
                Err(anyhow!("{}: the repository has no {file}; {}", self.reference, gguf_hint(names, self.reference)))
            };
        }
        if !has("config.json") {
            bail!("{}: the repository has no config.json; {}", self.reference, gguf_hint(names, self.reference));
        }
        let mut wanted: Vec<String> = TEXT_FILES.into_iter().filter(|name| has(name)).map(String::from).collect();
        if has(INDEX_FILE) {
            wanted.push(INDEX_FILE.to_string());
            for shard in self.shards(commit)? {
                if !has(&shard) {
                    bail!("{}: {INDEX_FILE} lists {shard}, which the repository does not have", self.reference);
                }
                wanted.push(shard);
            }
        } else {
            wanted.extend(names.iter().filter(|name| is_plain_name(name) && cache::is_weights_file(name)).cloned());
        }
        if !wanted.iter().any(|name| name.ends_with(".safetensors")) {
            bail!(
                "{}: the repository has no safetensors weights; {}",
                self.reference,
                gguf_hint(names, self.reference)
            );
        }
        Ok(wanted)
    }

    /// The weight files that the repository's index lists.
    fn shards(&self, commit: &str) -> Result<std::collections::BTreeSet<String>> {
        let index = self.client.remote_file(self.reference, commit, INDEX_FILE)?;
        self.bar.set_length(index.size_bytes);
        self.bring(&index)?;
        self.bar.set_position(0);
        let path = self.destination(&index).blob;
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        cache::shards(&text).with_context(|| format!("{}: {INDEX_FILE}", self.reference))
    }

    fn remote_files(&self, commit: &str, names: &[String]) -> Result<Vec<RemoteFile>> {
        names.iter().map(|name| self.client.remote_file(self.reference, commit, name)).collect()
    }

    fn bring(&self, file: &RemoteFile) -> Result<()> {
        self.bar.set_message(file.name.clone());
        download(&self.client, self.reference, file, &self.destination(file), PAUSE, self.bar)
    }

    fn repo_folder(&self) -> PathBuf {
        self.settings.cache.join(self.reference.repo().folder_name())
    }

    fn destination(&self, file: &RemoteFile) -> Destination {
        let repo = hf_hub::Cache::new(self.settings.cache.clone()).repo(self.reference.repo());
        let locks = self.settings.cache.join(".locks").join(self.reference.repo().folder_name());
        Destination { blob: repo.blob_path(&file.etag), lock: locks.join(format!("{}.lock", file.etag)) }
    }

    /// Makes the files appear under their names, and last the revision that leads to them.
    fn publish(&self, commit: &str, files: &[RemoteFile]) -> Result<()> {
        let folder = self.repo_folder().join("snapshots").join(commit);
        for file in files {
            let link = folder.join(&file.name);
            create_folder_of(&link)?;
            let blob = Path::new("../../blobs").join(&file.etag);
            replace(&link, |temporary| std::os::unix::fs::symlink(&blob, temporary))?;
        }
        if self.reference.revision != commit {
            let path = self.repo_folder().join("refs").join(&self.reference.revision);
            create_folder_of(&path)?;
            replace(&path, |temporary| std::fs::write(temporary, commit))?;
        }
        Ok(())
    }
}

/// Makes a file under another name and renames it, so that `path` is never half-written.
fn replace(path: &Path, make: impl Fn(&Path) -> std::io::Result<()>) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let made = make(&temporary).and_then(|()| std::fs::rename(&temporary, path));
    made.with_context(|| format!("cannot write {}", path.display()))
}

/// What to write instead, for a repository that holds GGUF files.
fn gguf_hint(names: &[String], reference: &Reference) -> String {
    let gguf: Vec<&str> = names.iter().map(String::as_str).filter(|name| name.ends_with(".gguf")).collect();
    match gguf.first() {
        Some(first) => format!("name one of its {} GGUF files, such as hf://{}/{first}", gguf.len(), reference.repo),
        None => String::from("ridgepoint loads safetensors and GGUF checkpoints"),
    }
}
