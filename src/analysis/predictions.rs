//! `predictions.csv` from the measured cost and the traces.

use super::gather::Arm;
use super::policies::Policy;
use crate::results::{AcceptanceRow, CostRow, DraftTraceRow, Mode, PredictionRow, PromptRow, Role, TraceRow};
use crate::roofline::{Acceptance, CostCurve, Costs, Draft, StopRule, Trace, predict};
use crate::stats::summary::median;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Times of one target at one context, batch and precision, and of its drafters' proposals.
#[derive(Debug, Clone)]
pub struct Timing {
    pub precision: String,
    pub context: u64,
    pub batch: u64,
    /// T_AR, seconds a token of pipelined plain decoding: the median of the pipelined samples of width 1.
    pub plain_s: f64,
    /// t(b).
    pub target: CostCurve,
    /// By drafter, seconds of a proposal by draft length.
    pub drafts: BTreeMap<String, CostCurve>,
    /// By drafter, seconds that a round takes less than its proposal and its verification timed one by one: the median over the
    /// draft lengths whose rounds were timed. Below 0 where a round takes more.
    pub overlaps: BTreeMap<String, f64>,
    /// Whether verifications run at a wider width where that is cheaper.
    pub pad: bool,
}

impl Timing {
    /// Gathers `cost.csv`. Samples without a time or marked invalid are left out.
    ///
    /// # Errors
    /// If the rows mix contexts, batches or precisions of the target, or lack the plain pipelined step or t(b).
    pub fn of(rows: &[CostRow], pad: bool) -> Result<Timing> {
        let rows: Vec<(&CostRow, f64)> =
            rows.iter().filter(|row| !row.invalid).filter_map(|row| Some((row, row.time_ms? / 1e3))).collect();
        let target: Vec<_> = rows.iter().filter(|(row, _)| row.role == Role::Target).collect();
        let first = target.first().context("cost.csv: has no valid time of the target; measure t(b) first")?.0;
        let point = |row: &CostRow| (row.precision.clone(), row.context, row.batch);
        if let Some((other, _)) = target.iter().find(|(row, _)| point(row) != point(first)) {
            bail!(
                "cost.csv: mixes {:?} and {:?} (precision, context, batch); keep one a folder",
                point(first),
                point(other)
            );
        }
        let mut target = curves(&rows, Role::Target, Mode::Sync)?;
        let target = target.remove("").context("cost.csv: has no synchronous times of the target")?;
        let plain_s = curves(&rows, Role::Target, Mode::Pipelined)?.get("").and_then(|curve| curve.at(1));
        let drafts = curves(&rows, Role::Drafter, Mode::Sync)?;
        let rounds = curves(&rows, Role::Drafter, Mode::Round)?;
        let overlap = |(name, rounds): (&String, &CostCurve)| {
            let proposals = drafts.get(name)?;
            let saved =
                |&(length, round_s): &(usize, f64)| Some(proposals.at(length)? + target.at(length + 1)? - round_s);
            Some((name.clone(), median(&rounds.points().iter().filter_map(saved).collect::<Vec<_>>()).ok()?))
        };
        Ok(Timing {
            precision: first.precision.clone(),
            context: first.context,
            batch: first.batch,
            plain_s: plain_s.context("cost.csv: has no pipelined time of width 1; measure plain decoding first")?,
            overlaps: rounds.iter().filter_map(overlap).collect(),
            target,
            drafts,
            pad,
        })
    }

    /// What rounds with this drafter are made of.
    pub fn costs(&self, drafter: &str) -> Result<Costs> {
        let draft = self.drafts.get(drafter);
        let draft = draft.with_context(|| format!("cost.csv: has no time of drafter '{drafter}'; measure it first"))?;
        Ok(Costs {
            plain_s: self.plain_s,
            draft: draft.clone(),
            target: self.target.clone(),
            overlap_s: self.overlaps.get(drafter).copied().unwrap_or(0.0),
            pad: self.pad,
        })
    }
}

