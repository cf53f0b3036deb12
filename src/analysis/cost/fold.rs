//! Everything derived from one results folder of `cost`.

use super::curve::{CurveAnalysis, Settings, analyze_curves};
use crate::analysis::derive::mixture;
use crate::results::{CostRow, Stamp, read_raw, write};
use crate::scenario::CostPlan;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// All that follows from the folder's `cost.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct CostDerived {
    pub stamp: Stamp,
    pub plan: CostPlan,
    pub curves: Vec<CurveAnalysis>,
    /// What to know about the folder as a whole.
    pub warnings: Vec<String>,
}

/// Derives a folder, the same on every machine. A folder of several machines or versions is refused unless `allow_mixed`.
pub fn derive_cost(folder: &Path, allow_mixed: bool) -> Result<CostDerived> {
    let shown = folder.display();
    let stamp =
        Stamp::read(folder)?.with_context(|| format!("{shown}: has no environment.json; name a results folder"))?;
    let plan: CostPlan = stamp.declared(folder)?;
    let rows: Vec<CostRow> = read_raw(folder)?;
    let mut warnings = Vec::new();
    match mixture(&stamp, &rows) {
        Some(difference) if !allow_mixed => {
            bail!("{shown}: mixes machines or versions ({difference}); keep one a folder, or give --allow-mixed")
        }
        Some(difference) => warnings.push(format!("mixed machines or versions: {difference}")),
        None => {}
    }
    let settings = Settings {
        confidence: plan.confidence,
        smallest_change: plan.smallest_change,
        ceilings: stamp.ceilings(),
        spec: plan.spec.clone(),
    };
    let curves = analyze_curves(&rows, &settings)?;
    let count = |what: fn(&CostRow) -> bool| rows.iter().filter(|row| what(row)).count();
    for (found, reason) in [
        (count(|row| row.invalid), "imply more than the machine's bandwidth"),
        (count(|row| row.time_ms.is_none()), "failed"),
    ] {
        if found > 0 {
            warnings.push(format!("cost.csv: {found} of {} samples {reason}; left out", rows.len()));
        }
    }
    Ok(CostDerived { stamp, plan, curves, warnings })
}

impl CostDerived {
    /// Writes the derived files.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let curves = || self.curves.iter();
        write(folder, &curves().map(|curve| curve.row.clone()).collect::<Vec<_>>())?;
        write(folder, &curves().flat_map(|curve| curve.widths.clone()).collect::<Vec<_>>())?;
        write(folder, &curves().flat_map(|curve| curve.changes.clone()).collect::<Vec<_>>())?;
        write(folder, &curves().flat_map(|curve| curve.stretches.clone()).collect::<Vec<_>>())?;
        write(folder, &curves().flat_map(|curve| curve.models.clone()).collect::<Vec<_>>())
    }
}
