//! Several results folders together: one row a regime, and whether the best draft length differs between them.

use super::derive::{Derived, RegimeChoice, derive};
use super::gather::Complete;
use crate::results::{CellRow, CellState, ContrastRow, Design, RegimeRow, read_raw};
use crate::stats::blocks::Blocks;
use crate::stats::multiple::holm;
use crate::stats::parallel::in_parallel;
use crate::stats::regimes::{Options, contrast};
use anyhow::{Context, Result, anyhow};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Monte-Carlo draws of a contrast's test, and resamples of its intervals.
const DRAWS: usize = 20_000;
const RESAMPLES: usize = 2_000;

/// What several folders say together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RegimeMap {
    pub regimes: Vec<RegimeRow>,
    pub contrasts: Vec<ContrastRow>,
    pub warnings: Vec<String>,
}

/// One regime with the blocks that a contrast needs.
struct Measured {
    row: RegimeRow,
    prompts_sha256: String,
    design: Design,
    complete: Complete,
    confidence: f64,
    seed: u64,
}

/// The folders of a sweep's cells that are done, in the order in which they were.
pub fn sweep_folders(sweep: &Path) -> Result<Vec<PathBuf>> {
    let rows: Vec<CellRow> = read_raw(sweep)?;
    Ok(rows.iter().filter(|row| row.state == CellState::Done).map(|row| sweep.join(&row.cell)).collect())
}

/// Derives every folder and contrasts regimes of one drafter that differ in a single factor: machine, model (target and
/// precision), context, batch or temperature. Contexts and batches are contrasted with their neighbours. Two regimes alone are
/// contrasted whatever they differ in.
pub fn regime_map(folders: &[PathBuf], allow_mixed: bool) -> Result<RegimeMap> {
    let read = |folder: &PathBuf| {
        let derived = derive(folder, allow_mixed).with_context(|| folder.display().to_string())?;
        Ok((folder.display().to_string(), derived))
    };
    map_derived(in_parallel(folders.iter().collect(), read).into_iter().collect::<Result<_>>()?)
}

/// The same of folders that were derived before, each with its name.
pub fn map_derived(folders: Vec<(String, Derived)>) -> Result<RegimeMap> {
    let mut map = RegimeMap::default();
    let mut regimes = Vec::new();
    for (folder, derived) in folders {
        let (measured, warnings) = measured(&folder, derived);
        regimes.extend(measured);
        map.warnings.extend(warnings);
    }
    let place = |regime: &Measured| {
        let row = regime.row.clone();
        // Bits of numbers that are not negative sort as they do.
        let temperature = row.temperature.to_bits();
        (row.drafter, row.machine, row.target, row.precision, row.context, row.batch, temperature, row.folder)
    };
    regimes.sort_by_cached_key(place);
    let contrasted = |(a, b, factor): (usize, usize, String)| contrasted(&regimes[a], &regimes[b], &factor);
    for found in in_parallel(pairs(&regimes), contrasted) {
        match found {
            Ok(row) => map.contrasts.push(row),
            Err(reason) => map.warnings.push(format!("{reason:#}")),
        }
    }
    let p: Vec<f64> = map.contrasts.iter().map(|row| row.p_same_best).collect();
    map.contrasts.iter_mut().zip(holm(&p)?).for_each(|(row, p_holm)| row.p_holm = p_holm);
    map.regimes = regimes.into_iter().map(|regime| regime.row).collect();
    Ok(map)
}

fn measured(folder: &str, derived: Derived) -> (Vec<Measured>, Vec<String>) {
    let warnings = derived.warnings.iter().map(|warning| format!("{folder}: {warning}")).collect();
    let stamp = derived.stamp;
    let alpha = |drafter: &str| derived.predictions.iter().find(|row| row.drafter == drafter)?.alpha;
    let ceilings = stamp.ceilings();
    let regime = |regime: RegimeChoice| Measured {
        row: RegimeRow {
            folder: folder.to_string(),
            bandwidth_gb_s: ceilings.map(|ceilings| ceilings.forward_bytes_per_s() / 1e9),
            bytes_per_token: derived.bytes_per_token,
            alpha: alpha(&regime.choice.drafter),
            temperature: derived.scenario.temperature,
            ..row(&regime)
        },
        prompts_sha256: stamp.identity.prompts_sha256.clone(),
        design: stamp.identity.design,
        confidence: derived.scenario.confidence,
        seed: derived.scenario.seed,
        complete: regime.complete,
    };
    (derived.choices.into_iter().map(regime).collect(), warnings)
}

