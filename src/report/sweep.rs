//! What a sweep is going to do, and how long it may take.

use crate::results::{CellRow, CellState, Pending, pending};
use crate::scenario::{Cell, Scenario, format_budget};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use std::time::Duration;

/// The summary and one line a cell.
pub fn sweep_plan(scenario: &Scenario, cells: &[Cell], rows: &[CellRow], budget: Duration, retry: bool) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["cell", "target", "drafter", "precision", "context", "batch", "state"]);
    for cell in cells {
        let scenario = &cell.loaded.scenario;
        let state = match pending(&cell.name, rows, retry) {
            Pending::Done => "done",
            Pending::Failed => "failed",
            Pending::Attempt(0) => "to do",
            Pending::Attempt(_) => "to do again",
        };
        table.add_row([
            cell.name.clone(),
            scenario.target.model.clone(),
            cell.draft.clone(),
            cell.precision().to_string(),
            scenario.context.map_or("of the prompts".to_string(), |context| context.to_string()),
            scenario.batch.to_string(),
            state.to_string(),
        ]);
    }
    format!("{}\n\n{}", table.trim_fmt(), sweep_summary(scenario, cells, rows, budget, retry))
}

/// How many cells there are, how many are to be run, and the time that they may take: the mean of those of this sweep that are
/// done, else at most the budget each.
pub fn sweep_summary(scenario: &Scenario, cells: &[Cell], rows: &[CellRow], budget: Duration, retry: bool) -> String {
    let left = cells.iter().filter(|cell| matches!(pending(&cell.name, rows, retry), Pending::Attempt(_))).count();
    let failed = cells.iter().filter(|cell| pending(&cell.name, rows, retry) == Pending::Failed).count();
    let done: Vec<f64> = rows.iter().filter(|row| row.state == CellState::Done).map(|row| row.seconds).collect();
    let time = match (left, &scenario.simulated) {
        (0, _) => "nothing to run".to_string(),
        (_, Some(_)) => "simulated, well below a second each".to_string(),
        _ if done.is_empty() => {
            format!("at most {} each, {} in all", format_budget(budget), format_budget(budget * left as u32))
        }
        _ => {
            let mean = done.iter().sum::<f64>() / done.len() as f64;
            format!("about {}, as those done took", format_budget(Duration::from_secs_f64(mean * left as f64)))
        }
    };
    let (name, all) = (&scenario.name, cells.len());
    let finished = all - left - failed;
    let failed = if failed > 0 { format!(", {failed} failed (--retry tries again)") } else { String::new() };
    format!("{name}: {all} cells, {finished} done{failed}, {left} to run: {time}")
}
