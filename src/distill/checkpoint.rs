//! Checkpoints in `OUT/checkpoint/`: all that training needs to go on as if it had not stopped.
//!
//! `checkpoint.json` names the file with the arrays and replaces its predecessor in one rename, so that a kill at any
//! moment leaves one whole checkpoint.

use super::adamw::State;
use super::decoder::Tensor;
use super::settings::Settings;
use crate::results::write_atomically;
use anyhow::{Context, Result, bail};
use mlx_rs::Array;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

const FILE: &str = "checkpoint.json";

/// Where training stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub settings: Settings,
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run; none while `minutes` has not been turned into steps.
    pub steps: Option<u64>,
    /// Tokens read, padding left out.
    pub tokens: u64,
    /// Seconds of training, evaluation included, over all launches.
    pub seconds: f64,
    /// Losses of the steps since the last row of `training.csv`, and how many.
    pub loss_sum: f64,
    pub loss_count: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Index {
    file: String,
    progress: Progress,
}

/// Writes a checkpoint and removes the one before.
pub fn save(folder: &Path, tensors: &[Tensor], state: &State, progress: &Progress) -> Result<()> {
    let folder = folder.join("checkpoint");
    let shown = folder.display();
    fs::create_dir_all(&folder).with_context(|| format!("{shown}: cannot be created"))?;
    let file = format!("step-{}.safetensors", progress.step);
    let names =
        ["weight", "mean", "square"].iter().flat_map(|kind| tensors.iter().map(move |t| format!("{kind}:{}", t.name)));
    let arrays: Vec<(String, &Array)> = names.zip(state.arrays()).collect();
    super::export::save(arrays.iter().map(|(name, array)| (name.as_str(), *array)), &folder.join(&file))?;
    let index = Index { file: file.clone(), progress: progress.clone() };
    write_atomically(&folder.join(FILE), format!("{}\n", serde_json::to_string_pretty(&index)?).as_bytes())?;
    for entry in fs::read_dir(&folder).with_context(|| format!("{shown}: cannot be read"))?.flatten() {
        let name = entry.file_name();
        if name != FILE && *name != *file {
            let path = entry.path();
            fs::remove_file(&path).with_context(|| format!("{}: cannot be removed", path.display()))?;
        }
    }
    Ok(())
}

/// The checkpoint of a folder, if it has one. One of other settings is refused by the first field that differs.
pub fn load(folder: &Path, tensors: &[Tensor], settings: &Settings) -> Result<Option<(State, Progress)>> {
    let path = folder.join("checkpoint").join(FILE);
    let shown = path.display();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{shown}: cannot be read")),
    };
    let broken = || format!("{shown}: is damaged; remove {} to start again", folder.join("checkpoint").display());
    let index: Index = serde_json::from_str(&text).with_context(broken)?;
    if let Some(difference) = index.progress.settings.difference(settings) {
        return Err(crate::usage!(
            "{shown}: settings.{difference}; give what the run was started with, or another --out"
        ));
    }
    let file = path.with_file_name(&index.file);
    let state = arrays(&file, tensors).with_context(broken)?;
    Ok(Some((state, index.progress)))
}

fn arrays(file: &PathBuf, tensors: &[Tensor]) -> Result<State> {
    // Our own code checks the file before MLX, which trusts it, reads it.
    crate::model::safetensors::open_file(file)?;
    let mut held: HashMap<String, Array> = Array::load_safetensors(file)?;
    let mut arrays = Vec::with_capacity(3 * tensors.len());
    for kind in ["weight", "mean", "square"] {
        for Tensor { name, shape } in tensors {
            match held.remove(&format!("{kind}:{name}")) {
                Some(array) if array.shape() == shape => arrays.push(array),
                _ => bail!("{}: has no {kind} of '{name}' with shape {shape:?}", file.display()),
            }
        }
    }
    mlx_rs::transforms::eval(&arrays)?;
    Ok(State::from_arrays(&arrays))
}

/// Removes a finished run's checkpoint.
pub fn remove(folder: &Path) -> Result<()> {
    let folder = folder.join("checkpoint");
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot be removed", folder.display()))
        }
        _ => Ok(()),
    }
}
