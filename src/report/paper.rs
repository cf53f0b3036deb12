//! What a LaTeX document takes in: tables with numbers rounded by their uncertainty, and a macro for every headline number.

use super::document::{Macros, Table};
use super::material::{Folder, Material};
use super::page::decision_table;
use super::rounding::{rounded, significant};
use super::table::loss;
use crate::analysis::cost::CurveAnalysis;
use crate::analysis::{Derived, RegimeChoice};
use crate::results::{ArmRow, CostStretchRow, CostWidthRow, Mode, Role};

/// Tables by the name of their file, without ending.
pub fn tables(material: &Material) -> Vec<(String, Table)> {
    let mut tables = vec![("decisions".to_string(), decision_table(&material.map.regimes))];
    for folder in &material.tunes {
        for regime in &folder.derived.choices {
            tables.push((format!("lengths-{}-{}", folder.name, regime.choice.drafter), lengths(regime)));
        }
    }
    for folder in &material.costs {
        for curve in folder.derived.curves.iter().filter(|curve| curve.row.role == Role::Target) {
            tables.push((format!("cost-{}-{}", folder.name, curve.row.curve), stretches(curve)));
        }
    }
    tables.retain(|(_, table)| !table.is_empty());
    tables
}

/// The timed lengths of one drafter.
fn lengths(regime: &RegimeChoice) -> Table {
    let header = ["γ", "tok/s", "speed-up", "interval", "loss at most", "τ", "accepted", "drafted"];
    let row = |arm: &ArmRow| {
        let (speedup, interval) = match arm.speedup {
            Some(value) => rounded(value, arm.speedup_low, arm.speedup_high),
            None => (String::new(), String::new()),
        };
        let tau = if arm.rounds > 0 { format!("{:.2}", arm.tokens as f64 / arm.rounds as f64) } else { String::new() };
        [
            arm.draft_length.to_string(),
            significant(arm.tok_per_s),
            speedup,
            interval,
            loss(arm.loss_bound),
            tau,
            arm.accepted.to_string(),
            arm.drafted.to_string(),
        ]
    };
    Table::new(regime.choice.drafter.clone(), &header, 0).with_rows(regime.arms.iter().map(row))
}

/// The stretches of one curve.
fn stretches(curve: &CurveAnalysis) -> Table {
    let header = ["b", "ms", "ms a further token", "interval", "regime"];
    let row = |row: &CostStretchRow| {
        let (slope, interval) = match row.slope_ms {
            Some(slope) => rounded(slope, row.slope_low_ms, row.slope_high_ms),
            None => (String::new(), String::new()),
        };
        let width = if row.from_width == row.to_width {
            row.from_width.to_string()
        } else {
            format!("{} to {}", row.from_width, row.to_width)
        };
        [
            width,
            format!("{} to {}", significant(row.from_ms), significant(row.to_ms)),
            slope,
            interval,
            row.regime.clone(),
        ]
    };
    Table::new(format!("{} {}", curve.row.target, curve.row.precision), &header, 0)
        .words(&[4])
        .with_rows(curve.stretches.iter().map(row))
}

/// A macro for every headline number.
pub fn macros(material: &Material) -> Macros {
    let mut macros = Macros::default();
    for folder in material.tunes.iter().chain(&material.cells) {
        for regime in &folder.derived.choices {
            of_choice(&mut macros, folder, regime);
        }
    }
    for folder in &material.costs {
        for curve in folder.derived.curves.iter().filter(|curve| curve.row.role == Role::Target) {
            of_curve(&mut macros, &folder.name, curve);
        }
    }
    for folder in &material.baselines {
        let ceilings = &folder.derived.ceilings;
        let mut define = |what: &str, value: f64, meaning: &str| {
            macros.define(&folder.name, what, &significant(value), meaning);
        };
        define("Bandwidth", ceilings.forward_bytes_per_s() / 1e9, "measured bandwidth of what a forward reads, GB/s");
        define("MatrixRate", ceilings.matrix_flops_per_s / 1e9, "measured matrix rate, GFLOP/s");
        define("Ridge", ceilings.ridge_flops_per_byte(), "measured ridge, FLOP a byte");
    }
    macros
}

