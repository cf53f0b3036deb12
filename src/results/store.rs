//! A results folder: whose it is, who may write to it, and its files.

use super::environment::{Identity, Stamp, mixed};
use super::table::{Table, places};
use super::wire::{Derived, Raw, Wire, read_rows, write_atomically, write_rows};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

const LOCK: &str = ".lock";

/// A results folder opened for writing. Other processes are kept out until it is dropped.
#[derive(Debug)]
pub struct ResultsDir {
    path: PathBuf,
    stamp: Stamp,
    _lock: File,
}

impl ResultsDir {
    /// Creates or reopens a folder; a new one is stamped with what is declared. One of another identity or schema version,
    /// or one in use, is refused.
    pub fn open(path: &Path, identity: &Identity, declared: &impl Serialize) -> Result<ResultsDir> {
        let shown = path.display().to_string();
        std::fs::create_dir_all(path).with_context(|| format!("cannot create the results folder {shown}"))?;
        let lock = lock(path)?;
        let stamp = match Stamp::read(path)? {
            Some(stamp) => {
                stamp.identity.check(&shown, identity)?;
                stamp
            }
            None if holds_results(path)? => {
                bail!("{shown}: has CSV files but no environment.json; name another folder with --results")
            }
            None => Stamp::new(identity, declared)?,
        };
        // Written now: a folder that cannot be written to is found before anything is measured.
        stamp.write(path)?;
        Ok(ResultsDir { path: path.to_path_buf(), stamp, _lock: lock })
    }

    /// Records that a launch measures from here on, and describes it: device, library versions, threads, ceilings, time.
    /// One of another kind than those before is refused.
    pub fn begin_launch(&mut self, launch: Value) -> Result<()> {
        self.stamp.launches.push(launch);
        if let Some(difference) = mixed(&self.stamp.launches) {
            let shown = self.path.display();
            bail!("{shown}: this launch is not like those before ({difference}); name another folder with --results");
        }
        self.stamp.write(&self.path)
    }

    /// Whether no launch has measured into this folder yet.
    pub fn is_new(&self) -> bool {
        self.stamp.launches.is_empty()
    }

