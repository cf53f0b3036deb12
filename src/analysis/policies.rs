//! Rules that end drafts early: gathered from the raw files, fitted, and compared with static lengths and the oracle.

use super::gather::Arm;
use super::predictions::{Timing, Traced};
use crate::results::{
    CalibrationRow, DraftTokenRow, PolicyRow, PredictionRow, StopRuleRow, StopThresholdRow, TraceRow,
};
use crate::roofline::{
    Costs, RuledReplay, Seen, Source, StopRule, TokenDraft, TokenTrace, fit_rule, oracle_ruled, replay_all,
    replay_ruled,
};
use crate::stats::bootstrap::{Options, bca};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Parts that the tuning prompts are split into: a rule is fitted on all but one and replayed on that one.
const FOLDS: usize = 4;

/// A drafter whose draft tokens were traced, with its rule if it has one.
#[derive(Debug, Clone)]
pub struct Policy {
    pub row: StopRuleRow,
    /// Whether the traced texts were sampled.
    pub sampled: bool,
    /// By tuning prompt.
    pub traces: BTreeMap<String, TokenTrace>,
}

impl Policy {
    pub fn drafter(&self) -> &str {
        &self.row.drafter
    }

    /// Its rule for drafts of up to γ tokens, fitted on `traces` if there is something to fit; none if it has none.
    ///
    /// # Errors
    /// If `stop_rules.csv` names no rule or lacks a number.
    pub fn rule(&self, traces: &[TokenTrace], draft_length: usize, costs: &Costs) -> Result<Option<StopRule>> {
        let StopRuleRow { drafter, rule, threshold, weight, memory, .. } = &self.row;
        let number = |column: &str, value: &Option<f64>| {
            value.with_context(|| format!("stop_rules.csv: {drafter}: {column} is missing; mend or delete the file"))
        };
        Ok(Some(match rule.as_str() {
            "" => return Ok(None),
            "p-min" => StopRule::PMin { threshold: number("threshold", threshold)? },
            "entropy" => {
                StopRule::Entropy { weight: number("weight", weight)?, threshold: number("threshold", threshold)? }
            }
            "acceptance-average" => StopRule::AcceptanceAverage { memory: number("memory", memory)? },
            "cost-aware" => StopRule::CostAware(Arc::new(fit_rule(traces, draft_length, costs)?)),
            other => bail!("stop_rules.csv: {drafter}: there is no rule '{other}'; it was written by another version"),
        }))
    }

    pub fn all_traces(&self) -> Vec<TokenTrace> {
        self.traces.values().cloned().collect()
    }
}

/// The drafters of `stop_rules.csv` with the traces of the tuning prompts, `whole` ones alone. Of `sampled` texts the tokens are
/// greedy drafts, which serve to fit a rule and not to replay it.
///
/// # Errors
/// If `draft_tokens.csv` does not have the tokens that `trace.csv` says were drafted.
pub fn gather_policies(
    rules: &[StopRuleRow],
    whole: &[Traced],
    traces: &[TraceRow],
    tokens: &[DraftTokenRow],
    sampled: bool,
) -> Result<Vec<Policy>> {
    let mut drafted: HashMap<(&str, &str, u64), Vec<&DraftTokenRow>> = HashMap::new();
    for row in tokens {
        drafted.entry((&row.drafter, &row.prompt, row.position)).or_default().push(row);
    }
    let mut policies = Vec::new();
    for rule in rules {
        let Some(whole) = whole.iter().find(|traced| traced.drafter == rule.drafter) else { continue };
        let mut prompts: BTreeMap<&str, Vec<&TraceRow>> = BTreeMap::new();
        let is_whole = |row: &&TraceRow| row.drafter == rule.drafter && whole.traces.contains_key(&row.prompt);
        for row in traces.iter().filter(is_whole) {
            prompts.entry(&row.prompt).or_default().push(row);
        }
        let mut policy = Policy { row: rule.clone(), sampled, traces: BTreeMap::new() };
        for (prompt, mut rows) in prompts {
            rows.sort_by_key(|row| row.position);
            let draft = |row: &&TraceRow| {
                let tokens = drafted.get(&(rule.drafter.as_str(), prompt, row.position)).map_or(&[][..], |rows| rows);
                token_draft(row, tokens, sampled)
            };
            let drafts = rows.iter().map(draft).collect::<Result<_>>()?;
            policy.traces.insert(prompt.to_string(), TokenTrace::new(drafts, rows[0].draft_length_max as usize)?);
        }
        if !policy.traces.is_empty() {
            policies.push(policy);
        }
    }
    Ok(policies)
}

