//! What stands behind a decision: predictions beside measurements, acceptance, the time of a round, second opinions.

use super::{Page, heading, table};
use crate::analysis::{Derived, RoundTime};
use crate::report::document::{Block, Table};
use crate::report::material::{Folder, Material};
use crate::report::opinions::{opinions, race};
use crate::report::rounding::significant;
use crate::results::{AcceptanceRow, ArmRow};
use std::collections::BTreeMap;

/// `h100-quickstart-prompt-lookup`, after a kind of figure.
#[cfg(feature = "plot")]
fn named(kind: &str, folder: &Folder<Derived>, drafter: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
    format!("{kind}-{}-{}", folder.name, drafter.chars().map(letter).collect::<String>())
}

pub fn throughput(page: &mut Page, material: &Material) {
    if material.tunes.is_empty() {
        return;
    }
    page.section("Predicted and measured throughput");
    for folder in &material.tunes {
        let mut columns = Vec::new();
        for regime in &folder.derived.choices {
            let drafter = &regime.choice.drafter;
            let mut column = vec![heading(format!("{}, {drafter}", folder.name))];
            #[cfg(feature = "plot")]
            {
                use crate::report::figure::{speedup_figure, throughput_figure};
                let of = folder.derived.predictions.iter().filter(|row| row.drafter == *drafter);
                let predictions: Vec<_> = of.collect();
                let (arms, width) = (&regime.arms, page.width);
                let name = named("throughput", folder, drafter);
                column.extend(page.picture(throughput_figure(&name, &predictions, arms, width)));
                let name = named("speedup", folder, drafter);
                column.extend(page.picture(speedup_figure(&name, &regime.row, arms, &predictions, width)));
            }
            column.extend(table(compared(&regime.arms)));
            columns.push(column);
        }
        page.beside(columns);
    }
}

/// Measured arms beside what the replay of exactly their prompts predicts.
fn compared(arms: &[ArmRow]) -> Table {
    let header = ["γ", "predicted tok/s", "measured tok/s", "measured over predicted"];
    let row = |arm: &ArmRow| {
        let predicted = arm.predicted_tok_per_s?;
        let error = arm.prediction_error.map_or(String::new(), |error| format!("{:+.1} %", 100.0 * error));
        Some([arm.draft_length.to_string(), significant(predicted), significant(arm.tok_per_s), error])
    };
    Table::new("On the same prompts", &header, 0).with_rows(arms.iter().filter_map(row))
}

pub fn acceptance(page: &mut Page, material: &Material) {
    if material.tunes.iter().all(|folder| folder.derived.acceptance.is_empty()) {
        return;
    }
    page.section("Acceptance by place and category");
    for folder in &material.tunes {
        let mut by_drafter: BTreeMap<&str, Vec<&AcceptanceRow>> = BTreeMap::new();
        for row in &folder.derived.acceptance {
            by_drafter.entry(&row.drafter).or_default().push(row);
        }
        let mut columns = Vec::new();
        for (drafter, rows) in by_drafter {
            let mut column = vec![heading(format!("{}, {drafter}", folder.name))];
            #[cfg(feature = "plot")]
            {
                let name = named("acceptance", folder, drafter);
                let figure = crate::report::figure::acceptance_figure(&name, &rows, page.width);
                column.extend(page.picture(figure));
            }
            column.extend(table(by_place(&rows)));
            columns.push(column);
        }
        page.beside(columns);
    }
}

/// Accepted of reached, a line a category and a column a place; places that were never reached are empty.
fn by_place(rows: &[&AcceptanceRow]) -> Table {
    let reached = rows.iter().filter(|row| row.reached > 0);
    let furthest = reached.map(|row| row.draft_position).max().unwrap_or(0);
    let names: Vec<String> = (1..=furthest).map(|place| place.to_string()).collect();
    let header: Vec<&str> = std::iter::once("category").chain(names.iter().map(String::as_str)).collect();
    let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.draft_position <= furthest) {
        let line = lines.entry(&row.category).or_insert_with(|| vec![row.category.clone()]);
        line.push(if row.reached == 0 { String::new() } else { format!("{}/{}", row.accepted, row.reached) });
    }
    Table::new("Accepted / reached, by place in the draft", &header, 1).with_rows(lines.into_values())
}

pub fn rounds(page: &mut Page, material: &Material) {
    let timed = |folder: &&Folder<Derived>| folder.derived.choices.iter().any(|regime| !regime.rounds.is_empty());
    if !material.tunes.iter().any(|folder| timed(&folder)) {
        return;
    }
    page.section("Where a round's time goes");
    for folder in material.tunes.iter().filter(timed) {
        let mut columns = Vec::new();
        for regime in &folder.derived.choices {
            let drafter = &regime.choice.drafter;
            let mut column = vec![heading(format!("{}, {drafter}", folder.name))];
            #[cfg(feature = "plot")]
            {
                let name = named("round", folder, drafter);
                let figure = crate::report::figure::round_figure(&name, drafter, &regime.rounds, page.width);
                column.extend(page.picture(figure));
            }
            column.extend(table(parts(&regime.rounds)));
            columns.push(column);
        }
        page.beside(columns);
    }
}

fn parts(rounds: &[RoundTime]) -> Table {
    let header = ["γ", "tokens a round", "proposal ms", "verification ms", "both", "measured ms", "difference"];
    let row = |round: &RoundTime| {
        let both = round.proposal_ms + round.verification_ms;
        [
            round.draft_length.to_string(),
            format!("{:.2}", round.tau),
            significant(round.proposal_ms),
            significant(round.verification_ms),
            significant(both),
            significant(round.measured_ms),
            format!("{:+.1} %", 100.0 * (round.measured_ms / both - 1.0)),
        ]
    };
    Table::new("", &header, 0).with_rows(rounds.iter().map(row))
}

/// How a race went, second opinions, and whether the machine was steady.
pub fn sensitivity(page: &mut Page, material: &Material) {
    let mut blocks = Vec::new();
    for folder in &material.tunes {
        for regime in &folder.derived.choices {
            let said: Vec<String> = race(&regime.choice).into_iter().chain(opinions(&regime.choice)).collect();
            if !said.is_empty() {
                blocks.push(heading(format!("{}, {}", folder.name, regime.choice.drafter)));
                blocks.push(Block::List(said));
            }
        }
    }
    if !blocks.is_empty() {
        page.section("Second opinions");
        page.document.blocks.extend(blocks);
    }
}
