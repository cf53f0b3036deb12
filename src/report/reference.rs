//! A published cost curve: the curve, its ridge, what it implies for the draft length, and what its numbers do not carry.

use crate::analysis::{Audit, Bounds, Outlook, Reference, Verdict};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use std::fmt::Display;

/// The whole report, without a last line break.
pub fn reference_text(reference: &Reference) -> String {
    let mut parts = vec![head(reference), curve(reference), ridge(reference), outlooks(reference)];
    parts.extend(reference.audit.as_ref().map(audit));
    parts.join("\n\n")
}

fn head(reference: &Reference) -> String {
    let file = &reference.file;
    let mut text = format!("{} ({}) on {}, from {}.", reference.target, reference.precision, file.machine, file.source);
    if !file.not_stated.is_empty() {
        text += &format!("\nNot stated there: {}.", file.not_stated.join(", "));
    }
    match &reference.scatter {
        Some(scatter) => {
            text += &format!(
                "\nEvery time is a single number. The plain step took {:.2} to {:.2} ms in {} of the source's own settings \
                 (standard deviation\n{:.1} %): if every width scatters so, a ratio of two times is known within a factor \
                 of {:.2} ({:.0} %).",
                1e3 * scatter.shortest_s,
                1e3 * scatter.longest_s,
                scatter.steps,
                1e2 * scatter.relative_sd,
                scatter.ratio_factor,
                1e2 * file.confidence
            );
        }
        None => text += "\nEvery time is a single number and nothing was repeated: there are no intervals.",
    }
    text
}

fn curve(reference: &Reference) -> String {
    let mut table = table(["width", "t(b) ms", "t(b)/t(1)", "interval", "GB/s", "TFLOP/s", "ms a further token", ""]);
    let longest = reference.points.iter().map(|point| point.time_s).fold(0.0, f64::max);
    for point in &reference.points {
        table.add_row([
            point.width.to_string(),
            format!("{:.2}", 1e3 * point.time_s),
            format!("{:.2}", point.ratio),
            point.ratio_bounds.filter(|_| point.width > 1).map_or(String::new(), |bounds| between(&bounds)),
            format!("{:.0}", point.bandwidth_bytes_per_s / 1e9),
            format!("{:.1}", point.flops_per_s / 1e12),
            point.slope_s.map_or(String::new(), |slope| format!("{:.2}", 1e3 * slope)),
            "█".repeat((40.0 * point.time_s / longest).round().max(1.0) as usize),
        ]);
    }
    right_aligned(table, 7)
}

fn ridge(reference: &Reference) -> String {
    let (file, ridge) = (&reference.file, &reference.ridge);
    let mut lines = vec![format!(
        "Ridge of the data sheet ({} GB/s, {} TFLOP/s): width {}.",
        file.bandwidth_gb_s, file.matrix_tflop_s, ridge.data_sheet_width
    )];
    match (ridge.slope_flops_per_s, ridge.measured_width) {
        (Some(rate), Some(width)) => lines.push(format!(
            "Ridge of the curve's last slope ({:.1} TFLOP/s) and the measured copy ({} GB/s): width {width}.",
            rate / 1e12,
            file.copy_bandwidth_gb_s
        )),
        _ => lines.push("Ridge of the curve: cannot say, as time does not grow between the two widest widths.".into()),
    }
    if let Some(ratio) = ridge.slopes_ratio.filter(|ratio| *ratio > 1.0) {
        lines.push(format!(
            "The curve has no flat part before either: a token costs {ratio:.1} times as much between the two narrowest widths\n\
             as between the two widest{}.",
            match ridge.line_meets_plain_width.filter(|width| *width < 1.0) {
                Some(_) => ", and the line of the widest never comes down to t(1)",
                None => "",
            }
        ));
    }
    lines.join("\n")
}

fn outlooks(reference: &Reference) -> String {
    let mut table = table([
        "drafter",
        "cost",
        "α",
        "textbook γ",
        "speed-up",
        "timed γ",
        "speed-up",
        "interval",
        "best γ",
        "verdict",
    ]);
    for outlook in &reference.outlooks {
        table.add_row([
            outlook.drafter.clone().unwrap_or_default(),
            format!("{:.2}", outlook.draft_cost),
            outlook.alpha.to_string(),
            outlook.textbook_length.to_string(),
            format!("{:.2}", outlook.textbook_speedup),
            outlook.known_length.to_string(),
            format!("{:.2}", outlook.known_speedup),
            outlook.known_bounds.map_or(String::new(), |bounds| between(&bounds)),
            best(outlook),
            verdict(outlook.verdict).to_string(),
        ]);
    }
    let widths: Vec<String> = reference.points.iter().map(|point| point.width.to_string()).collect();
    format!(
        "Draft lengths by the cost of a drafted token (in plain steps) and α. `timed γ` is the better of those whose width was \
         timed\n({}); between these t(b) is only taken to lie between its neighbours. Speed-ups are over the \
         synchronous step.\n\n{}",
        widths.join(", "),
        right_aligned(table, 9)
    )
}

