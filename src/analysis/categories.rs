//! The speed-up of every arm on the prompts of each category.

use super::gather::complete_blocks;
use crate::results::{CategoryRow, RunRow};
use crate::stats::bootstrap::{Options, speedup};
use anyhow::Result;
use std::collections::BTreeSet;

/// For each split, drafter, timed draft length and category, on the prompts on which all of the drafter's arms were timed.
pub fn category_rows(runs: &[RunRow], options: &Options) -> Result<Vec<CategoryRow>> {
    let drafters: BTreeSet<&str> =
        runs.iter().filter(|run| run.draft_length > 0).map(|run| run.drafter.as_str()).collect();
    let categories: BTreeSet<&str> = runs.iter().map(|run| run.category.as_str()).collect();
    let mut rows = Vec::new();
    for split in ["tune", "confirm"] {
        for drafter in &drafters {
            for category in &categories {
                let of: Vec<RunRow> = runs.iter().filter(|run| run.category == *category).cloned().collect();
                let complete = complete_blocks(&of, split, &[drafter])?;
                if complete.prompts.is_empty() {
                    continue;
                }
                let plain = complete.arm_seconds(0);
                for (place, arm) in complete.arms.iter().enumerate().skip(1) {
                    let estimate = speedup(&plain, &complete.arm_seconds(place), options)?;
                    rows.push(CategoryRow {
                        split: split.to_string(),
                        drafter: drafter.to_string(),
                        draft_length: arm.draft_length,
                        category: category.to_string(),
                        prompts: complete.prompts.len() as u64,
                        speedup: estimate.value,
                        speedup_low: estimate.low,
                        speedup_high: estimate.high,
                        rounds: complete.counts[place].rounds,
                        drafted: complete.counts[place].drafted,
                        accepted: complete.counts[place].accepted,
                        tokens: complete.counts[place].tokens,
                    });
                }
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Control;

    #[test]
    fn categories_are_kept_apart_and_races_have_incomplete_arms() {
        let run = |prompt: &str, category: &str, draft_length: u64, seconds: f64, control: Control| RunRow {
            prompt: prompt.into(),
            category: category.into(),
            split: "confirm".into(),
            drafter: if draft_length == 0 { "" } else { "d" }.into(),
            draft_length,
            control,
            tokens: 10,
            seconds: Some(seconds),
            rounds: 5,
            drafted: 6,
            accepted: 5,
            ..RunRow::default()
        };
        let block = |prompt: &str, category: &str, seconds: f64| {
            vec![
                run(prompt, category, 0, 2.0, Control::First),
                run(prompt, category, 3, seconds, Control::No),
                run(prompt, category, 0, 4.0, Control::Last),
            ]
        };
        let runs = [block("a", "x", 1.5), block("b", "x", 2.5), block("c", "y", 6.0)].concat();
        let rows = category_rows(&runs, &Options::new(0.95, 1)).unwrap();
        let found: Vec<_> = rows.iter().map(|row| (&row.category[..], row.prompts, row.speedup, row.rounds)).collect();
        assert_eq!(found, [("x", 2, 1.5, 10), ("y", 1, 0.5, 5)]);
        assert_eq!((rows[0].speedup_low, rows[0].split.as_str()), (None, "confirm"));
    }
}
