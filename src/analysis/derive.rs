//! Everything derived from one results folder.

use super::categories::category_rows;
use super::choice::{Choice, Rules, choose, confirm};
use super::comparison::{Comparison, RoundTime, arm_rows, compare, round_times};
use super::gather::{Arm, Complete, complete_blocks};
use super::policies::{Policy, fitted_rows, fitted_rules, gather_policies, policy_rows};
use super::predictions::{Timing, Traced, acceptance, gather_traces, predictions};
use super::race::race;
use super::sensitivity::sensitivity_rows;
use crate::results::{
    AcceptanceRow, ArmRow, CategoryRow, CostRow, DecisionRow, Design, DraftTraceRow, LookRow, Mode, PolicyRow,
    PredictionRow, PromptRow, Role, RunRow, SensitivityRow, Stamp, TraceRow, mixed, read_raw, write,
};
use crate::roofline::{Padding, Regime, RegimePoint, StopRule};
use crate::scenario::Scenario;
use crate::stats::bootstrap;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// All that follows from a folder's raw files.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// What the folder belongs to.
    pub stamp: Stamp,
    pub scenario: Scenario,
    /// Bytes that a plain step must move, a sequence; none without t(1).
    pub bytes_per_token: Option<f64>,
    pub predictions: Vec<PredictionRow>,
    pub acceptance: Vec<AcceptanceRow>,
    /// Rules that end drafts early beside static lengths and the oracle.
    pub policies: Vec<PolicyRow>,
    /// The rule of every arm that has one.
    pub rules: BTreeMap<Arm, StopRule>,
    /// The widths that verifications run at.
    pub padding: Padding,
    /// One for each drafter that was timed, by name.
    pub choices: Vec<RegimeChoice>,
    /// The speed-up of every timed arm by category.
    pub categories: Vec<CategoryRow>,
    /// What to know about the folder as a whole.
    pub warnings: Vec<String>,
}

/// A choice with the regime that it holds in.
#[derive(Debug, Clone, PartialEq)]
pub struct RegimeChoice {
    pub choice: Choice,
    pub row: DecisionRow,
    /// The blocks that it was chosen on.
    pub complete: Complete,
    /// Its arms, plain decoding first.
    pub arms: Vec<ArmRow>,
    /// What a round of each arm takes, where its cost was measured.
    pub rounds: Vec<RoundTime>,
    /// What explains the speed-up at the length spoken of.
    pub why: Option<Why>,
}

/// What explains a speed-up or its absence, at the length spoken of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Why {
    /// Committed tokens a round.
    pub tau: f64,
    /// What a verification costs in plain tokens: its time over T_AR, on average over the widths that the rounds had.
    pub verification: f64,
    /// The proposal's, likewise.
    pub proposal: f64,
}

