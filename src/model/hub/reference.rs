//! The name of a checkpoint on the hub: `hf://org/name[/file.gguf][@revision]`.

use crate::usage;
use anyhow::Result;
use std::fmt;

const SCHEME: &str = "hf://";
const DEFAULT_REVISION: &str = "main";

/// A checkpoint on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `org/name`.
    pub repo: String,
    /// The one GGUF file that is meant, in a repository of such files; else the safetensors checkpoint.
    pub file: Option<String>,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl Reference {
    /// Whether `text` is meant as a reference to the hub.
    pub fn is_one(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Reads `hf://org/name[/file.gguf][@revision]`; anything else is a usage error.
    pub fn parse(text: &str) -> Result<Reference> {
        let bad = |what: &str| usage!("model '{text}': {what}; write hf://org/name or hf://org/name@revision");
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| bad("it does not begin with hf://"))?;
        let (path, revision) = rest.split_once('@').unwrap_or((rest, DEFAULT_REVISION));
        let mut parts = path.splitn(3, '/');
        let (Some(org), Some(name), file) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("it names no repository"));
        };
        if ![org, name].into_iter().all(is_plain_name) {
            return Err(bad("the organisation or the name has a character that the hub does not allow"));
        }
        if file.is_some_and(|file| !is_plain_name(file) || !file.ends_with(".gguf")) {
            return Err(bad("only a .gguf file of the repository's top folder can be named after it"));
        }
        if !revision.split('/').all(is_plain_name) {
            return Err(bad("the revision is empty or has a character that the hub does not allow"));
        }
        Ok(Reference { repo: format!("{org}/{name}"), file: file.map(String::from), revision: revision.to_string() })
    }

    /// The repository as `hf-hub` knows it, which gives its routes and its place in the cache.
    pub(super) fn repo(&self) -> hf_hub::Repo {
        hf_hub::Repo::with_revision(self.repo.clone(), hf_hub::RepoType::Model, self.revision.clone())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.repo)?;
        if let Some(file) = &self.file {
            write!(f, "/{file}")?;
        }
        if self.revision != DEFAULT_REVISION {
            write!(f, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// Whether a name that came from outside is safe as one component of a path and of an address.
pub(super) fn is_plain_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_read_and_written_back() {
        for (text, repo, file, revision) in [
            ("hf://org/name", "org/name", None, "main"),
            ("hf://org/Name-1.5_b@v1.0", "org/Name-1.5_b", None, "v1.0"),
            ("hf://org/name@refs/pr/3", "org/name", None, "refs/pr/3"),
            ("hf://org/name-GGUF/name.Q8_0.gguf@main2", "org/name-GGUF", Some("name.Q8_0.gguf"), "main2"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.repo.as_str(), reference.file.as_deref()), (repo, file));
            assert_eq!(reference.revision, revision);
            assert_eq!(reference.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_reference_is_a_usage_error() {
        for text in [
            "org/name",
            "hf://",
            "hf://name",
            "hf://org/",
            "hf:///name",
            "hf://org/name@",
            "hf://org/name@../main",
            "hf://../name",
            "hf://org/na me",
            "hf://org/name?x=1",
            "hf://org/name/model.safetensors",
            "hf://org/name/../../x.gguf",
        ] {
            let error = Reference::parse(text).unwrap_err();
            assert_eq!(crate::error::exit_code(&error), 2, "{text}");
            assert!(error.to_string().contains("hf://org/name"), "{error}");
        }
    }
}