/// By drafter, the medians by width of what was timed so.
fn curves(rows: &[(&CostRow, f64)], role: Role, mode: Mode) -> Result<BTreeMap<String, CostCurve>> {
    let mut samples: BTreeMap<String, Vec<(usize, f64)>> = BTreeMap::new();
    for (row, seconds) in rows.iter().filter(|(row, _)| (row.role, row.mode) == (role, mode)) {
        samples.entry(row.drafter.clone()).or_default().push((row.width as usize, *seconds));
    }
    let curve = |samples: Vec<_>| CostCurve::from_samples(samples).context("cost.csv");
    samples.into_iter().map(|(drafter, samples)| Ok((drafter, curve(samples)?))).collect()
}

/// The traces of one drafter on the tuning prompts.
#[derive(Debug, Clone, Default)]
pub struct Traced {
    pub drafter: String,
    /// By prompt.
    pub traces: BTreeMap<String, Trace>,
    /// The category of each prompt.
    pub categories: BTreeMap<String, String>,
}

/// Acceptance by category and place in the draft, for each drafter.
pub fn acceptance(traced: &[Traced]) -> Vec<AcceptanceRow> {
    let mut rows = Vec::new();
    for Traced { drafter, traces, categories } in traced {
        let distinct: BTreeSet<&String> = categories.values().collect();
        for category in distinct {
            let of_category = traces.iter().filter(|(prompt, _)| categories.get(*prompt) == Some(category));
            let counts = Acceptance::of(of_category.map(|(_, trace)| trace)).by_place;
            rows.extend(counts.iter().enumerate().map(|(place, count)| AcceptanceRow {
                drafter: drafter.clone(),
                category: category.clone(),
                draft_position: place as u64 + 1,
                reached: count.reached,
                accepted: count.accepted,
                alpha: count.alpha(),
            }));
        }
    }
    rows
}

/// One row for each traced drafter and draft length. Draft lengths beyond a drafter's trace are left out.
/// Those of `policies` are replayed with their tokens and `rules`, which has the rule of every arm that has one.
pub fn predictions(
    timing: &Timing,
    traced: &[Traced],
    policies: &[Policy],
    rules: &BTreeMap<Arm, StopRule>,
    draft_lengths: &[usize],
) -> Result<Vec<PredictionRow>> {
    let mut rows = Vec::new();
    for Traced { drafter, traces, .. } in traced {
        let costs = timing.costs(drafter)?;
        let policy = policies.iter().find(|policy| policy.drafter() == drafter);
        let traces: Vec<Trace> = traces.values().cloned().collect();
        let longest = traces.iter().map(Trace::draft_length_max).min().unwrap_or(0);
        let lengths: Vec<usize> = draft_lengths.iter().copied().filter(|length| *length <= longest).collect();
        let (predictions, oracle_s) = predict(&traces, &lengths, &costs)?;
        let first = Acceptance::of(&traces).first();
        let own = rows.len();
        rows.extend(predictions.into_iter().map(|prediction| PredictionRow {
            drafter: drafter.clone(),
            draft_length: prediction.draft_length as u64,
            positions: first.reached,
            first_accepted: first.accepted,
            alpha: first.alpha(),
            tau: prediction.replay.tau(),
            textbook_tok_per_s: prediction.textbook_s.map(f64::recip),
            iid_tok_per_s: prediction.iid_s.map(f64::recip),
            replay_tok_per_s: prediction.replay_s.map(f64::recip),
            oracle_tok_per_s: Some(oracle_s.recip()),
        }));
        if let Some(policy) = policy {
            rows[own..].iter_mut().try_for_each(|row| policy.predict(row, rules, &costs))?;
        }
    }
    Ok(rows)
}

