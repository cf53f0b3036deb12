//! What was decided, first; then where the regimes lie and how they differ.

use super::{Page, heading, table};
use crate::analysis::{Derived, RegimeChoice};
use crate::report::document::{Block, Table};
use crate::report::material::{Folder, Material};
use crate::report::regimes::contrast_sentence;
use crate::report::rounding::{rounded, significant};
use crate::report::sentence::sentence;
use crate::report::table::{DECISION_HEADER, decision_rows};
use crate::results::RegimeRow;

const HEADER: [&str; 12] = [
    "machine",
    "target",
    "drafter",
    "precision",
    "context",
    "batch",
    "regime",
    "γ*",
    "may be the fastest",
    "speed-up",
    "interval",
    "of",
];

/// One sentence a drafter, one line a regime, and the table behind each sentence.
pub fn decisions(page: &mut Page, material: &Material) {
    if material.map.regimes.is_empty() && material.tunes.is_empty() {
        return;
    }
    page.section("Decision");
    page.beside(material.tunes.iter().map(headlines).collect());
    page.document.blocks.extend(table(decision_table(&material.map.regimes)));
    page.beside(material.tunes.iter().map(lengths).collect());
    if !material.tunes.is_empty() {
        page.add(Block::Text(
            "* marks the recommendation, + lengths that cannot be told from the fastest. Intervals are per length; the bound on \
             the loss to the fastest length holds for all lengths at once. Only a speed-up on prompts that had no part in \
             choosing is for quoting."
                .to_string(),
        ));
    }
}

fn headlines(folder: &Folder<Derived>) -> Vec<Block> {
    let headline =
        |regime: &RegimeChoice| Block::Headline(format!("{}: {}", folder.name, sentence(&regime.choice, regime.why)));
    folder.derived.choices.iter().map(headline).collect()
}

/// One line a regime, with the numbers rounded by their uncertainty.
pub fn decision_table(regimes: &[RegimeRow]) -> Table {
    let row = |row: &RegimeRow| {
        let (speedup, interval) = match row.speedup {
            Some(value) => rounded(value, row.speedup_low, row.speedup_high),
            None => (String::new(), String::new()),
        };
        [
            row.machine.clone(),
            row.target.clone(),
            row.drafter.clone(),
            row.precision.clone(),
            row.context.to_string(),
            row.batch.to_string(),
            row.regime.clone(),
            row.draft_length.map_or("undecided".to_string(), |length| length.to_string()),
            row.confidence_set.replace(' ', ", "),
            speedup,
            interval,
            of(row),
        ]
    };
    Table::new("", &HEADER, 4).words(&[6, 8, 11]).with_rows(regimes.iter().map(row))
}

/// What a regime's speed-up is of.
fn of(row: &RegimeRow) -> String {
    let Some(length) = row.speedup_of else { return String::new() };
    let on = if row.confirmed { "confirmed" } else { "not confirmed" };
    format!("γ={length}, {on}")
}

fn lengths(folder: &Folder<Derived>) -> Vec<Block> {
    let mut blocks = Vec::new();
    for RegimeChoice { choice, .. } in &folder.derived.choices {
        blocks.push(heading(format!("{}, {}", folder.name, choice.drafter)));
        let rows = decision_rows(choice, &folder.derived.predictions);
        blocks.extend(table(Table::new("", &DECISION_HEADER, 0).with_rows(rows)));
    }
    blocks
}

/// Where the regimes lie, and whether the best length differs between them.
pub fn regimes(page: &mut Page, material: &Material) {
    let map = &material.map;
    if map.regimes.is_empty() {
        return;
    }
    page.section("Regimes");
    #[cfg(feature = "plot")]
    {
        use crate::report::figure::{regime_figure, regime_map_figure};
        let width = page.width;
        let columns =
            [regime_map_figure("regime-map", &map.regimes, width), regime_figure("regimes", &map.regimes, width)];
        let columns = columns.map(|figure| page.picture(figure));
        page.beside(columns.to_vec());
    }
    const PLACE: [&str; 8] = ["machine", "target", "drafter", "context", "batch", "GB/s", "MB a token", "α"];
    let number = |value: Option<f64>| value.map_or(String::new(), significant);
    let row = |row: &RegimeRow| {
        [
            row.machine.clone(),
            row.target.clone(),
            row.drafter.clone(),
            row.context.to_string(),
            row.batch.to_string(),
            number(row.bandwidth_gb_s),
            number(row.bytes_per_token.map(|bytes| bytes / 1e6)),
            number(row.alpha),
        ]
    };
    page.document.blocks.extend(table(Table::new("", &PLACE, 3).with_rows(map.regimes.iter().map(row))));
    if !map.contrasts.is_empty() {
        page.add(heading("Does the best length differ?"));
        page.add(Block::List(map.contrasts.iter().map(contrast_sentence).collect()));
    }
}
