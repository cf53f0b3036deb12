//! The regime page: which draft length in which regime, why, how sure, and what it costs to be wrong, as Markdown.

use super::regimes::contrast_sentence;
use super::sentence::{percent, sentence};
use crate::analysis::cost::CurveAnalysis;
use crate::analysis::page::{CostPart, PAGE_ALPHAS, PAGE_PRICES, RegimePage, TunePart};
use crate::results::{CostStretchRow, Mode, PredictedLengthRow, RegimeRow};

/// The most ranges of lengths in a cell.
const MOST_LISTED: usize = 4;

/// The whole page. `command` is what made it.
pub fn regime_page(page: &RegimePage, command: &str) -> String {
    let mut parts = vec![
        "# Which draft length, in which regime".to_string(),
        format!(
            "Made from the CSVs by `{command}`; a test keeps the two alike. Measured and predicted figures stand in separate \
             sections. γ is the draft length, 0 is plain decoding."
        ),
    ];
    if page.tuned.iter().any(|part| !part.supposed) {
        parts.push(tuned(page));
    }
    if page.tuned.iter().any(|part| part.supposed) {
        parts.push(supposed(page));
    }
    if !page.costs.is_empty() {
        parts.push(curves(&page.costs));
        parts.push(priced(&page.costs));
    }
    if !page.warnings.is_empty() {
        let warnings: Vec<String> = page.warnings.iter().map(|warning| format!("- {warning}")).collect();
        parts.push(format!("## Warnings\n\n{}", warnings.join("\n")));
    }
    parts.join("\n\n") + "\n"
}

/// What was tuned and timed: the answer, why, how sure, what being wrong costs.
fn tuned(page: &RegimePage) -> String {
    let measured = || page.tuned.iter().filter(|part| !part.supposed);
    let sentences = measured().map(|part| {
        let folder = &part.row.folder;
        let warned = match part.choice.warnings.len() {
            0 => String::new(),
            1 => format!(" *1 warning: `ridgepoint analyze {folder}`.*"),
            many => format!(" *{many} warnings: `ridgepoint analyze {folder}`.*"),
        };
        format!("- **{}, {}.** {}{warned}", part.row.machine, part.row.drafter, sentence(&part.choice, part.why))
    });
    let mut text = format!(
        "## Measured: tuned on prompts, timed, and confirmed on others\n\n{}\n\nA speed-up in brackets is not confirmed on fresh \
         prompts; T is the temperature, 0 greedy. *Wrong costs*: what the slowest of the timed lengths loses to the fastest, and what the length loses that \
         the textbook would take (verification free), by the replay of the traces.\n\nWhy, and how sure:\n\n{}",
        tuned_table(measured()),
        sentences.collect::<Vec<_>>().join("\n")
    );
    let of = |folder: &str| page.tuned.iter().any(|part| !part.supposed && part.row.folder == folder);
    let contrasts: Vec<String> = page
        .contrasts
        .iter()
        .filter(|row| of(&row.folder_first) && of(&row.folder_second))
        .map(|row| format!("- {}", contrast_sentence(row)))
        .collect();
    if !contrasts.is_empty() {
        text += &format!("\n\nDoes the length carry over?\n\n{}", contrasts.join("\n"));
    }
    text
}

/// What was timed with acceptance that is declared.
fn supposed(page: &RegimePage) -> String {
    format!(
        "## Timed, at supposed acceptance\n\nRandom weights in a model's shapes: rounds were run and timed, and how many drafted \
         tokens each accepts was drawn with chance α. It confirms what the costs predict for such a drafter, and says nothing \
         of what a trained one reaches.\n\n{}",
        tuned_table(page.tuned.iter().filter(|part| part.supposed))
    )
}

fn tuned_table<'a>(parts: impl Iterator<Item = &'a TunePart>) -> String {
    let header = [
        "machine",
        "target",
        "context",
        "T",
        "drafter",
        "α",
        "regime",
        "γ",
        "speed-up",
        "may be the fastest",
        "wrong costs",
    ];
    let rows = parts.map(|part| {
        let row = &part.row;
        vec![
            row.machine.clone(),
            format!("{} {}", row.target, row.precision),
            row.context.to_string(),
            row.temperature.to_string(),
            row.drafter.clone(),
            number(row.alpha, 2),
            row.regime.clone(),
            row.draft_length.map_or("undecided".into(), |length| length.to_string()),
            speedup(row),
            row.confidence_set.replace(' ', ", "),
            wrong(part),
        ]
    });
    table(&header, rows)
}

fn speedup(row: &RegimeRow) -> String {
    let (Some(value), Some(length)) = (row.speedup, row.speedup_of) else { return String::new() };
    let interval = match (row.speedup_low, row.speedup_high) {
        (Some(low), Some(high)) => format!(" [{low:.2}, {high:.2}]"),
        _ => String::new(),
    };
    let of = if row.draft_length == Some(length) { String::new() } else { format!(" (γ={length})") };
    if row.confirmed { format!("{value:.2}{interval}{of}") } else { format!("({value:.2}{interval}){of}") }
}

fn wrong(part: &TunePart) -> String {
    let timed = part.worst_timed.map(|(length, loss)| format!("γ={length}: {}", short(loss)));
    let textbook = part.textbook.map(|(length, loss)| format!("textbook's γ={length}: {}", short(loss)));
    timed.into_iter().chain(textbook).collect::<Vec<_>>().join("; ")
}