/// The tuning prompts' traces, by drafter in alphabetical order, with the `chances` of sampled texts. Prompts whose trace is
/// shorter than the others', as after a kill, are left out.
pub fn gather_traces(
    rows: &[TraceRow],
    chances: Option<&[DraftTraceRow]>,
    prompts: &[PromptRow],
) -> Result<Vec<Traced>> {
    let chances = chances.map(by_draft);
    let split: HashMap<&str, &str> = prompts.iter().map(|row| (row.prompt.as_str(), row.split.as_str())).collect();
    let mut grouped: BTreeMap<&str, BTreeMap<&str, Vec<&TraceRow>>> = BTreeMap::new();
    for row in rows {
        if split.get(row.prompt.as_str()).is_none_or(|split| *split == "tune") {
            grouped.entry(&row.drafter).or_default().entry(&row.prompt).or_default().push(row);
        }
    }
    let longest = grouped.values().flat_map(BTreeMap::values).map(Vec::len).max().unwrap_or(0);
    let mut result = Vec::new();
    for (drafter, prompts) in grouped {
        let whole = prompts.into_iter().filter(|(_, rows)| rows.len() == longest);
        let mut traced = Traced { drafter: drafter.to_string(), ..Traced::default() };
        for (prompt, rows) in whole {
            traced.categories.insert(prompt.to_string(), rows[0].category.clone());
            traced.traces.insert(prompt.to_string(), trace_of(prompt, rows, chances.as_ref())?);
        }
        if !traced.traces.is_empty() {
            result.push(traced);
        }
    }
    Ok(result)
}

/// The chances of each draft's places, by prompt, drafter and position.
type Chances<'a> = HashMap<(&'a str, &'a str, u64), BTreeMap<u64, f64>>;

fn by_draft(rows: &[DraftTraceRow]) -> Chances<'_> {
    let mut drafts = Chances::new();
    for row in rows {
        let draft = drafts.entry((&row.prompt, &row.drafter, row.position)).or_default();
        draft.insert(row.draft_position, row.acceptance_probability.into());
    }
    drafts
}

/// Those of the draft at one position; none where its first place cannot be accepted.
fn chances_of(row: &TraceRow, all: &Chances) -> Result<Vec<f64>> {
    let TraceRow { prompt, position, .. } = row;
    let Some(places) = all.get(&(prompt.as_str(), row.drafter.as_str(), *position)) else { return Ok(Vec::new()) };
    if !places.keys().copied().eq(1..=places.len() as u64) {
        bail!("draft_trace.csv: prompt {prompt}, position {position}: draft_position must run from 1; trace it again");
    }
    Ok(places.values().copied().collect())
}

