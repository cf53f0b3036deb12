//! What `cost` and `analyze` say about a results folder of verification costs.

use crate::analysis::cost::{CostDerived, CurveAnalysis, derive_cost};
use crate::report::{cost_details, cost_sentence, cost_table, cost_title};
use anyhow::Result;
use serde_json::{Value, json};
use std::path::Path;

/// Rebuilds the derived files and the figures, and prints what they say.
pub fn folder(path: &Path, json: bool, allow_mixed: bool) -> Result<()> {
    let derived = derive_cost(path, allow_mixed)?;
    derived.write(path)?;
    figures(path, &derived)?;
    derived.curves.iter().for_each(|curve| show(curve, json));
    derived.warnings.iter().for_each(|warning| eprintln!("ridgepoint: warning: {warning}"));
    Ok(())
}

/// Prints what is said about one curve.
pub fn show(curve: &CurveAnalysis, json: bool) {
    if json {
        println!("{}", as_json(curve));
        return;
    }
    println!("{}\n", cost_title(curve));
    #[cfg(feature = "plot")]
    println!("{}", crate::report::cost_in_terminal(curve));
    println!("{}", cost_table(curve));
    cost_details(curve).iter().for_each(|line| println!("{line}"));
    println!("{}\n", cost_sentence(curve));
}

#[cfg(feature = "plot")]
fn figures(path: &Path, derived: &CostDerived) -> Result<()> {
    for (name, figure) in crate::report::cost_figures(&derived.curves) {
        crate::results::write_text(path, name, &figure)?;
    }
    Ok(())
}

#[cfg(not(feature = "plot"))]
fn figures(_path: &Path, _derived: &CostDerived) -> Result<()> {
    Ok(())
}

fn as_json(curve: &CurveAnalysis) -> Value {
    json!({ "curve": curve.row, "widths": curve.widths, "stretches": curve.stretches, "changes": curve.changes,
            "models": curve.models, "sentence": cost_sentence(curve) })
}