    /// Refuses a folder that belongs to another identity.
    pub fn check(path: &Path, identity: &Identity) -> Result<()> {
        match Stamp::read(path)? {
            Some(stamp) => stamp.identity.check(&path.display().to_string(), identity),
            None => bail!("{}: has no environment.json; name another folder with --results", path.display()),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which launch on this folder this is, from 0.
    pub fn launch(&self) -> u64 {
        (self.stamp.launches.len() as u64).saturating_sub(1)
    }

    /// Opens a raw file for appending.
    pub fn table<R: Raw>(&self) -> Result<Table<R>> {
        self.table_as(R::FILE)
    }

    /// Opens a raw file of another name than its rows' usual one.
    pub fn table_as<R: Raw>(&self, file: &str) -> Result<Table<R>> {
        Table::open(&self.path.join(file))
    }
}

/// Writes a derived file of a results folder whole; a reader sees the old file or the new one.
pub fn write<R: Derived>(folder: &Path, rows: &[R]) -> Result<()> {
    write_rows(&folder.join(R::FILE), rows)
}

/// Writes another derived file, such as a figure, whole.
pub fn write_text(folder: &Path, name: &str, text: &str) -> Result<()> {
    write_atomically(&folder.join(name), text.as_bytes())
}

/// Reads a file of a results folder; no rows if it is not there.
pub fn read<R: Wire>(folder: &Path) -> Result<Vec<R>> {
    read_if_there(&folder.join(R::FILE))
}

fn read_if_there<R: Wire>(path: &Path) -> Result<Vec<R>> {
    if path.exists() { read_rows(path) } else { Ok(Vec::new()) }
}

/// Reads a raw file of a results folder; a sample that is there twice is refused.
pub fn read_raw<R: Raw>(folder: &Path) -> Result<Vec<R>> {
    read_raw_as(folder, R::FILE)
}

/// Reads a raw file of another name than its rows' usual one.
pub fn read_raw_as<R: Raw>(folder: &Path, file: &str) -> Result<Vec<R>> {
    let path = folder.join(file);
    let rows = read_if_there(&path)?;
    places::<R>(&path.display().to_string(), &rows)?;
    Ok(rows)
}

/// Holds the folder's lock file until dropped; the system releases it when a process dies.
pub(super) fn lock(path: &Path) -> Result<File> {
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

fn holds_results(path: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(path)?.filter_map(Result::ok);
    Ok(entries.any(|entry| entry.path().extension().is_some_and(|extension| extension == "csv")))
}

#[cfg(test)]
mod tests {
    use super::super::derived::PredictionRow;
    use super::super::rows::PromptRow;
    use super::*;
    use serde_json::json;
    use std::fs;

    const ENVIRONMENT: &str = "environment.json";

    fn scenario() -> crate::scenario::Scenario {
        crate::scenario::load(Path::new("scenarios/quickstart.toml")).unwrap().scenario
    }

    fn identity() -> Identity {
        Identity { scenario: "quick".to_string(), machine: "linux-cpu-2core".to_string(), ..Identity::default() }
    }

    #[test]
    fn a_folder_is_resumed_by_its_own_scenario_and_counts_launches() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("machine/quick");
        for launch in 0..3 {
            let mut folder = ResultsDir::open(&path, &identity(), &scenario()).unwrap();
            folder.begin_launch(json!({ "threads": 2 })).unwrap();
            assert_eq!(folder.launch(), launch);
            let mut table = folder.table::<PromptRow>().unwrap();
            table.append(PromptRow { prompt: format!("p{launch}"), ..PromptRow::default() }).unwrap();
            assert_eq!(table.rows().len() as u64, launch + 1);
        }
        let stamp = Stamp::read(&path).unwrap().unwrap();
        assert_eq!(stamp.launches, vec![json!({ "threads": 2 }); 3]);
        assert_eq!(stamp.declared::<crate::scenario::Scenario>(&path).unwrap(), scenario());
        assert_eq!(stamp.identity, identity());
    }

    #[test]
    fn a_folder_of_another_identity_is_refused_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        drop(ResultsDir::open(root.path(), &identity(), &scenario()).unwrap());
        let before = fs::read(root.path().join(ENVIRONMENT)).unwrap();
        let other = Identity { weights_sha256: "ff".to_string(), ..identity() };
        let error = ResultsDir::open(root.path(), &other, &scenario()).unwrap_err().to_string();
        assert!(error.contains("weights_sha256 is '', this run's is 'ff'") && error.contains("--results"), "{error}");
        assert_eq!(fs::read(root.path().join(ENVIRONMENT)).unwrap(), before);
    }

    #[test]
    fn a_launch_on_another_machine_or_version_is_refused_and_leaves_no_trace() {
        let root = tempfile::tempdir().unwrap();
        let launch = |version: &str| json!({ "machine": "m", "mlx_version": version });
        let begin = |version: &str| {
            ResultsDir::open(root.path(), &identity(), &scenario()).unwrap().begin_launch(launch(version))
        };
        begin("0.1").unwrap();
        let error = begin("0.2").unwrap_err().to_string();
        assert!(error.contains("mlx_version is \"0.1\" in one launch and \"0.2\" in another"), "{error}");
        begin("0.1").unwrap();
        assert_eq!(Stamp::read(root.path()).unwrap().unwrap().launches.len(), 2);
    }

    #[test]
    fn a_second_process_is_kept_out_until_the_first_is_done() {
        let root = tempfile::tempdir().unwrap();
        let first = ResultsDir::open(root.path(), &identity(), &scenario()).unwrap();
        let error = ResultsDir::open(root.path(), &identity(), &scenario()).unwrap_err().to_string();
        assert!(error.contains("another ridgepoint is writing"), "{error}");
        drop(first);
        ResultsDir::open(root.path(), &identity(), &scenario()).unwrap();
    }

    #[test]
    fn a_folder_without_or_with_a_broken_stamp_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let open = || ResultsDir::open(root.path(), &identity(), &scenario()).unwrap_err().to_string();
        fs::write(root.path().join("runs.csv"), "x").unwrap();
        assert!(open().contains("has CSV files but no environment.json"));
        for (stamp, expected) in [
            ("{", "is not JSON"),
            ("{}", "schema_version: missing"),
            ("{\"schema_version\": 99}", "schema_version: 99"),
            ("{\"schema_version\": 1}", "missing field `identity`"),
            ("{\"schema_version\": 1, \"identity\": {\"scenario\": 1}}", "identity.scenario: invalid type"),
        ] {
            fs::write(root.path().join(ENVIRONMENT), stamp).unwrap();
            assert!(open().contains(expected), "{stamp}: {}", open());
        }
    }

    #[test]
    fn derived_files_are_written_whole_and_read_back() {
        let root = tempfile::tempdir().unwrap();
        let folder = ResultsDir::open(root.path(), &identity(), &scenario()).unwrap();
        assert_eq!(read::<PredictionRow>(folder.path()).unwrap(), []);
        let rows = [PredictionRow { tau: 1.0 / 3.0, alpha: Some(1e-300), ..PredictionRow::default() }];
        write(folder.path(), &rows).unwrap();
        write(folder.path(), &rows).unwrap();
        assert_eq!(read::<PredictionRow>(folder.path()).unwrap(), rows);
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".new")), "{left:?}");
    }
}