fn best(outlook: &Outlook) -> String {
    match outlook.may_be_best {
        None => String::new(),
        Some((first, last)) if first == last => first.to_string(),
        Some((first, last)) => format!("{first} to {last}"),
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Draft => "draft",
        Verdict::DoNotDraft => "do not draft",
        Verdict::CannotSay => "cannot say",
    }
}

/// What the source concludes and what its own numbers say.
fn audit(audit: &Audit) -> String {
    let (isolated, range) = (audit.isolated_us, audit.rest_range_ms);
    let (attention, slower) = (audit.attention_ms, audit.slower_percent);
    let [at_547, at_1059, at_4131] = audit.context_changes_percent;
    let [published, weights, half] = audit.efficiency_percent;
    let lines = [
        said("1, 2", "one evaluation costs 0.2 µs", format!("{:.2} ms", audit.evaluation_ms)),
        said(
            "3, 5, 11",
            "isolated products can be compared, 8-bit costs 1 to 2 % more",
            format!(
                "all took {:.2} to {:.2} ms, where an evaluation takes {:.2}",
                isolated.0 / 1e3,
                isolated.1 / 1e3,
                audit.evaluation_ms
            ),
        ),
        said(
            "4",
            "a longer context costs 5 % at 4k",
            format!("{at_547} % at 547, {at_1059} % at 1059, {at_4131} % at 4131: no trend beyond the scatter"),
        ),
        said(
            "4",
            "0.25 MB of cache a token and layer",
            format!("{:.2} MB a token over all layers", audit.cache_mb_per_token),
        ),
        said(
            "6",
            "81 % of the bandwidth at 4k",
            format!("{published:.0}, {weights:.0} or {half:.0} % by which bytes are counted"),
        ),
        said(
            "8",
            "the rest after loading the weights is compute, about 4 ms for every model",
            format!(
                "{:.2} to {:.2} ms, and for the 7B {:.2} ms at the bandwidth that a copy reached, launches included",
                range.0, range.1, audit.rest_ms.1
            ),
        ),
        said(
            "9",
            "attention is 78.5 % of a step",
            format!(
                "what was left reads {:.2} GB, at {:.0} GB/s: more than the machine has, so part of it was not computed",
                audit.ablated_gb, audit.ablated_bandwidth_gb_s
            ),
        ),
        said(
            "9, summary",
            "the parts of a step add up",
            format!("attention is {:.2} ms by ablation and {:.1} ms in the summary", attention.0, attention.1),
        ),
        said(
            "10",
            "below 11 tokens verification is nearly free",
            format!("4 tokens cost {:.2} plain steps; no width from 5 to 31 was timed", audit.verification_of_4),
        ),
        said(
            "10",
            "eight drafted tokens cost 2.6 plain steps",
            format!(
                "no such row; an earlier version's t(16) is {:.2} times t(32), so time may fall with width",
                audit.earlier_16_over_32
            ),
        ),
        said("10", "30 TFLOP/s", format!("assumed; the slope from 32 to 128 implies {:.1}", audit.slope_tflop_s)),
        said("11", "8 bit is 35 % slower", format!("{:.0} % less throughput, {:.0} % more time", slower.0, slower.1)),
        said(
            "summary",
            "speculative decoding is promising",
            format!(
                "a drafted token of the 0.8B model costs {:.2} plain steps, so γ=3 at α = 0.8 gives {:.2}",
                audit.draft_cost, audit.gain_of_3
            ),
        ),
        said("all", "single numbers", "no dispersion and no test".to_string()),
    ];
    format!("What its own numbers do not carry:\n{}", lines.join("\n"))
}

fn said(experiment: &str, claim: &str, found: impl Display) -> String {
    format!("  {experiment:<11} {claim}: {found}")
}

fn between(bounds: &Bounds) -> String {
    format!("{:.2} to {:.2}", bounds.low, bounds.high)
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table
}

/// The first `columns` to the right, as numbers are read.
fn right_aligned(mut table: Table, columns: usize) -> String {
    table.column_iter_mut().take(columns).for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
    table.trim_fmt()
}