fn token_draft(row: &TraceRow, tokens: &[&DraftTokenRow], sampled: bool) -> Result<TokenDraft> {
    let mut tokens = tokens.to_vec();
    tokens.sort_by_key(|token| token.draft_position);
    let matched = tokens.iter().take_while(|token| token.matches).count() as u64;
    if !sampled && (tokens.len() as u64, matched) != (row.drafted, row.matched) {
        bail!(
            "draft_tokens.csv: prompt {}, drafter {}, position {}: has {} tokens, {matched} of which match, where trace.csv has {} and {}; trace it again",
            row.prompt,
            row.drafter,
            row.position,
            tokens.len(),
            row.drafted,
            row.matched
        );
    }
    let lookup = tokens.first().is_some_and(|token| token.source == source_name(Source::Lookup));
    let seen = tokens.iter().map(|token| Seen { confidence: token.confidence, entropy: token.entropy });
    Ok(TokenDraft {
        source: if lookup { Source::Lookup } else { Source::Model },
        seen: seen.collect(),
        matched: matched as usize,
    })
}

/// As the files spell it.
pub fn source_name(source: Source) -> &'static str {
    match source {
        Source::Model => "model",
        Source::Lookup => "lookup",
    }
}

/// The rule of every arm that has one, fitted on all tuning prompts.
pub fn fitted_rules(policies: &[Policy], timing: &Timing, draft_lengths: &[usize]) -> Result<BTreeMap<Arm, StopRule>> {
    let mut rules = BTreeMap::new();
    for policy in policies {
        let costs = timing.costs(policy.drafter())?;
        for length in policy.lengths(draft_lengths) {
            if let Some(rule) = policy.rule(&policy.all_traces(), length, &costs)? {
                rules.insert(Arm { drafter: policy.drafter().to_string(), draft_length: length as u64 }, rule);
            }
        }
    }
    Ok(rules)
}

/// What the cost-aware rules were fitted to and how they came out.
pub fn fitted_rows(rules: &BTreeMap<Arm, StopRule>) -> (Vec<CalibrationRow>, Vec<StopThresholdRow>) {
    let (mut calibrations, mut thresholds) = (Vec::new(), Vec::new());
    let mut calibrated = None;
    for (Arm { drafter, draft_length }, rule) in rules {
        let StopRule::CostAware(rule) = rule else { continue };
        // All lengths of a drafter share their calibration.
        if calibrated.replace(drafter) != Some(drafter) {
            calibrations.extend(rule.calibration().groups().flat_map(|(source, place, bins)| {
                bins.iter().map(move |bin| CalibrationRow {
                    drafter: drafter.clone(),
                    source: source_name(source).to_string(),
                    draft_position: place as u64 + 1,
                    confidence_from: bin.from,
                    reached: bin.reached,
                    accepted: bin.accepted,
                    chance: bin.chance(),
                })
            }));
        }
        thresholds.extend(rule.thresholds().enumerate().map(|(kept, (computes_from, keeps_from))| StopThresholdRow {
            drafter: drafter.clone(),
            draft_length: *draft_length,
            rate_tok_per_s: rule.rate(),
            kept: kept as u64,
            computes_from,
            keeps_from,
        }));
    }
    (calibrations, thresholds)
}

