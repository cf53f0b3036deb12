//! What a report is made from: results folders of every kind, each derived once.

use crate::analysis::cost::{CostDerived, derive_cost};
use crate::analysis::{Derived, RegimeMap, derive, map_derived, sweep_folders};
use crate::experiment::{Baseline, baseline};
use crate::results::{Kind, PredictedLengthRow, PredictedWidthRow, Stamp, Wire};
use crate::stats::parallel::in_parallel;
use crate::usage;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// A results folder and what follows from it.
pub struct Folder<T> {
    /// As it was named.
    pub path: PathBuf,
    /// The machine and the folder's own name: what files and macros are named after, different for every folder.
    pub name: String,
    pub stamp: Stamp,
    pub derived: T,
}

/// All folders of a report by kind, in the order in which they were named.
#[derive(Default)]
pub struct Material {
    pub tunes: Vec<Folder<Derived>>,
    /// Cells of sweeps, which are told of together.
    pub cells: Vec<Folder<Derived>>,
    pub costs: Vec<Folder<CostDerived>>,
    pub baselines: Vec<Folder<Baseline>>,
    /// Of `tunes` and `cells`.
    pub map: RegimeMap,
    /// What was named but not read, and why.
    pub skipped: Vec<String>,
}

impl Material {
    /// Reads and derives folders of `tune`, `cost`, `baseline` and `sweep`. A folder without a stamp stands for the results
    /// folders in it; files and what `predict` wrote are left out, so that `results/h100/*` names what lies there.
    ///
    /// # Errors
    /// A name that is not there, a folder twice, no results at all, or results that cannot be read; mixed machines or versions
    /// unless `allow_mixed`.
    pub fn gather(paths: &[PathBuf], allow_mixed: bool) -> Result<Material> {
        let mut material = Material::default();
        let mut found: Vec<(PathBuf, Stamp)> = Vec::new();
        for path in paths {
            for folder in material.results_in(path)? {
                if found.iter().any(|(other, _)| *other == folder.0) {
                    return Err(usage!("{}: is given twice; give each folder once", folder.0.display()));
                }
                found.push(folder);
            }
        }
        let mut names = Names::default();
        let mut tunes = Vec::new();
        for (path, stamp) in found {
            let name = names.of(&stamp.identity.machine, &path);
            match stamp.identity.kind {
                Kind::Tune => tunes.push((path, name, stamp, false)),
                Kind::Sweep => {
                    for cell in sweep_folders(&path)? {
                        let own = Stamp::read(&cell)?;
                        let own = own.with_context(|| format!("{}: has no environment.json", cell.display()))?;
                        tunes.push((cell.clone(), names.of(&own.identity.machine, &cell), own, true));
                    }
                }
                Kind::Cost => {
                    let derived = derive_cost(&path, allow_mixed)?;
                    material.costs.push(Folder { path, name, stamp, derived });
                }
                Kind::Baseline => {
                    let derived = baseline(&path)?;
                    material.baselines.push(Folder { path, name, stamp, derived });
                }
            }
        }
        let read = |(path, name, stamp, cell): (PathBuf, String, Stamp, bool)| -> Result<(bool, Folder<Derived>)> {
            let derived = derive(&path, allow_mixed).with_context(|| path.display().to_string())?;
            Ok((cell, Folder { path, name, stamp, derived }))
        };
        for folder in in_parallel(tunes, read) {
            let (cell, folder) = folder?;
            if cell { material.cells.push(folder) } else { material.tunes.push(folder) }
        }
        let all = material.tunes.iter().chain(&material.cells);
        material.map =
            map_derived(all.map(|folder| (folder.path.display().to_string(), folder.derived.clone())).collect())?;
        Ok(material)
    }

    /// The results folder at a path, or those in it.
    fn results_in(&mut self, path: &Path) -> Result<Vec<(PathBuf, Stamp)>> {
        if path.is_file() {
            self.skipped.push(format!("{}: is a file, left out", path.display()));
            return Ok(Vec::new());
        }
        if !path.is_dir() {
            return Err(usage!(
                "{}: is not there; name results folders, such as results/linux-cpu-2core/*",
                path.display()
            ));
        }
        if let Some(stamp) = Stamp::read(path)? {
            return Ok(vec![(path.to_path_buf(), stamp)]);
        }
        if [PredictedWidthRow::FILE, PredictedLengthRow::FILE].iter().any(|file| path.join(file).exists()) {
            self.skipped.push(format!("{}: holds predictions, left out", path.display()));
            return Ok(Vec::new());
        }
        let mut inner: Vec<PathBuf> = std::fs::read_dir(path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|inner| inner.is_dir())
            .collect();
        inner.sort();
        let mut found = Vec::new();
        for folder in inner {
            found.extend(Stamp::read(&folder)?.map(|stamp| (folder, stamp)));
        }
        if found.is_empty() {
            let shown = path.display();
            return Err(usage!("{shown}: holds no results of tune, cost, baseline or sweep; name such a folder"));
        }
        Ok(found)
    }

    pub fn is_empty(&self) -> bool {
        self.tunes.is_empty() && self.cells.is_empty() && self.costs.is_empty() && self.baselines.is_empty()
    }
}

/// Names given so far.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    /// `machine-folder` of letters, digits, '.' and '-'; a second one of that name gets a number.
    fn of(&mut self, machine: &str, path: &Path) -> String {
        let folder = path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let text = format!("{machine}-{}", folder.unwrap_or_default());
        let letter = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
        let plain: String = text.chars().map(letter).collect();
        let mut name = plain.clone();
        for number in 2.. {
            if !self.0.contains(&name) {
                break;
            }
            name = format!("{plain}-{number}");
        }
        self.0.push(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_gets_a_name_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = root.path().join(name).join("quick start");
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let mut names = Names::default();
        assert_eq!(names.of("h100", &folder("a")), "h100-quick-start");
        assert_eq!(names.of("h100", &folder("b")), "h100-quick-start-2");
        assert_eq!(names.of("m3", &folder("c")), "m3-quick-start");
    }

    #[test]
    fn what_holds_no_results_is_refused_and_files_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("peers.csv");
        std::fs::write(&file, "x").unwrap();
        let refused = |path: &Path| Material::gather(&[path.to_path_buf()], false).err().unwrap().to_string();
        assert!(refused(root.path()).contains("holds no results of tune"));
        assert!(refused(&root.path().join("other")).contains("is not there"));
        let material = Material::gather(&[file], false).unwrap();
        assert!(material.is_empty() && material.skipped.len() == 1);
    }
}
