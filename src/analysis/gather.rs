//! Complete blocks: prompts on which every arm was timed, with what each arm took.

use crate::results::{Control, RunRow};
use crate::stats::validity;
use anyhow::{Result, bail};
use std::collections::{BTreeMap, BTreeSet};

/// A drafter with a draft length; plain decoding has no drafter and length 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arm {
    pub drafter: String,
    pub draft_length: u64,
}

impl Arm {
    pub fn plain() -> Arm {
        Arm { drafter: String::new(), draft_length: 0 }
    }

    /// The arm that a run belongs to: length 0 is plain decoding, whatever drafter it was noted under.
    fn of(run: &RunRow) -> Arm {
        let drafter = if run.draft_length == 0 { String::new() } else { run.drafter.clone() };
        Arm { drafter, draft_length: run.draft_length }
    }
}

/// What one arm did on all complete prompts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    pub rounds: u64,
    pub drafted: u64,
    pub accepted: u64,
    pub tokens: u64,
}

/// The prompts of one split on which every arm was timed. Runs of the same arm and prompt, such as the two γ=0 controls
/// and repeated blocks, are averaged: the prompt is the unit of replication.
#[derive(Debug, Clone, PartialEq)]
pub struct Complete {
    /// Prompt ids, in the order first timed.
    pub prompts: Vec<String>,
    /// All arms, plain decoding first.
    pub arms: Vec<Arm>,
    /// Seconds, `[prompt][arm]`.
    pub seconds: Vec<Vec<f64>>,
    /// Committed tokens, `[prompt][arm]`.
    pub tokens: Vec<Vec<u64>>,
    /// By arm, over the complete prompts.
    pub counts: Vec<Counts>,
    /// The plain runs that open and close the blocks of the complete prompts, which say whether the machine was steady.
    pub controls: Vec<validity::Control>,
    /// Prompts left out, each with the reason.
    pub left_out: Vec<String>,
}

/// The runs of one prompt: for each arm those that gave a time, and whether any failed.
#[derive(Default)]
struct Runs<'a> {
    timed: BTreeMap<Arm, Vec<&'a RunRow>>,
    failed: BTreeSet<Arm>,
    controls: BTreeMap<u64, (bool, bool)>,
}

/// Gathers one split's complete blocks, with the arms of the drafters given (all if none is given).
///
/// # Errors
/// A run without tokens, with a time that is not positive, or with more or fewer tokens than its prompt's other runs.
pub fn complete_blocks(runs: &[RunRow], split: &str, drafters: &[&str]) -> Result<Complete> {
    let wanted = |arm: &Arm| arm.draft_length == 0 || drafters.is_empty() || drafters.contains(&arm.drafter.as_str());
    let runs: Vec<&RunRow> = runs.iter().filter(|run| run.split == split && wanted(&Arm::of(run))).collect();
    runs.iter().try_for_each(|run| check(run))?;
    let arms: BTreeSet<Arm> = runs.iter().map(|run| Arm::of(run)).chain([Arm::plain()]).collect();
    let arms: Vec<Arm> = arms.into_iter().collect();
    let mut complete = Complete {
        prompts: Vec::new(),
        counts: vec![Counts::default(); arms.len()],
        arms,
        seconds: Vec::new(),
        tokens: Vec::new(),
        controls: Vec::new(),
        left_out: Vec::new(),
    };
    let launches = launch_starts(&runs);
    for (prompt, runs) in by_prompt(&runs) {
        match missing(&complete.arms, &runs) {
            Some(reason) => complete.left_out.push(format!("{prompt}: {reason}")),
            None => complete.add(prompt, &runs, &launches)?,
        }
    }
    Ok(complete)
}

/// When each launch began in seconds, with the launches laid end to end: the time between them is not known.
fn launch_starts(runs: &[&RunRow]) -> BTreeMap<u64, f64> {
    let mut ends: BTreeMap<u64, f64> = BTreeMap::new();
    for run in runs {
        let end = ends.entry(run.launch).or_default();
        *end = end.max(run.started_s + run.seconds.unwrap_or(0.0));
    }
    let mut elapsed = 0.0;
    ends.into_iter()
        .map(|(launch, end)| {
            elapsed += end;
            (launch, elapsed - end)
        })
        .collect()
}