/// Every rule at every draft length beside the best static length and the oracle. Lengths with an unknown time are left out.
pub fn policy_rows(
    policies: &[Policy],
    timing: &Timing,
    draft_lengths: &[usize],
    options: &Options,
) -> Result<Vec<PolicyRow>> {
    let mut rows = Vec::new();
    for policy in policies.iter().filter(|policy| !policy.row.rule.is_empty()) {
        let costs = timing.costs(policy.drafter())?;
        // Without a rule nothing is evaluated between the tokens of a draft.
        let without_rule = timing.costs(&policy.row.without_rule).unwrap_or_else(|_| costs.clone());
        let lengths = policy.lengths(draft_lengths);
        let traces = policy.all_traces();
        let mut statics = vec![(0, traces.iter().map(|trace| trace.tokens() as f64 * costs.plain_s).collect())];
        for &length in &lengths {
            if let Some(seconds) = static_s(&traces, length, &without_rule)? {
                statics.push((length, seconds));
            }
        }
        let oracle: Vec<f64> = traces.iter().map(|trace| oracle_ruled(trace, &without_rule)).collect();
        for &length in &lengths {
            let rows_of = policy.row_at(length, &traces, &costs, &statics, &oracle, options)?;
            rows.extend(rows_of);
        }
    }
    Ok(rows)
}

/// Seconds of every prompt with drafts of γ tokens; none if a time is unknown.
fn static_s(traces: &[TokenTrace], length: usize, costs: &Costs) -> Result<Option<Vec<f64>>> {
    let seconds = |trace: &TokenTrace| Ok(replay_ruled(trace, length, None)?.seconds(costs));
    traces.iter().map(seconds).collect()
}

impl Policy {
    /// Draft lengths that its traces reach.
    fn lengths(&self, draft_lengths: &[usize]) -> Vec<usize> {
        let longest = self.traces.values().map(|trace| trace.lengths().draft_length_max()).min().unwrap_or(0);
        draft_lengths.iter().copied().filter(|length| (1..=longest).contains(length)).collect()
    }

    fn row_at(
        &self,
        length: usize,
        traces: &[TokenTrace],
        costs: &Costs,
        statics: &[(usize, Vec<f64>)],
        oracle: &[f64],
        options: &Options,
    ) -> Result<Option<PolicyRow>> {
        let Some((ruled, counts)) = self.cross_fitted(length, traces, costs)? else { return Ok(None) };
        let tokens: usize = traces.iter().map(TokenTrace::tokens).sum();
        let sum = |seconds: &[f64], prompts: &[usize]| prompts.iter().map(|&prompt| seconds[prompt]).sum::<f64>();
        let all: Vec<usize> = (0..traces.len()).collect();
        let best = |prompts: &[usize]| {
            let totals = statics.iter().map(|(length, seconds)| (*length, sum(seconds, prompts)));
            totals.min_by(|a, b| a.1.total_cmp(&b.1)).expect("plain decoding is there")
        };
        let share = |prompts: &[usize]| {
            let static_s = best(prompts).1;
            let most = static_s - sum(oracle, prompts);
            // A resample in which the oracle saves nothing has nothing to share.
            if most > 1e-9 * static_s { (static_s - sum(&ruled, prompts)) / most } else { 0.0 }
        };
        let (static_draft_length, static_s) = best(&all);
        let oracle_s = sum(oracle, &all);
        let saves = oracle_s < static_s * (1.0 - 1e-9);
        let estimate = if saves { Some(bca(traces.len(), share, options)?) } else { None };
        let rate = |seconds: f64| tokens as f64 / seconds;
        // With few prompts the ends of a bootstrap interval mean little.
        let interval = estimate.as_ref().filter(|_| traces.len() >= FEWEST_PROMPTS);
        Ok(Some(PolicyRow {
            drafter: self.row.drafter.clone(),
            rule: self.row.rule.clone(),
            draft_length: length as u64,
            prompts: traces.len() as u64,
            plain_tok_per_s: costs.plain_s.recip(),
            static_draft_length: static_draft_length as u64,
            static_tok_per_s: rate(static_s),
            rule_tok_per_s: rate(sum(&ruled, &all)),
            oracle_tok_per_s: rate(oracle_s),
            share: estimate.as_ref().map(|estimate| estimate.value),
            share_low: interval.and_then(|estimate| estimate.low),
            share_high: interval.and_then(|estimate| estimate.high),
            confidence: options.confidence,
            tau: counts.tokens as f64 / counts.rounds as f64,
            drafted: counts.drafted,
            accepted: counts.accepted,
        }))
    }

