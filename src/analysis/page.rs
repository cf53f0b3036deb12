//! What the regime page is made of: folders of `tune` and `cost` side by side.

use super::choice::Choice;
use super::cost::{CurveAnalysis, derive_cost};
use super::derive::{Derived, RegimeChoice, Why, derive};
use super::predict::{Destination, Request, predict};
use super::regimes::{regime_map, sweep_folders};
use crate::results::{ContrastRow, Kind, PredictedLengthRow, PredictionRow, RegimeRow, Role, Stamp};
use crate::stats::parallel::in_parallel;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Chances of acceptance that the page shows, and prices of a drafted token in plain steps.
pub const PAGE_ALPHAS: [f64; 5] = [0.5, 0.6, 0.7, 0.8, 0.9];
pub const PAGE_PRICES: [f64; 3] = [0.0, 0.05, 0.2];

/// All parts, folders in the order given.
#[derive(Debug, Clone, Default)]
pub struct RegimePage {
    pub tuned: Vec<TunePart>,
    pub contrasts: Vec<ContrastRow>,
    pub costs: Vec<CostPart>,
    pub warnings: Vec<String>,
}

/// One regime of a folder of `tune`.
#[derive(Debug, Clone)]
pub struct TunePart {
    pub row: RegimeRow,
    /// Whether what is accepted was declared and not measured.
    pub supposed: bool,
    pub choice: Choice,
    pub why: Option<Why>,
    /// The slowest length timed, and its loss to the fastest.
    pub worst_timed: Option<(u64, f64)>,
    /// The length that free verification would make the best, and its loss to the best, both by the replay at measured cost.
    pub textbook: Option<(u64, f64)>,
}

/// One target's curve of a folder of `cost`.
#[derive(Debug, Clone)]
pub struct CostPart {
    pub curve: CurveAnalysis,
    pub lengths: Vec<PredictedLengthRow>,
}

/// Reads folders of `tune`, `sweep` and `cost`.
pub fn page(folders: &[PathBuf]) -> Result<RegimePage> {
    let (mut tuned, mut costs) = (Vec::new(), Vec::new());
    for folder in folders {
        let shown = folder.display();
        let stamp = Stamp::read(folder)?;
        match stamp.with_context(|| format!("{shown}: has no environment.json; name results folders"))?.identity.kind {
            Kind::Tune => tuned.push(folder.clone()),
            Kind::Sweep => tuned.extend(sweep_folders(folder)?),
            Kind::Cost => costs.push(folder.clone()),
            Kind::Baseline => {
                return Err(crate::usage!(
                    "{shown}: holds baseline experiments, which the page has no place for; leave it out"
                ));
            }
        }
    }
    let mut page = RegimePage::default();
    if !tuned.is_empty() {
        add_tuned(&mut page, &tuned)?;
    }
    for parts in in_parallel(costs, |folder: PathBuf| cost_parts(&folder)) {
        page.costs.extend(parts?);
    }
    Ok(page)
}

fn add_tuned(page: &mut RegimePage, folders: &[PathBuf]) -> Result<()> {
    let map = regime_map(folders, false)?;
    page.contrasts = map.contrasts;
    page.warnings = map.warnings;
    let derived: Vec<(String, Derived)> = in_parallel(folders.to_vec(), |folder: PathBuf| {
        Ok::<_, anyhow::Error>((folder.display().to_string(), derive(&folder, false)?))
    })
    .into_iter()
    .collect::<Result<_>>()?;
    for row in map.regimes {
        let of = derived.iter().find(|(folder, _)| *folder == row.folder);
        let (_, derived) = of.with_context(|| format!("{}: is not among the folders", row.folder))?;
        let regime = derived.choices.iter().find(|regime| regime.choice.drafter == row.drafter);
        let RegimeChoice { choice, why, .. } = regime.context("a regime without a choice")?.clone();
        let worst_timed = worst_timed(&choice);
        let textbook = textbook(&derived.predictions, &choice.drafter);
        let supposed = derived.scenario.supposed.is_some();
        page.tuned.push(TunePart { row, supposed, worst_timed, textbook, why, choice });
    }
    Ok(())
}

fn worst_timed(choice: &Choice) -> Option<(u64, f64)> {
    let speed = |pick: fn(f64, f64) -> f64| choice.arms.iter().map(|arm| arm.tok_per_s).reduce(pick);
    let (slowest, fastest) = (speed(f64::min)?, speed(f64::max)?);
    let worst = choice.arms.iter().find(|arm| arm.tok_per_s == slowest)?;
    Some((worst.draft_length, fastest / slowest - 1.0))
}

/// The length that the textbook would take and what it loses; none of drafts that a rule ends, of which it says nothing.
fn textbook(predictions: &[PredictionRow], drafter: &str) -> Option<(u64, f64)> {
    let rows = || predictions.iter().filter(|row| row.drafter == drafter && row.replay_tok_per_s.is_some());
    let by = |a: &Option<f64>, b: &Option<f64>| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal);
    rows().find(|row| row.draft_length > 0 && row.textbook_tok_per_s.is_some())?;
    let advised = rows().max_by(|a, b| by(&a.textbook_tok_per_s, &b.textbook_tok_per_s))?;
    let best = rows().max_by(|a, b| by(&a.replay_tok_per_s, &b.replay_tok_per_s))?;
    Some((advised.draft_length, best.replay_tok_per_s? / advised.replay_tok_per_s? - 1.0))
}

fn cost_parts(folder: &Path) -> Result<Vec<CostPart>> {
    let derived = derive_cost(folder, false)?;
    let predicted = predict(&Request {
        sources: vec![folder.to_path_buf()],
        destination: Destination::default(),
        alphas: PAGE_ALPHAS.to_vec(),
        draft_costs: PAGE_PRICES.to_vec(),
        ..Request::default()
    })?;
    let targets = derived.curves.into_iter().filter(|curve| curve.row.role == Role::Target);
    let part = |curve: CurveAnalysis| {
        let point = (&curve.row.target, &curve.row.precision, curve.row.context, curve.row.batch);
        let all = predicted.curves.iter().flat_map(|predicted| &predicted.lengths);
        let of = all.filter(|row| (&row.target, &row.precision, row.context, row.batch) == point);
        CostPart { lengths: of.cloned().collect(), curve }
    };
    Ok(targets.map(part).collect())
}