fn trace_of(prompt: &str, mut rows: Vec<&TraceRow>, chances: Option<&Chances>) -> Result<Trace> {
    rows.sort_by_key(|row| row.position);
    for (position, row) in rows.iter().enumerate() {
        if row.position != position as u64 || row.draft_length_max != rows[0].draft_length_max {
            bail!(
                "trace.csv: prompt {prompt}, position {}: positions must run from 0 with one draft_length_max; trace it again",
                row.position
            );
        }
    }
    let drafts =
        rows.iter().map(|row| Draft { drafted: row.drafted as usize, matched: row.matched as usize }).collect();
    let draft_length_max = rows[0].draft_length_max as usize;
    let trace = match chances {
        None => Trace::new(drafts, draft_length_max),
        Some(chances) => {
            let chances = rows.iter().map(|row| chances_of(row, chances)).collect::<Result<_>>()?;
            Trace::sampled(drafts, draft_length_max, chances)
        }
    };
    trace.with_context(|| format!("trace.csv: prompt {prompt}, drafter {}", rows[0].drafter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(role: Role, mode: Mode, width: u64, time_ms: f64) -> CostRow {
        let drafter = if role == Role::Drafter { "self" } else { "" }.to_string();
        CostRow { role, mode, width, drafter, time_ms: Some(time_ms), batch: 1, context: 64, ..CostRow::default() }
    }

    fn costs() -> Vec<CostRow> {
        let mut rows = vec![cost(Role::Target, Mode::Pipelined, 1, 9.0)];
        rows.extend([(1, 10.0), (2, 11.0), (3, 12.0)].map(|(width, ms)| cost(Role::Target, Mode::Sync, width, ms)));
        rows.extend([(1, 1.0), (2, 2.0)].map(|(width, ms)| cost(Role::Drafter, Mode::Sync, width, ms)));
        rows
    }

    fn trace(prompt: &str, matched: &[u64]) -> Vec<TraceRow> {
        let row = |(position, matched): (usize, &u64)| TraceRow {
            prompt: prompt.to_string(),
            drafter: "self".to_string(),
            position: position as u64,
            draft_length_max: 2,
            drafted: 2,
            matched: *matched,
            ..TraceRow::default()
        };
        matched.iter().enumerate().map(row).collect()
    }

    #[test]
    fn a_prediction_by_hand() {
        let timing = Timing::of(&costs(), false).unwrap();
        // Two rounds of 2 + 12 ms for three tokens: the same case as in the predictor's own test.
        let rows = predictions(
            &timing,
            &gather_traces(&trace("a", &[0, 2, 1]), None, &[]).unwrap(),
            &[],
            &BTreeMap::new(),
            &[0, 2, 5],
        )
        .unwrap();
        assert_eq!(rows.len(), 2);
        assert!((rows[0].replay_tok_per_s.unwrap() - 1000.0 / 9.0).abs() < 1e-9);
        assert!((rows[1].replay_tok_per_s.unwrap() - 3000.0 / 28.0).abs() < 1e-9);
        assert_eq!((rows[1].positions, rows[1].first_accepted, rows[1].tau), (3, 2, 1.5));
    }

    #[test]
    fn what_rounds_save_is_the_median_over_their_lengths_and_comes_off_each() {
        // 1 + 11 and 2 + 12 ms one after the other.
        let round = |width, ms| cost(Role::Drafter, Mode::Round, width, ms);
        let mut rows = [costs(), vec![round(1, 11.0), round(2, 13.4), round(2, 13.2), round(2, 19.0)]].concat();
        let timing = Timing::of(&rows, false).unwrap();
        assert!((timing.overlaps["self"] - 0.8e-3).abs() < 1e-12, "of 1.0 and 0.6: {:?}", timing.overlaps);
        assert_eq!(timing.drafts["self"].at(2), Some(0.002), "rounds are no proposals");
        let seconds = |timing: &Timing, drafted| timing.costs("self").unwrap().round_s(2, drafted).unwrap();
        assert!((seconds(&timing, 2) - 13.2e-3).abs() < 1e-12);
        assert!((seconds(&timing, 0) - 11.2e-3).abs() < 1e-12, "2 ms that found nothing, and t(1)");
        // Of several sources: where no model drafts, nothing is saved.
        assert_eq!(timing.costs("self").unwrap().proposal_s(0), Some(0.0));
        // Nor is anything known to be saved by one whose rounds were not timed.
        rows.iter_mut().for_each(|row| row.invalid = row.mode == Mode::Round);
        assert!((seconds(&Timing::of(&rows, false).unwrap(), 2) - 14e-3).abs() < 1e-12);
    }

    #[test]
    fn only_whole_tuning_traces_count() {
        let timing = Timing::of(&costs(), false).unwrap();
        let prompts = ["a", "b", "c"].map(|prompt| PromptRow {
            prompt: prompt.to_string(),
            split: if prompt == "b" { "confirm" } else { "tune" }.to_string(),
            ..PromptRow::default()
        });
        let all = [trace("a", &[0, 2, 1]), trace("b", &[2, 2, 2]), trace("c", &[2, 2])].concat();
        let predicted = |traced: Vec<Traced>| predictions(&timing, &traced, &[], &BTreeMap::new(), &[0, 1, 2]).unwrap();
        let alone = predicted(gather_traces(&trace("a", &[0, 2, 1]), None, &[]).unwrap());
        assert_eq!(predicted(gather_traces(&all, None, &prompts).unwrap()), alone);
    }

    #[test]
    fn acceptance_is_counted_by_category_and_place() {
        let of = |prompt: &str, category: &str, matched: &[u64]| -> Vec<TraceRow> {
            let rows = trace(prompt, matched).into_iter();
            rows.map(|row| TraceRow { category: category.to_string(), ..row }).collect()
        };
        let all = [of("a", "y", &[0, 2, 1]), of("b", "x", &[2, 2, 2]), of("c", "y", &[1, 1, 0])].concat();
        let rows = acceptance(&gather_traces(&all, None, &[]).unwrap());
        let counts: Vec<_> =
            rows.iter().map(|row| (row.category.as_str(), row.draft_position, row.reached, row.accepted)).collect();
        assert_eq!(counts, [("x", 1, 3, 3), ("x", 2, 3, 3), ("y", 1, 6, 4), ("y", 2, 4, 1)]);
        assert_eq!(rows[3].alpha, Some(0.25));
    }

    #[test]
    fn a_sampled_text_is_predicted_by_its_chances() {
        let timing = Timing::of(&costs(), false).unwrap();
        let chance = |position: u64, draft_position: u64, acceptance_probability: f32| DraftTraceRow {
            prompt: "a".into(),
            drafter: "self".into(),
            position,
            draft_position,
            acceptance_probability,
        };
        let chances = [chance(0, 1, 0.5), chance(0, 2, 0.25), chance(1, 1, 1.0), chance(1, 2, 0.5)];
        let predicted = |chances: &[DraftTraceRow]| {
            predictions(&timing, &gather_traces(&trace("a", &[0, 1]), Some(chances), &[])?, &[], &BTreeMap::new(), &[2])
        };
        // 1.5 rounds of 2 + 12 ms for two tokens: the replay's own case by hand.
        let row = &predicted(&chances).unwrap()[0];
        assert!((row.replay_tok_per_s.unwrap() - 2000.0 / (1.5 * 14.0)).abs() < 1e-9);
        assert_eq!((row.positions, row.first_accepted), (2, 1));
        let refused = |chances: &[DraftTraceRow]| format!("{:#}", predicted(chances).unwrap_err());
        assert!(refused(&chances[1..]).contains("position 0: draft_position must run from 1"));
        assert!(refused(&chances[..2]).contains("position 1: chances [] cannot be those of"));
    }

    #[test]
    fn what_is_missing_or_mixed_is_named() {
        let refused = |rows: Vec<CostRow>| Timing::of(&rows, false).unwrap_err().to_string();
        assert!(refused(vec![]).contains("no valid time of the target"));
        assert!(refused(costs()[1..].to_vec()).contains("no pipelined time of width 1"));
        assert!(refused(costs()[..1].to_vec()).contains("no synchronous times"));
        let mixed = CostRow { context: 512, ..costs()[2].clone() };
        assert!(refused([costs(), vec![mixed]].concat()).contains("mixes"));
        let timing = Timing::of(&costs(), false).unwrap();
        let other: Vec<_> = trace("a", &[0]).into_iter().map(|row| TraceRow { drafter: "x".into(), ..row }).collect();
        let traced = gather_traces(&other, None, &[]).unwrap();
        assert!(
            predictions(&timing, &traced, &[], &BTreeMap::new(), &[0])
                .unwrap_err()
                .to_string()
                .contains("no time of drafter 'x'")
        );
        let mut gap = trace("a", &[0, 1]);
        gap[1].position = 2;
        assert!(gather_traces(&gap, None, &[]).unwrap_err().to_string().contains("position 2"));
    }

    #[test]
    fn invalid_and_failed_samples_do_not_count() {
        let invalid = CostRow { invalid: true, time_ms: Some(0.001), ..costs()[1].clone() };
        let failed = CostRow { time_ms: None, error: "no memory".into(), ..costs()[1].clone() };
        let timing = Timing::of(&[costs(), vec![invalid, failed]].concat(), false).unwrap();
        assert_eq!(timing.target.at(1), Some(0.01));
    }
}