    /// Counts and seconds of an arm on some of its prompts; none if one was not traced or a time is unknown.
    pub(super) fn replayed(
        &self,
        prompts: &[String],
        arm: &Arm,
        rules: &BTreeMap<Arm, StopRule>,
        costs: &Costs,
    ) -> Result<Option<(RuledReplay, f64)>> {
        let mut sum = RuledReplay::default();
        if self.sampled {
            return Ok(None);
        }
        for prompt in prompts {
            let Some(trace) = self.traces.get(prompt) else { return Ok(None) };
            sum.add(&replay_ruled(trace, arm.draft_length as usize, rules.get(arm))?);
        }
        Ok(sum.seconds(costs).map(|seconds| (sum, seconds)))
    }

    /// Replaces what was predicted without a rule, and what a formula without one says.
    pub(super) fn predict(
        &self,
        row: &mut PredictionRow,
        rules: &BTreeMap<Arm, StopRule>,
        costs: &Costs,
    ) -> Result<()> {
        if self.sampled {
            (row.textbook_tok_per_s, row.iid_tok_per_s, row.replay_tok_per_s, row.oracle_tok_per_s) =
                (None, None, None, None);
            return Ok(());
        }
        let traces = self.all_traces();
        let tokens: usize = traces.iter().map(TokenTrace::tokens).sum();
        let oracle_s: f64 = traces.iter().map(|trace| oracle_ruled(trace, costs)).sum();
        row.oracle_tok_per_s = Some(tokens as f64 / oracle_s);
        if row.draft_length > 0 {
            let arm = Arm { drafter: row.drafter.clone(), draft_length: row.draft_length };
            let replayed = replay_all(&traces, row.draft_length as usize, rules.get(&arm))?;
            row.tau = replayed.tokens as f64 / replayed.rounds as f64;
            row.replay_tok_per_s = replayed.seconds(costs).map(|seconds| replayed.tokens as f64 / seconds);
            (row.textbook_tok_per_s, row.iid_tok_per_s) = (None, None);
        }
        Ok(())
    }

    /// Seconds of every prompt under the rule as fitted on the other parts, and the counts over all; none if a time is
    /// unknown or there are too few prompts to leave some out.
    fn cross_fitted(
        &self,
        length: usize,
        traces: &[TokenTrace],
        costs: &Costs,
    ) -> Result<Option<(Vec<f64>, RuledReplay)>> {
        let folds = FOLDS.min(traces.len());
        if folds < 2 {
            return Ok(None);
        }
        let mut seconds = vec![0.0; traces.len()];
        let mut counts = RuledReplay::default();
        for fold in 0..folds {
            let others: Vec<TokenTrace> =
                traces.iter().enumerate().filter(|(place, _)| place % folds != fold).map(|one| one.1.clone()).collect();
            let rule = self.rule(&others, length, costs)?;
            for place in (fold..traces.len()).step_by(folds) {
                let replayed = replay_ruled(&traces[place], length, rule.as_ref())?;
                let Some(time) = replayed.seconds(costs) else { return Ok(None) };
                seconds[place] = time;
                counts.add(&replayed);
            }
        }
        Ok(Some((seconds, counts)))
    }
}

/// Below this number of prompts no interval is given.
const FEWEST_PROMPTS: usize = 6;