/// Derives predictions and decisions from the folder's raw files, the same on every machine. Files that are not there
/// yet leave out what needs them. A folder of several machines or versions is refused unless `allow_mixed`, as that is a
/// factor that nobody sees in the rows.
pub fn derive(folder: &Path, allow_mixed: bool) -> Result<Derived> {
    let stamp = Stamp::read(folder)?;
    let stamp =
        stamp.with_context(|| format!("{}: has no environment.json; name a results folder", folder.display()))?;
    let scenario: Scenario = stamp.declared(folder)?;
    let costs: Vec<CostRow> = read_raw(folder)?;
    let mixture = mixture(&stamp, &costs);
    if let Some(difference) = mixture.as_ref().filter(|_| !allow_mixed) {
        let shown = folder.display();
        bail!("{shown}: mixes machines or versions ({difference}); keep one a folder, or give --allow-mixed");
    }
    let timing = if costs.is_empty() { None } else { Some(Timing::of(&costs, scenario.pad)?) };
    let prompts: Vec<PromptRow> = read_raw(folder)?;
    let traces: Vec<TraceRow> = read_raw(folder)?;
    let sampled = scenario.temperature > 0.0;
    let chances: Option<Vec<DraftTraceRow>> = if sampled { Some(read_raw(folder)?) } else { None };
    let traced = gather_traces(&traces, chances.as_deref(), &prompts)?;
    let policies = gather_policies(&read_raw(folder)?, &traced, &traces, &read_raw(folder)?, sampled)?;
    let lengths = scenario.draft_lengths.values();
    let rules = match &timing {
        Some(timing) => fitted_rules(&policies, timing, lengths)?,
        None => BTreeMap::new(),
    };
    let predictions = match &timing {
        Some(timing) => predictions(timing, &traced, &policies, &rules, lengths)?,
        None => Vec::new(),
    };
    let padding = match &timing {
        Some(timing) if scenario.pad => Padding::of(&timing.target, lengths.last().map_or(1, |longest| longest + 1)),
        _ => Padding::default(),
    };
    let runs: Vec<RunRow> = read_raw(folder)?;
    check_clock(&runs)?;
    let drafters: BTreeSet<&str> =
        runs.iter().filter(|run| run.draft_length > 0).map(|run| run.drafter.as_str()).collect();
    let looks: Vec<LookRow> = read_raw(folder)?;
    let looks: Vec<usize> = looks.iter().map(|look| look.blocks as usize).collect();
    let timing = timing.as_ref();
    let source = Source {
        stamp: &stamp,
        scenario: &scenario,
        costs: &costs,
        timing,
        runs: &runs,
        traced: &traced,
        policies: &policies,
        rules: &rules,
        looks: &looks,
    };
    let mut warnings = folder_warnings(&costs, &runs);
    let mixture = mixture.map(|difference| format!("mixed machines or versions: {difference}"));
    let mut choices = Vec::new();
    for drafter in drafters {
        match source.choice(drafter, mixture.as_deref())? {
            Ok(choice) => choices.push(choice),
            Err(warning) => warnings.push(warning),
        }
    }
    let step = |row: &&CostRow| row.role == Role::Target && row.width == 1;
    let bytes_per_token = costs.iter().find(step).map(|row| row.bytes as f64 / row.batch.max(1) as f64);
    let options = bootstrap::Options::new(scenario.confidence, scenario.seed);
    let policies = match timing {
        // Of sampled texts the drafts that a rule sees are not replayed.
        Some(timing) if !sampled => policy_rows(&policies, timing, lengths, &options)?,
        _ => Vec::new(),
    };
    Ok(Derived {
        acceptance: acceptance(&traced),
        predictions,
        categories: category_rows(&runs, &options)?,
        policies,
        rules,
        padding,
        choices,
        warnings,
        bytes_per_token,
        stamp,
        scenario,
    })
}

impl Derived {
    /// Writes the derived files.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write(folder, &self.predictions)?;
        write(folder, &self.acceptance)?;
        // Files of rules only where there are any.
        if !self.policies.is_empty() {
            write(folder, &self.policies)?;
        }
        let (calibrations, thresholds) = fitted_rows(&self.rules);
        if !thresholds.is_empty() {
            write(folder, &calibrations)?;
            write(folder, &thresholds)?;
        }
        let arms: Vec<ArmRow> = self.choices.iter().flat_map(|choice| choice.arms.clone()).collect();
        write(folder, &arms)?;
        if !self.categories.is_empty() {
            write(folder, &self.categories)?;
        }
        let rows: Vec<DecisionRow> = self.choices.iter().map(|choice| choice.row.clone()).collect();
        write(folder, &rows)?;
        let checks: Vec<SensitivityRow> =
            self.choices.iter().flat_map(|regime| sensitivity_rows(&regime.choice)).collect();
        write(folder, &checks)
    }
}

/// Refuses runs whose start lies before that of the run before them in the same launch.
fn check_clock(runs: &[RunRow]) -> Result<()> {
    let mut latest: BTreeMap<u64, f64> = BTreeMap::new();
    for (place, run) in runs.iter().enumerate() {
        let before = latest.insert(run.launch, run.started_s);
        if let Some(before) = before.filter(|before| *before > run.started_s) {
            bail!(
                "runs.csv: line {}: started_s: {} s comes after {before} s in launch {}; the clock went backwards",
                place + 2,
                run.started_s,
                run.launch
            );
        }
    }
    Ok(())
}