/// What verification costs, a line a curve.
fn curves(costs: &[CostPart]) -> String {
    let header = [
        "machine",
        "target",
        "context",
        "batch",
        "t(1) ms",
        "t(128)/t(1)",
        "regimes by width",
        "cliffs",
        "falls",
        "ridge",
    ];
    let rows = costs.iter().map(|part| {
        let (row, curve) = (&part.curve.row, &part.curve);
        vec![
            row.machine.clone(),
            format!("{} {}", row.target, row.precision),
            row.context.to_string(),
            row.batch.to_string(),
            format!("{:.2}", row.narrowest_ms),
            widest_ratio(curve),
            stretches(&curve.stretches),
            row.cliffs.map_or("cannot say".into(), |cliffs| cliffs.to_string()),
            row.falls.map_or("cannot say".into(), |falls| falls.to_string()),
            row.ridge_width.map_or("beyond".into(), |width| format!("{width:.0}")),
        ]
    });
    format!(
        "## Measured: what verification costs\n\n{}\n\n*Ridge*: the width at which the FLOPs take as long as the bytes at the \
         measured ceilings.",
        table(&header, rows)
    )
}

fn widest_ratio(curve: &CurveAnalysis) -> String {
    let widest = curve.widths.iter().filter(|row| row.mode == Mode::Sync).max_by_key(|row| row.width);
    match widest {
        Some(row) if row.width == 128 => format!("{:.2}", row.time_ms / curve.row.narrowest_ms),
        _ => String::new(),
    }
}

fn stretches(stretches: &[CostStretchRow]) -> String {
    let mut runs: Vec<(u64, u64, &str)> = Vec::new();
    for row in stretches {
        match runs.last_mut() {
            Some((_, to, regime)) if *regime == row.regime => *to = row.to_width,
            _ => runs.push((row.from_width, row.to_width, &row.regime)),
        }
    }
    let text = |(from, to, regime): &(u64, u64, &str)| {
        let regime = if regime.is_empty() { "cannot say" } else { regime };
        if from == to { format!("{from} {regime}") } else { format!("{from}–{to} {regime}") }
    };
    runs.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// The predicted lengths: a table a price, a line a curve.
fn priced(costs: &[CostPart]) -> String {
    let mut text = "## Predicted: the draft length by measured cost, for supposed acceptance\n\nNothing here was run: measured \
                    t(b) with tokens accepted independently with chance α, and a drafted token that costs a given part of a \
                    plain step. In brackets the predicted speed-up over plain decoding with its interval over passes, then \
                    other lengths not shown to be slower: where there are many, the shortest of them is the safer choice, and the \
                    fastest looks a little faster than it is. The last column is the most that the textbook's length loses over \
                    these α."
        .to_string();
    for price in PAGE_PRICES {
        let mut header = vec!["machine".to_string(), "target".into(), "context".into(), "batch".into()];
        header.extend(PAGE_ALPHAS.map(|alpha| format!("α = {alpha}")));
        header.push("textbook loses up to".into());
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let rows: Vec<Vec<String>> = costs.iter().filter_map(|part| priced_row(part, price)).collect();
        if rows.is_empty() {
            continue;
        }
        let what = if price == 0.0 { "nothing (a lookup)".into() } else { format!("{price} plain steps") };
        text += &format!("\n\nA drafted token costs {what}:\n\n{}", table(&header, rows.into_iter()));
    }
    text
}

fn priced_row(part: &CostPart, price: f64) -> Option<Vec<String>> {
    let of_price: Vec<&PredictedLengthRow> = part.lengths.iter().filter(|row| row.draft_cost == Some(price)).collect();
    let first = of_price.first()?;
    let mut cells = vec![
        first.machine.clone(),
        format!("{} {}", first.target, first.precision),
        first.context.to_string(),
        first.batch.to_string(),
    ];
    for alpha in PAGE_ALPHAS {
        cells.push(of_price.iter().find(|row| row.alpha == Some(alpha)).map_or(String::new(), |row| length_cell(row)));
    }
    cells.push(short(of_price.iter().map(|row| row.textbook_loss).fold(0.0, f64::max)));
    Some(cells)
}

fn length_cell(row: &PredictedLengthRow) -> String {
    let interval = match (row.speedup_low, row.speedup_high) {
        (Some(low), Some(high)) => format!("{low:.2} to {high:.2}"),
        _ => format!("{:.2}, no interval", row.speedup),
    };
    let set: Vec<&str> = row.may_be_best.split_whitespace().collect();
    let others = match set.as_slice() {
        [] => String::new(),
        [one] if *one == row.draft_length.to_string() => String::new(),
        // Of a flat curve nearly any length may be the best one.
        [first, .., last] if set.len() > MOST_LISTED => {
            let (first, last) = (first.split('-').next().unwrap_or(first), last.split('-').next_back().unwrap_or(last));
            format!("; many of {first} to {last}")
        }
        _ => format!("; {}", row.may_be_best),
    };
    if row.draft_length == 0 {
        format!("**0**{others}")
    } else {
        format!("**{}** ({interval}{others})", row.draft_length)
    }
}

fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines = vec![format!("| {} |", header.join(" | ")), format!("|{}", "---|".repeat(header.len()))];
    lines.extend(rows.map(|cells| format!("| {} |", cells.join(" | "))));
    lines.join("\n")
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or(String::new(), |value| format!("{value:.digits$}"))
}

fn short(share: f64) -> String {
    percent((share * 1e3).round() / 1e3)
}