/// A regime's row but for what the folder says.
fn row(regime: &RegimeChoice) -> RegimeRow {
    let (choice, decided) = (&regime.choice, regime.row.clone());
    let length = choice.notable_length();
    let confirmed = choice.confirmation.as_ref().filter(|confirmed| Some(confirmed.draft_length) == length);
    let tuned = length.and_then(|length| choice.versus_plain(length));
    RegimeRow {
        machine: decided.machine,
        target: decided.target,
        drafter: decided.drafter,
        precision: decided.precision,
        context: decided.context,
        batch: decided.batch,
        regime: decided.regime,
        draft_length: decided.draft_length,
        confidence_set: decided.confidence_set,
        speedup_of: length,
        speedup: confirmed.map(|found| found.speedup.value).or(tuned.map(|arm| arm.speedup)),
        speedup_low: confirmed.map_or(tuned.and_then(|arm| arm.low), |found| found.speedup.low),
        speedup_high: confirmed.map_or(tuned.and_then(|arm| arm.high), |found| found.speedup.high),
        confirmed: confirmed.is_some(),
        prompts: decided.prompts,
        more_prompts: decided.more_prompts,
        ..RegimeRow::default()
    }
}

/// Target and precision: a checkpoint of another precision often has another name.
fn model(row: &RegimeRow) -> (&str, &str) {
    (&row.target, &row.precision)
}

/// The factors in which two regimes differ.
fn differing(a: &RegimeRow, b: &RegimeRow) -> Vec<&'static str> {
    let factors = [
        ("machine", a.machine != b.machine),
        ("model", model(a) != model(b)),
        ("context", a.context != b.context),
        ("batch", a.batch != b.batch),
        ("temperature", a.temperature != b.temperature),
    ];
    factors.into_iter().filter(|(_, differs)| *differs).map(|(factor, _)| factor).collect()
}

/// Which regimes, sorted by drafter and factors, are contrasted, and what they differ in.
fn pairs(regimes: &[Measured]) -> Vec<(usize, usize, String)> {
    let mut pairs = Vec::new();
    for (a, first) in regimes.iter().enumerate() {
        let alone = regimes.iter().filter(|other| other.row.drafter == first.row.drafter).count() == 2;
        let mut neighbours = BTreeSet::new();
        let later = regimes.iter().enumerate().skip(a + 1);
        for (b, second) in later.take_while(|(_, second)| second.row.drafter == first.row.drafter) {
            let factor = match differing(&first.row, &second.row).as_slice() {
                [] => "folder".to_string(),
                // Sorted: the first that differs in this alone is the next higher one.
                [factor @ ("context" | "batch")] if !neighbours.insert(*factor) => continue,
                [factor] => factor.to_string(),
                several if alone => several.join(" and "),
                _ => continue,
            };
            pairs.push((a, b, factor));
        }
    }
    pairs
}

/// What a regime is called in a contrast over this factor.
fn label(row: &RegimeRow, other: &RegimeRow, factor: &str) -> String {
    match factor {
        "machine" => row.machine.clone(),
        "model" if row.target == other.target => row.precision.clone(),
        "model" => format!("{} ({})", row.target, row.precision),
        "context" => format!("context {}", row.context),
        "batch" => format!("batch {}", row.batch),
        "temperature" => format!("temperature {}", row.temperature),
        _ => row.folder.clone(),
    }
}