fn check(run: &RunRow) -> Result<()> {
    let RunRow { prompt, block, order, .. } = run;
    let place = format!("runs.csv: prompt {prompt}, block {block}, order {order}");
    match run.seconds {
        Some(seconds) if !(seconds > 0.0 && seconds.is_finite()) => {
            bail!("{place}: seconds: {seconds} cannot be; a time must be positive")
        }
        Some(_) if run.tokens == 0 => bail!("{place}: tokens: a timed run must have committed some"),
        None if run.error.is_empty() => bail!("{place}: has neither seconds nor an error"),
        _ => Ok(()),
    }
}

/// Prompts in the order of their first run.
fn by_prompt<'a>(runs: &[&'a RunRow]) -> Vec<(&'a str, Runs<'a>)> {
    let mut prompts: Vec<(&str, Runs)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for run in runs {
        let place = *places.entry(&run.prompt).or_insert_with(|| {
            prompts.push((&run.prompt, Runs::default()));
            prompts.len() - 1
        });
        let gathered = &mut prompts[place].1;
        let controls = gathered.controls.entry(run.block).or_default();
        match (run.seconds, run.control) {
            (None, _) => {
                gathered.failed.insert(Arm::of(run));
                continue;
            }
            (_, Control::First) => controls.0 = true,
            (_, Control::Last) => controls.1 = true,
            (_, Control::No) => {}
        }
        gathered.timed.entry(Arm::of(run)).or_default().push(run);
    }
    prompts
}

/// Why a prompt is not complete, if it is not. A control that opens a block must have its partner that closes it, as one
/// alone does not cancel a drift.
fn missing(arms: &[Arm], runs: &Runs) -> Option<String> {
    if let Some(arm) = runs.failed.iter().next() {
        return Some(format!("a run failed ({})", arm_name(arm)));
    }
    if let Some(arm) = arms.iter().find(|arm| !runs.timed.contains_key(arm)) {
        return Some(format!("not timed ({})", arm_name(arm)));
    }
    runs.controls
        .values()
        .any(|(first, last)| first != last)
        .then(|| "its block is not closed by plain decoding".into())
}

fn arm_name(arm: &Arm) -> String {
    if arm.draft_length == 0 { "plain".to_string() } else { format!("{} γ={}", arm.drafter, arm.draft_length) }
}

impl Complete {
    fn add(&mut self, prompt: &str, runs: &Runs, launches: &BTreeMap<u64, f64>) -> Result<()> {
        let mut seconds = Vec::with_capacity(self.arms.len());
        let mut tokens = Vec::with_capacity(self.arms.len());
        for (arm, counts) in self.arms.iter().zip(&mut self.counts) {
            let timed = &runs.timed[arm];
            let committed = timed[0].tokens;
            if let Some(other) = timed.iter().find(|run| run.tokens != committed) {
                let (arm, other) = (arm_name(arm), other.tokens);
                bail!(
                    "runs.csv: prompt {prompt}: tokens: {arm} has runs of {committed} and of {other}; they must agree"
                );
            }
            seconds.push(timed.iter().filter_map(|run| run.seconds).sum::<f64>() / timed.len() as f64);
            tokens.push(committed);
            for run in timed {
                counts.rounds += run.rounds;
                counts.drafted += run.drafted;
                counts.accepted += run.accepted;
                counts.tokens += run.tokens;
            }
        }
        let controls = runs.timed[&Arm::plain()].iter().filter(|run| run.control != Control::No);
        self.controls.extend(controls.map(|run| validity::Control {
            time_s: launches[&run.launch] + run.started_s,
            prompt: self.prompts.len(),
            seconds_per_token: run.seconds.unwrap_or(0.0) / run.tokens as f64,
        }));
        self.prompts.push(prompt.to_string());
        self.seconds.push(seconds);
        self.tokens.push(tokens);
        Ok(())
    }

    /// One arm's seconds, one a prompt.
    pub fn arm_seconds(&self, arm: usize) -> Vec<f64> {
        self.seconds.iter().map(|seconds| seconds[arm]).collect()
    }

