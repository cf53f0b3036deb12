//! Where the hub is, where its cache lies, and with which token it is asked: the conventions of the hub's own tools.

use crate::usage;
use anyhow::Result;
use std::ffi::OsString;
use std::path::PathBuf;

/// What the environment says about the hub. It is not `Debug`: it holds a token.
#[derive(Clone)]
pub struct Settings {
    /// `HF_ENDPOINT`, without a slash at the end; by default `https://huggingface.co`.
    pub endpoint: String,
    /// `HF_HUB_CACHE`, or `hub` in `HF_HOME`, or `huggingface/hub` in the user's cache folder.
    pub cache: PathBuf,
    /// `HF_TOKEN`, or the token file that the hub's login command writes.
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE`: never touch the network.
    pub offline: bool,
}

impl Settings {
    /// Reads the process's environment.
    pub fn from_env() -> Result<Settings> {
        Settings::from(|name| std::env::var_os(name).filter(|value| !value.is_empty()), std::env::home_dir())
    }

    fn from(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Result<Settings> {
        let path = |name: &str| variable(name).map(|value| expand(PathBuf::from(value), home.as_ref()));
        let text = |name: &str| variable(name).map(|value| value.to_string_lossy().trim().to_string());
        let hf_home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| home.as_ref().map(|home| home.join(".cache/huggingface")))
            .ok_or_else(|| usage!("HF_HOME: there is no home folder to keep models in; set HF_HOME to a folder"))?;
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| String::from("https://huggingface.co"));
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(usage!("HF_ENDPOINT: '{endpoint}' is no address; it begins with https:// or http://"));
        }
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"));
        let token = text("HF_TOKEN").or_else(|| Some(std::fs::read_to_string(token_file).ok()?.trim().to_string()));
        Ok(Settings {
            endpoint: endpoint.trim_end_matches('/').to_string(),
            cache: path("HF_HUB_CACHE").unwrap_or_else(|| hf_home.join("hub")),
            token: token.filter(|token| !token.is_empty()),
            offline: text("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
        })
    }
}

/// The values that the hub's own tools take for yes.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
}

fn expand(path: PathBuf, home: Option<&PathBuf>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        Settings::from(find, Some(PathBuf::from("/home/me")))
    }

    #[test]
    fn the_cache_is_where_the_hub_keeps_it() {
        for (variables, cache) in [
            (&[][..], "/home/me/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/c")], "/c/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/c"), ("HF_HOME", "/h")], "/h/hub"),
            (&[("HF_HOME", "~/h")], "/home/me/h/hub"),
            (&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/k")], "/k"),
        ] {
            assert_eq!(read(variables).unwrap().cache, PathBuf::from(cache), "{variables:?}");
        }
    }

    #[test]
    fn the_token_comes_from_the_variable_or_else_the_file() {
        let home = tempfile::tempdir().unwrap();
        let home_text = home.path().to_str().unwrap();
        assert_eq!(read(&[("HF_HOME", home_text)]).unwrap().token, None);
        std::fs::write(home.path().join("token"), " from-file\n").unwrap();
        assert_eq!(read(&[("HF_HOME", home_text)]).unwrap().token.as_deref(), Some("from-file"));
        let both = read(&[("HF_HOME", home_text), ("HF_TOKEN", "from-variable")]).unwrap();
        assert_eq!(both.token.as_deref(), Some("from-variable"));
    }

    #[test]
    fn offline_and_the_endpoint_are_read() {
        assert!(!read(&[]).unwrap().offline);
        assert!(!read(&[("HF_HUB_OFFLINE", "0")]).unwrap().offline);
        assert!(read(&[("HF_HUB_OFFLINE", "1")]).unwrap().offline);
        assert!(read(&[("HF_HUB_OFFLINE", "True")]).unwrap().offline);
        assert_eq!(read(&[("HF_ENDPOINT", "http://mirror:8080/")]).unwrap().endpoint, "http://mirror:8080");
        let error = read(&[("HF_ENDPOINT", "mirror")]).err().unwrap();
        assert_eq!(crate::error::exit_code(&error), 2);
    }
}
