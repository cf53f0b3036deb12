//! The baseline experiments: the roofline with all of their points, and the verdicts.

use super::{Page, heading, table};
use crate::report::baseline::{HYPOTHESIS_HEADER, baseline_notes, hypothesis_rows};
use crate::report::document::{Block, Table};
use crate::report::material::Material;

#[cfg(feature = "plot")]
pub fn rooflines(page: &mut Page, material: &Material) {
    use crate::experiment::EXPERIMENTS;
    use crate::report::figure::roofline_figure;
    let names = EXPERIMENTS.iter().map(|experiment| (experiment.id, experiment.name)).collect();
    let mut columns = Vec::new();
    for folder in &material.baselines {
        let (name, derived) = (format!("roofline-{}", folder.name), &folder.derived);
        let figure = roofline_figure(&name, &derived.ceilings, &derived.points, &names, page.width);
        let mut column = page.picture(figure);
        if !column.is_empty() {
            column.insert(0, heading(folder.name.clone()));
        }
        columns.push(column);
    }
    if columns.iter().any(|column| !column.is_empty()) {
        page.section("Roofline");
        page.beside(columns);
    }
}

#[cfg(not(feature = "plot"))]
pub fn rooflines(_page: &mut Page, _material: &Material) {}

pub fn hypotheses(page: &mut Page, material: &Material) {
    if material.baselines.is_empty() {
        return;
    }
    page.section("Baseline experiments");
    for folder in &material.baselines {
        page.add(heading(folder.name.clone()));
        let found = Table::new("", &HYPOTHESIS_HEADER, 4).with_rows(hypothesis_rows(&folder.derived));
        page.document.blocks.extend(table(found));
        page.add(Block::List(baseline_notes(&folder.derived)));
    }
}
