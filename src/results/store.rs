//! A results folder: whose it is, who may write to it, and its files.

use super::SCHEMA_VERSION;
use super::environment::Identity;
use super::table::Table;
use super::wire::{Derived, Raw, read_rows, write_atomically, write_rows};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

const ENVIRONMENT: &str = "environment.json";
const LOCK: &str = ".lock";

/// A results folder opened for writing. Other processes are kept out until it is dropped.
#[derive(Debug)]
pub struct ResultsDir {
    path: PathBuf,
    launch: u64,
    _lock: File,
}

impl ResultsDir {
    /// Creates or reopens a folder. `environment` describes this launch: device, library versions, threads, the declared
    /// scenario. A folder of another identity or schema version, or one in use, is refused.
    pub fn open(path: &Path, identity: &Identity, environment: Value) -> Result<ResultsDir> {
        let shown = path.display().to_string();
        std::fs::create_dir_all(path).with_context(|| format!("cannot create the results folder {shown}"))?;
        let lock = lock(path)?;
        let mut stamp = match read_environment(path)? {
            Some(stamp) => {
                identity_of(path, &stamp)?.check(&shown, identity)?;
                stamp
            }
            None if holds_results(path)? => {
                bail!("{shown}: has CSV files but no {ENVIRONMENT}; name another folder with --results")
            }
            None => json!({ "schema_version": SCHEMA_VERSION, "identity": identity, "launches": [] }),
        };
        let launches = stamp["launches"].as_array_mut();
        let launches = launches.with_context(|| format!("{shown}/{ENVIRONMENT}: launches: must be an array"))?;
        let launch = launches.len() as u64;
        launches.push(environment);
        write_environment(path, &stamp)?;
        Ok(ResultsDir { path: path.to_path_buf(), launch, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which launch on this folder this is, from 0.
    pub fn launch(&self) -> u64 {
        self.launch
    }

    /// Opens a raw file for appending.
    pub fn table<R: Raw>(&self) -> Result<Table<R>> {
        Table::open(&self.path)
    }

    /// Writes a derived file whole.
    pub fn write<R: Derived>(&self, rows: &[R]) -> Result<()> {
        write_rows(&self.path.join(R::FILE), rows)
    }

    /// Reads a file of the folder; no rows if it is not there.
    pub fn read<R: super::wire::Wire>(&self) -> Result<Vec<R>> {
        let path = self.path.join(R::FILE);
        if path.exists() { read_rows(&path) } else { Ok(Vec::new()) }
    }
}

/// Holds the folder's lock file until dropped; the system releases it when a process dies.
fn lock(path: &Path) -> Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path.join(LOCK));
    let file = file.with_context(|| format!("cannot write to the results folder {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "{}: another ridgepoint is writing to this results folder; wait for it or name another with --results",
            path.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// The folder's `environment.json`, if there is one.
pub fn read_environment(path: &Path) -> Result<Option<Value>> {
    let file = path.join(ENVIRONMENT);
    let shown = file.display();
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    };
    let stamp: Value = serde_json::from_str(&text).with_context(|| format!("{shown}: is not JSON; mend it"))?;
    match stamp["schema_version"].as_u64() {
        Some(version) if version == u64::from(SCHEMA_VERSION) => Ok(Some(stamp)),
        Some(version) => bail!("{shown}: schema_version: {version} cannot be read here, only {SCHEMA_VERSION}"),
        None => bail!("{shown}: schema_version: missing; this is no results folder of ridgepoint"),
    }
}

fn identity_of(path: &Path, stamp: &Value) -> Result<Identity> {
    let place = || format!("{}: identity", path.join(ENVIRONMENT).display());
    serde_json::from_value(stamp["identity"].clone()).with_context(place)
}

fn write_environment(path: &Path, stamp: &Value) -> Result<()> {
    let mut text = serde_json::to_string_pretty(stamp)?;
    text.push('\n');
    write_atomically(&path.join(ENVIRONMENT), text.as_bytes())
}

fn holds_results(path: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(path)?.filter_map(Result::ok);
    Ok(entries.any(|entry| entry.path().extension().is_some_and(|extension| extension == "csv")))
}

#[cfg(test)]
mod tests {
    use super::super::derived::PredictionRow;
    use super::super::rows::PromptRow;
    use super::*;
    use std::fs;

    fn identity() -> Identity {
        Identity { scenario: "quick".to_string(), machine: "linux-cpu-2core".to_string(), ..Identity::default() }
    }

    #[test]
    fn a_folder_is_resumed_by_its_own_scenario_and_counts_launches() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("machine/quick");
        for launch in 0..3 {
            let folder = ResultsDir::open(&path, &identity(), json!({ "threads": 2 })).unwrap();
            assert_eq!(folder.launch(), launch);
            let mut table = folder.table::<PromptRow>().unwrap();
            table.append(PromptRow { prompt: format!("p{launch}"), ..PromptRow::default() }).unwrap();
            assert_eq!(table.rows().len() as u64, launch + 1);
        }
        let stamp = read_environment(&path).unwrap().unwrap();
        assert_eq!(stamp["launches"].as_array().unwrap().len(), 3);
        assert_eq!(stamp["identity"]["machine"], "linux-cpu-2core");
    }

    #[test]
    fn a_folder_of_another_identity_is_refused_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        drop(ResultsDir::open(root.path(), &identity(), Value::Null).unwrap());
        let before = fs::read(root.path().join(ENVIRONMENT)).unwrap();
        let other = Identity { weights_sha256: "ff".to_string(), ..identity() };
        let error = ResultsDir::open(root.path(), &other, Value::Null).unwrap_err().to_string();
        assert!(error.contains("weights_sha256 is '', this run's is 'ff'") && error.contains("--results"), "{error}");
        assert_eq!(fs::read(root.path().join(ENVIRONMENT)).unwrap(), before);
    }

    #[test]
    fn a_second_process_is_kept_out_until_the_first_is_done() {
        let root = tempfile::tempdir().unwrap();
        let first = ResultsDir::open(root.path(), &identity(), Value::Null).unwrap();
        let error = ResultsDir::open(root.path(), &identity(), Value::Null).unwrap_err().to_string();
        assert!(error.contains("another ridgepoint is writing"), "{error}");
        drop(first);
        ResultsDir::open(root.path(), &identity(), Value::Null).unwrap();
    }

    #[test]
    fn a_folder_without_or_with_a_broken_stamp_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let open = || ResultsDir::open(root.path(), &identity(), Value::Null).unwrap_err().to_string();
        fs::write(root.path().join("runs.csv"), "x").unwrap();
        assert!(open().contains("has CSV files but no environment.json"));
        for (stamp, expected) in [
            ("{", "is not JSON"),
            ("{}", "schema_version: missing"),
            ("{\"schema_version\": 99}", "schema_version: 99"),
            ("{\"schema_version\": 1}", "identity"),
            ("{\"schema_version\": 1, \"identity\": {\"scenario\": 1}}", "identity"),
        ] {
            fs::write(root.path().join(ENVIRONMENT), stamp).unwrap();
            assert!(open().contains(expected), "{stamp}: {}", open());
        }
    }

    #[test]
    fn derived_files_are_written_whole_and_read_back() {
        let root = tempfile::tempdir().unwrap();
        let folder = ResultsDir::open(root.path(), &identity(), Value::Null).unwrap();
        assert_eq!(folder.read::<PredictionRow>().unwrap(), []);
        let rows = [PredictionRow { tau: 1.0 / 3.0, alpha: Some(1e-300), ..PredictionRow::default() }];
        folder.write(&rows).unwrap();
        folder.write(&rows).unwrap();
        assert_eq!(folder.read::<PredictionRow>().unwrap(), rows);
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".new")), "{left:?}");
    }
}