fn of_choice(macros: &mut Macros, folder: &Folder<Derived>, regime: &RegimeChoice) {
    let (row, choice) = (&regime.row, &regime.choice);
    let of = format!("{} {}", folder.name, row.drafter);
    let mut define = |what: &str, value: &str, meaning: &str| macros.define(&of, what, value, meaning);
    let length = row.draft_length.map_or("undecided".to_string(), |length| length.to_string());
    define("DraftLength", &length, "the recommended draft length");
    define("ConfidenceSet", &row.confidence_set.replace(' ', ", "), "lengths that may be the fastest");
    define("Regime", &row.regime, "the regime at that length");
    define("Confidence", &super::sentence::percent(row.confidence), "of the intervals");
    define("Prompts", &row.prompts.to_string(), "prompts that it was chosen on");
    define("PromptsConfirm", &row.prompts_confirm.to_string(), "prompts that it was confirmed on");
    if let Some(speedup) = row.speedup_confirmed {
        let (value, interval) = rounded(speedup, row.speedup_low, row.speedup_high);
        define("Speedup", &value, "speed-up over plain decoding, on prompts that had no part in choosing");
        define("SpeedupInterval", &interval, "its interval");
    }
    if let Some(plain) = choice.arm(0) {
        define("PlainTokPerS", &significant(plain.tok_per_s), "pipelined plain decoding, tokens a second");
    }
    let Some(length) = choice.notable_length() else { return };
    define("SpokenOf", &length.to_string(), "the length that the following are of, on the tuning prompts");
    if let Some(arm) = regime.arms.iter().find(|arm| arm.draft_length == length) {
        define("TokPerS", &significant(arm.tok_per_s), "tokens a second");
        if let Some(speedup) = arm.speedup {
            let (value, interval) = rounded(speedup, arm.speedup_low, arm.speedup_high);
            define("TunedSpeedup", &value, "speed-up on the prompts that it was chosen on");
            define("TunedSpeedupInterval", &interval, "its interval");
        }
        if let (Some(tau), Some(acceptance)) =
            (choice.arm(length).and_then(|arm| arm.tau()), choice.arm(length).and_then(|arm| arm.acceptance()))
        {
            define("AcceptanceLength", &format!("{tau:.2}"), "committed tokens a round");
            define("AcceptanceRate", &format!("{acceptance:.3}"), "accepted over drafted");
        }
    }
}

fn of_curve(macros: &mut Macros, name: &str, curve: &CurveAnalysis) {
    let of = if curve.row.curve == 0 { name.to_string() } else { format!("{name} curve{}", curve.row.curve) };
    let mut define = |what: &str, value: &str, meaning: &str| macros.define(&of, what, value, meaning);
    let forwards: Vec<&CostWidthRow> = curve.widths.iter().filter(|row| row.mode == Mode::Sync).collect();
    let (Some(first), Some(last)) = (forwards.first(), forwards.last()) else { return };
    let (time, interval) = rounded(first.time_ms, first.time_low_ms, first.time_high_ms);
    define("NarrowestWidth", &first.width.to_string(), "tokens of the narrowest forward");
    define("NarrowestMs", &time, "its time, ms");
    define("NarrowestInterval", &interval, "the interval of that, ms");
    define("WidestWidth", &last.width.to_string(), "tokens of the widest forward");
    let (time, interval) = rounded(last.time_ms, last.time_low_ms, last.time_high_ms);
    define("WidestMs", &time, "its time, ms");
    define("WidestInterval", &interval, "the interval of that, ms");
    define("Shape", &curve.row.shape, "the fitted shape");
    if let Some(plain) = curve.row.pipelined_ms {
        define("PipelinedMs", &significant(plain), "a pipelined plain step, ms");
    }
    let count = |value: Option<u64>| value.map_or("not known".to_string(), |value| value.to_string());
    define("Cliffs", &count(curve.row.cliffs), "rises steeper than on either side");
    define("Falls", &count(curve.row.falls), "places where a wider forward is cheaper");
    if let Some(ridge) = curve.row.ridge_flop_per_byte {
        define("Ridge", &significant(ridge), "measured ridge, FLOP a byte");
    }
    if let Some(width) = curve.row.ridge_width {
        define("RidgeWidth", &format!("{width:.0}"), "the width at the measured ridge");
    }
}
