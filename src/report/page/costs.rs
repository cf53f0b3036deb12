//! What verification costs: t(b) with intervals, cliffs and regimes.

use super::{Page, heading, table};
use crate::analysis::cost::CostDerived;
use crate::report::cost::{COST_HEADER, cost_details, cost_rows, cost_sentence, cost_title};
use crate::report::document::{Block, Table};
use crate::report::material::{Folder, Material};

pub fn costs(page: &mut Page, material: &Material) {
    if material.costs.is_empty() {
        return;
    }
    page.section("What verification costs");
    #[cfg(feature = "plot")]
    {
        let curves: Vec<_> = material.costs.iter().flat_map(|folder| &folder.derived.curves).collect();
        let figure = crate::report::figure::relative_cost_figure("cost", &curves, page.width);
        let picture = page.picture(figure);
        page.document.blocks.extend(picture);
    }
    page.beside(material.costs.iter().map(curves).collect());
}

fn curves(folder: &Folder<CostDerived>) -> Vec<Block> {
    let mut blocks = vec![heading(folder.name.clone())];
    for curve in &folder.derived.curves {
        let what = if curve.row.drafter.is_empty() { "b" } else { "γ" };
        let header = [&[what][..], &COST_HEADER[1..]].concat();
        blocks.push(Block::Headline(cost_sentence(curve)));
        let rows = cost_rows(curve);
        blocks.extend(table(Table::new(cost_title(curve), &header, 0).words(&[6]).with_rows(rows)));
        blocks.push(Block::List(cost_details(curve)));
    }
    blocks
}