/// In what the launches or the rows of `cost.csv` are not of one machine, target and version.
pub(super) fn mixture(stamp: &Stamp, costs: &[CostRow]) -> Option<String> {
    let foreign = |name: &str, own: &str, value: fn(&CostRow) -> &str| {
        let other = costs.iter().map(value).find(|other| !other.is_empty() && *other != own)?;
        Some(format!("{name} is '{own}' in environment.json and '{other}' in cost.csv"))
    };
    mixed(&stamp.launches)
        .or_else(|| foreign("machine", &stamp.identity.machine, |row| &row.machine))
        .or_else(|| foreign("target", &stamp.identity.target, |row| &row.target))
}

fn folder_warnings(costs: &[CostRow], runs: &[RunRow]) -> Vec<String> {
    let mut warnings = Vec::new();
    let invalid = costs.iter().filter(|row| row.invalid).count();
    if invalid > 0 {
        warnings.push(format!(
            "cost.csv: {invalid} of {} samples imply more than the machine's bandwidth; left out",
            costs.len()
        ));
    }
    let diverged = runs.iter().filter(|run| run.first_divergence.is_some()).count();
    if diverged > 0 {
        warnings
            .push(format!("runs.csv: {diverged} of {} runs committed other tokens than plain decoding", runs.len()));
    }
    warnings
}

/// What a choice is derived from.
struct Source<'a> {
    stamp: &'a Stamp,
    scenario: &'a Scenario,
    costs: &'a [CostRow],
    timing: Option<&'a Timing>,
    runs: &'a [RunRow],
    traced: &'a [Traced],
    policies: &'a [Policy],
    rules: &'a BTreeMap<Arm, StopRule>,
    /// Blocks after which a race looks.
    looks: &'a [usize],
}

