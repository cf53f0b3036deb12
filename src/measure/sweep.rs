//! A sweep: every cell is a tuning job in its own folder; what became of it is a row of `cells.csv`.

use super::Progress;
use super::simulated_executor::SimulatedExecutor;
use super::tune::Tuner;
use crate::error::cannot_write;
use crate::results::{
    CellRow, CellState, CostRow, Design, Identity, Pending, ResultsDir, RunRow, Table, pending, read_raw,
};
use crate::scenario::Cell;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The library version of a machine that is made up.
pub const SIMULATED: &str = "simulated";

/// Attempts every cell that is not done: `measure` runs it in its folder and returns its seconds. A cell that fails leaves
/// its error and the others go on; those that failed before are tried again only if `retry`.
pub fn run_cells(
    results: &ResultsDir,
    cells: &[Cell],
    retry: bool,
    measure: &mut dyn FnMut(&Cell, &Path) -> Result<f64>,
) -> Result<Vec<CellRow>> {
    let mut table: Table<CellRow> = results.table()?;
    for cell in cells {
        let Pending::Attempt(attempt) = pending(&cell.name, table.rows(), retry) else { continue };
        let started = std::time::Instant::now();
        let measured = measure(cell, &results.path().join(&cell.name));
        if let Err(error) = &measured
            && cannot_write(error)
        {
            // No fault of the cell's, and the next ones would meet it too: the same command goes on from here.
            return measured.map(|_| Vec::new()).with_context(|| format!("cell {}", cell.name));
        }
        let scenario = &cell.loaded.scenario;
        let row = CellRow {
            cell: cell.name.clone(),
            attempt,
            target: scenario.target.model.clone(),
            drafter: cell.draft.clone(),
            precision: cell.precision().to_string(),
            context: scenario.context.map(|context| context as u64),
            batch: scenario.batch as u64,
            state: CellState::Done,
            seconds: 0.0,
            error: String::new(),
        };
        let simulated = scenario.simulated.is_some();
        table.append(match measured {
            Ok(seconds) => CellRow { seconds, ..row },
            Err(error) => CellRow {
                state: CellState::Failed,
                seconds: if simulated { 0.0 } else { started.elapsed().as_secs_f64() },
                error: format!("{error:#}"),
                ..row
            },
        })?;
    }
    Ok(table.rows().to_vec())
}

/// Runs a cell on its made-up machine. All launches on its folder are one, so that rows do not depend on kills.
///
/// # Errors
/// If the cell cannot be, as when its context does not fit the target.
pub fn simulate(cell: &Cell, machine: &str, folder: &Path, progress: &mut dyn Progress) -> Result<f64> {
    let scenario = &cell.loaded.scenario;
    let mut executor = SimulatedExecutor::new(scenario)?;
    let identity = Identity {
        scenario: scenario.name.clone(),
        scenario_sha256: cell.loaded.sha256.clone(),
        machine: machine.to_string(),
        target: scenario.target.model.clone(),
        mlx: SIMULATED.to_string(),
        ..Identity::default()
    };
    let mut results = ResultsDir::open(folder, &identity, scenario)?;
    if results.is_new() {
        results.begin_launch(json!({ "simulated": true, "ceilings": executor.ceilings() }))?;
    }
    Tuner {
        scenario,
        machine: machine.to_string(),
        target_name: scenario.target.model.clone(),
        prompts: SimulatedExecutor::prompts(scenario),
        executor: &mut executor,
        results,
        design: Design::Blocks,
        budget: scenario.time_budget,
        stop: Arc::new(AtomicBool::new(false)),
    }
    .run(progress)?;
    let costs: Vec<CostRow> = read_raw(folder)?;
    let runs: Vec<RunRow> = read_raw(folder)?;
    let cost_s: f64 = costs.iter().filter_map(|row| Some(row.time_ms? / 1e3 * row.chain as f64)).sum();
    Ok(cost_s + runs.iter().filter_map(|row| row.seconds).sum::<f64>())
}