fn contrasted(first: &Measured, second: &Measured, factor: &str) -> Result<ContrastRow> {
    let (one, other) = (label(&first.row, &second.row, factor), label(&second.row, &first.row, factor));
    let refused = |reason: &str| anyhow!("{one} against {other} ({}): not contrasted, {reason}", first.row.drafter);
    if [first, second].iter().any(|regime| regime.design != Design::Blocks) {
        return Err(refused("as a race or an any-time run stops where its own data say"));
    }
    let lengths: Vec<u32> = first.lengths().intersection(&second.lengths()).copied().collect();
    if lengths.len() < 2 {
        return Err(refused("as fewer than two draft lengths were timed in both: raise arms in their scenarios"));
    }
    let known: BTreeSet<&String> = second.complete.prompts.iter().collect();
    let shared: Vec<&String> = first.complete.prompts.iter().filter(|prompt| known.contains(prompt)).collect();
    let paired = first.prompts_sha256 == second.prompts_sha256 && shared.len() > 1;
    let shared = paired.then_some(shared.as_slice());
    let (a, b) = (first.blocks(&lengths, shared)?, second.blocks(&lengths, shared)?);
    let options = Options {
        confidence: first.confidence,
        same_prompts: paired,
        resamples: RESAMPLES,
        draws: DRAWS,
        seed: first.seed,
    };
    let found = contrast(&lengths, &a, &b, &options).map_err(|error| refused(&error.to_string()))?;
    let (there, back) = (found.regret_of_first_in_second, found.regret_of_second_in_first);
    Ok(ContrastRow {
        drafter: first.row.drafter.clone(),
        factor: factor.to_string(),
        first: one.clone(),
        second: other.clone(),
        folder_first: first.row.folder.clone(),
        folder_second: second.row.folder.clone(),
        paired,
        prompts_first: a.prompts() as u64,
        prompts_second: b.prompts() as u64,
        best_first: found.best.0.into(),
        best_second: found.best.1.into(),
        p_same_best: found.p_same_best,
        p_holm: found.p_same_best,
        difference_low: found.difference.low,
        difference_high: found.difference.high,
        loss_of_first_in_second: there.value,
        loss_of_first_in_second_low: there.low,
        loss_of_first_in_second_high: there.high,
        loss_of_second_in_first: back.value,
        loss_of_second_in_first_low: back.low,
        loss_of_second_in_first_high: back.high,
        confidence: options.confidence,
    })
}

impl Measured {
    fn lengths(&self) -> BTreeSet<u32> {
        self.complete.arms.iter().map(|arm| arm.draft_length as u32).collect()
    }

    /// The costs of these lengths, on these prompts in this order (all of its own if none are given).
    fn blocks(&self, lengths: &[u32], prompts: Option<&[&String]>) -> Result<Blocks> {
        let complete = &self.complete;
        let arm = |length: &u32| complete.arms.iter().position(|arm| arm.draft_length == u64::from(*length));
        let arms: Vec<usize> = lengths.iter().filter_map(arm).collect();
        let all: Vec<&String> = complete.prompts.iter().collect();
        let wanted = prompts.unwrap_or(&all).iter();
        let rows: Vec<usize> =
            wanted.filter_map(|wanted| complete.prompts.iter().position(|prompt| prompt == *wanted)).collect();
        let seconds: Vec<Vec<f64>> =
            rows.iter().map(|&row| arms.iter().map(|&arm| complete.seconds[row][arm]).collect()).collect();
        let tokens: Vec<Vec<u64>> =
            rows.iter().map(|&row| arms.iter().map(|&arm| complete.tokens[row][arm]).collect()).collect();
        Blocks::new(&seconds, &tokens).with_context(|| self.row.folder.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regime(drafter: &str, machine: &str, precision: &str, context: u64) -> Measured {
        let row = RegimeRow {
            drafter: drafter.to_string(),
            machine: machine.to_string(),
            target: "t".to_string(),
            precision: precision.to_string(),
            context,
            ..RegimeRow::default()
        };
        let complete = super::super::gather::complete_blocks(&[], "tune", &[]).unwrap();
        Measured { row, prompts_sha256: String::new(), design: Design::Blocks, complete, confidence: 0.95, seed: 1 }
    }

    fn pair(a: usize, b: usize, factor: &str) -> (usize, usize, String) {
        (a, b, factor.to_string())
    }

    #[test]
    fn regimes_that_differ_in_one_factor_are_paired_and_contexts_with_their_neighbours() {
        let regimes = [
            regime("d", "m", "4bit", 64),
            regime("d", "m", "4bit", 128),
            regime("d", "m", "4bit", 256),
            regime("d", "m", "8bit", 128),
            regime("e", "m", "4bit", 64),
            regime("e", "n", "8bit", 64),
        ];
        assert_eq!(
            pairs(&regimes),
            [pair(0, 1, "context"), pair(1, 2, "context"), pair(1, 3, "model"), pair(4, 5, "machine and model")]
        );
    }

    #[test]
    fn another_temperature_is_another_regime() {
        let (greedy, mut sampled) = (regime("d", "m", "4bit", 64), regime("d", "m", "4bit", 64));
        sampled.row.temperature = 0.7;
        assert_eq!(label(&sampled.row, &greedy.row, "temperature"), "temperature 0.7");
        assert_eq!(pairs(&[greedy, sampled]), [pair(0, 1, "temperature")]);
    }

    #[test]
    fn the_same_regime_twice_is_a_contrast_of_folders() {
        assert_eq!(pairs(&[regime("d", "m", "4bit", 64), regime("d", "m", "4bit", 64)]), [pair(0, 1, "folder")]);
    }
}