impl Source<'_> {
    /// The choice, or why there is none yet.
    fn choice(&self, drafter: &str, mixture: Option<&str>) -> Result<std::result::Result<RegimeChoice, String>> {
        let rules = Rules::of(self.stamp, self.scenario);
        let (mut choice, complete) = match self.chosen(drafter, &rules)? {
            Ok(found) => found,
            Err(nothing) => return Ok(Err(nothing)),
        };
        let fresh = complete_blocks(self.runs, "confirm", &[drafter])?;
        choice.confirmation = confirm(choice.decision.recommended, &fresh, &rules)?;
        choice.warnings.extend(fresh.left_out.iter().map(|reason| format!("left out of the confirmation {reason}")));
        let comparisons = self.compare(drafter, &complete)?;
        choice.warnings.extend(comparisons.iter().filter_map(|comparison| comparison.warning.clone()));
        choice.warnings.extend(mixture.map(str::to_string));
        if self.scenario.supposed.is_some() {
            choice.warnings.push("acceptance is supposed, not measured; times are those of random weights".to_string());
        }
        let arms = arm_rows(&choice, &comparisons);
        let rounds = round_times(&comparisons, &arms);
        let why = self.why(&choice, &rounds);
        Ok(Ok(RegimeChoice { row: self.row(&choice), arms, rounds, why, choice, complete }))
    }

    /// The choice on the tuning prompts with the blocks that it rests on, or why there is none yet.
    fn chosen(&self, drafter: &str, rules: &Rules) -> Result<std::result::Result<(Choice, Complete), String>> {
        if self.stamp.identity.design == Design::Race {
            let entrants: Vec<u32> = self.scenario.draft_lengths.values().iter().map(|length| *length as u32).collect();
            let race = race(self.runs, drafter, &entrants, self.looks, usize::MAX, rules)?;
            return Ok(match (race.choice(rules)?, race.last_seen()) {
                (Some(choice), Some(complete)) => Ok((choice, complete.clone())),
                _ => Err(format!("{drafter}: the race has not reached its first look; run it again to go on")),
            });
        }
        let complete = complete_blocks(self.runs, "tune", &[drafter])?;
        if complete.prompts.len() < 2 {
            let count = complete.prompts.len();
            let left_out = complete.left_out.first().map(|reason| format!(" ({reason})")).unwrap_or_default();
            return Ok(Err(format!("{drafter}: {count} complete prompts{left_out}; nothing can be said below 2")));
        }
        Ok(Ok((choose(drafter, &complete, rules)?, complete)))
    }

    /// Every arm's prediction for exactly the prompts that were timed; none without t(b), proposals and traces of them.
    fn compare(&self, drafter: &str, complete: &Complete) -> Result<Vec<Comparison>> {
        let traced = self.traced.iter().find(|traced| traced.drafter == drafter);
        match (self.timing, traced) {
            (Some(timing), Some(traced)) => {
                let policy = self.policies.iter().find(|policy| policy.drafter() == drafter);
                compare(timing, traced, policy.map(|policy| (policy, self.rules)), complete)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn row(&self, choice: &Choice) -> DecisionRow {
        let decision = &choice.decision;
        let confirmed = choice.confirmation.as_ref();
        let notable = choice.notable_length();
        let length = decision.recommended.map(u64::from).or(notable);
        let regime = length.and_then(|length| self.regime(length + 1));
        let spoken_of = notable.and_then(|length| choice.versus_plain(length));
        DecisionRow {
            machine: self.stamp.identity.machine.clone(),
            target: self.stamp.identity.target.clone(),
            drafter: choice.drafter.clone(),
            precision: self.timing.map_or(String::new(), |timing| timing.precision.clone()),
            context: self.timing.map_or(0, |timing| timing.context),
            batch: self.timing.map_or(1, |timing| timing.batch),
            regime: regime.map_or(String::new(), |regime| regime.to_string()),
            draft_length: decision.recommended.map(u64::from),
            confidence_set: spaced(&decision.confidence_set),
            practically_best: spaced(&decision.practically_best),
            speedup_confirmed: confirmed.map(|confirmed| confirmed.speedup.value),
            speedup_low: confirmed.and_then(|confirmed| confirmed.speedup.low),
            speedup_high: confirmed.and_then(|confirmed| confirmed.speedup.high),
            p_holm: spoken_of.map(|arm| arm.p_holm),
            prompts: decision.prompts as u64,
            prompts_confirm: confirmed.map_or(0, |confirmed| confirmed.prompts as u64),
            more_prompts: decision.more_prompts.map(|more| more as u64),
            // A look of a race has a stricter one, so that the whole race has this.
            confidence: self.scenario.confidence,
            practical_margin: decision.margin,
            warnings: choice.warnings.join(" | "),
        }
    }

    /// What binds a synchronous forward of the target of this width, if ceilings and width were measured.
    fn regime(&self, width: u64) -> Option<Regime> {
        let ceilings = self.stamp.ceilings()?;
        let of_width = |row: &&CostRow| row.role == Role::Target && row.mode == Mode::Sync && row.width == width;
        let sample = self.costs.iter().find(of_width)?;
        let curve = &self.timing?.target;
        let point = RegimePoint {
            time_s: curve.at(width as usize)?,
            slope_s: curve.slope(width as usize)?,
            memory_s: ceilings.memory_s(sample.bytes),
            compute_s: sample.flops / ceilings.matrix_flops_per_s,
            width,
        };
        Some(point.regime())
    }

    fn why(&self, choice: &Choice, rounds: &[RoundTime]) -> Option<Why> {
        let length = choice.notable_length()?;
        let plain_ms = 1e3 * self.timing?.plain_s;
        let round = rounds.iter().find(|round| round.draft_length == length)?;
        Some(Why {
            tau: round.tau,
            verification: round.verification_ms / plain_ms,
            proposal: round.proposal_ms / plain_ms,
        })
    }
}

fn spaced(lengths: &[u32]) -> String {
    lengths.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}