    /// Tokens a second of one arm: Σ tokens / Σ seconds; none without prompts.
    pub fn tok_per_s(&self, arm: usize) -> Option<f64> {
        let seconds: f64 = self.seconds.iter().map(|seconds| seconds[arm]).sum();
        let tokens: u64 = self.tokens.iter().map(|tokens| tokens[arm]).sum();
        (seconds > 0.0).then(|| tokens as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(prompt: &str, draft_length: u64, seconds: f64, control: Control) -> RunRow {
        RunRow {
            prompt: prompt.to_string(),
            split: "tune".to_string(),
            drafter: if draft_length == 0 { "" } else { "lookup" }.to_string(),
            draft_length,
            control,
            tokens: 48,
            seconds: Some(seconds),
            rounds: 10,
            drafted: 20,
            accepted: 5,
            ..RunRow::default()
        }
    }

    fn block(prompt: &str) -> Vec<RunRow> {
        vec![
            run(prompt, 0, 2.0, Control::First),
            run(prompt, 4, 1.5, Control::No),
            run(prompt, 2, 1.0, Control::No),
            run(prompt, 0, 4.0, Control::Last),
        ]
    }

    #[test]
    fn controls_are_averaged_and_arms_are_sorted_with_plain_first() {
        let complete = complete_blocks(&[block("b"), block("a")].concat(), "tune", &[]).unwrap();
        assert_eq!(complete.prompts, ["b", "a"]);
        assert_eq!(complete.arms.iter().map(|arm| arm.draft_length).collect::<Vec<_>>(), [0, 2, 4]);
        assert_eq!(complete.seconds, [[3.0, 1.0, 1.5], [3.0, 1.0, 1.5]]);
        assert_eq!(complete.tok_per_s(1), Some(48.0));
        assert_eq!(complete.counts[1], Counts { rounds: 20, drafted: 40, accepted: 10, tokens: 96 });
        assert_eq!(complete.left_out, Vec::<String>::new());
    }

    #[test]
    fn controls_of_later_launches_come_after_those_of_earlier_ones() {
        let at = |launch: u64, started_s: f64, rows: Vec<RunRow>| {
            let row = |(order, row): (usize, RunRow)| RunRow { launch, started_s: started_s + order as f64, ..row };
            rows.into_iter().enumerate().map(row).collect::<Vec<_>>()
        };
        let rows = [at(0, 10.0, block("a")), at(1, 5.0, block("b"))].concat();
        let complete = complete_blocks(&rows, "tune", &[]).unwrap();
        let found: Vec<_> = complete.controls.iter().map(|control| (control.prompt, control.time_s)).collect();
        // The first launch ends with the last control's 4 s, at 17 s.
        assert_eq!(found, [(0, 10.0), (0, 13.0), (1, 22.0), (1, 25.0)]);
        assert_eq!(complete.controls[1].seconds_per_token, 4.0 / 48.0);
    }

    #[test]
    fn incomplete_prompts_are_left_out_with_the_reason() {
        let mut rows = [block("whole"), block("short"), block("open"), block("failed")].concat();
        rows.remove(6);
        rows.remove(10);
        rows[12] = RunRow { seconds: None, error: "no memory".to_string(), ..rows[12].clone() };
        let complete = complete_blocks(&rows, "tune", &[]).unwrap();
        assert_eq!(complete.prompts, ["whole"]);
        let reasons = [
            "short: not timed (lookup γ=2)",
            "open: its block is not closed by plain decoding",
            "failed: a run failed (lookup γ=2)",
        ];
        assert_eq!(complete.left_out, reasons);
    }

    #[test]
    fn splits_and_drafters_are_kept_apart() {
        let other = RunRow { drafter: "other".to_string(), ..run("a", 8, 1.0, Control::No) };
        let rows = [block("a"), vec![other]].concat();
        assert_eq!(complete_blocks(&rows, "tune", &["lookup"]).unwrap().arms.len(), 3);
        assert_eq!(complete_blocks(&rows, "tune", &["other"]).unwrap().arms.len(), 2);
        assert_eq!(complete_blocks(&rows, "tune", &[]).unwrap().arms.len(), 4);
        assert!(complete_blocks(&rows, "confirm", &[]).unwrap().prompts.is_empty());
    }

    #[test]
    fn impossible_runs_are_refused() {
        let refused = |change: fn(&mut RunRow)| {
            let mut rows = block("a");
            change(&mut rows[3]);
            complete_blocks(&rows, "tune", &[]).unwrap_err().to_string()
        };
        assert!(refused(|run| run.seconds = Some(-1.0)).contains("seconds: -1 cannot be"));
        assert!(refused(|run| run.seconds = Some(0.0)).contains("a time must be positive"));
        assert!(refused(|run| run.tokens = 0).contains("tokens: a timed run must"));
        assert!(refused(|run| run.seconds = None).contains("neither seconds nor an error"));
        assert!(refused(|run| run.tokens = 47).contains("plain has runs of 48 and of 47"));
    }
}
