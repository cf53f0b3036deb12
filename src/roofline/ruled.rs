//! Exact replay of stopping rules, and the cost-aware rule fitted on traces.
//!
//! A rule that looks at confidences sees also what is drafted beyond the first mismatch, so its trace holds every token
//! that could be drafted at every position. The replay asks the rule as the live drafter does.

use super::calibration::{Calibration, Outcome};
use super::cost_aware::CostAware;
use super::oracle::shortest;
use super::predict::Costs;
use super::replay::{Draft, Replay, Trace};
use super::stop::{Seen, Source, StopRule, Stopper};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All tokens that a drafter would propose at one position.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenDraft {
    pub source: Source,
    pub seen: Vec<Seen>,
    /// How many of them, from the first on, equal the committed text.
    pub matched: usize,
}

/// One prompt's trace, a draft for each position, as [`Trace`] with what a rule sees.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenTrace {
    drafts: Vec<TokenDraft>,
    lengths: Trace,
}

impl TokenTrace {
    /// # Errors
    /// As of [`Trace::new`].
    pub fn new(drafts: Vec<TokenDraft>, draft_length_max: usize) -> Result<TokenTrace> {
        let lengths = drafts.iter().map(|draft| Draft { drafted: draft.seen.len(), matched: draft.matched });
        Ok(TokenTrace { lengths: Trace::new(lengths.collect(), draft_length_max)?, drafts })
    }

    pub fn lengths(&self) -> &Trace {
        &self.lengths
    }

    pub fn tokens(&self) -> usize {
        self.drafts.len()
    }

    /// What became of each token that was reached.
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        self.drafts.iter().flat_map(|draft| {
            let reached = draft.seen.iter().take(draft.matched + 1).enumerate();
            reached.map(|(place, seen)| Outcome {
                source: draft.source,
                place,
                confidence: seen.confidence,
                accepted: place < draft.matched,
            })
        })
    }
}

/// What a run under a rule does. Sums of several prompts are kept in the same form.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RuledReplay {
    /// Committed tokens.
    pub tokens: u64,
    pub rounds: u64,
    /// Draft tokens verified.
    pub drafted: u64,
    /// Draft tokens accepted, those included that the token budget then cut off.
    pub accepted: u64,
    /// Tokens of last rounds that the budget cut off.
    pub cut_off: u64,
    /// Rounds by distributions computed by a model and tokens verified. A lookup computes none.
    pub rounds_by_work: BTreeMap<(usize, usize), u64>,
}

impl RuledReplay {
    /// Adds another prompt's counts.
    pub fn add(&mut self, other: &RuledReplay) {
        self.tokens += other.tokens;
        self.rounds += other.rounds;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
        self.cut_off += other.cut_off;
        for (work, count) in &other.rounds_by_work {
            *self.rounds_by_work.entry(*work).or_default() += count;
        }
    }

    /// Its counts as those of a replay without a rule.
    pub fn counts(&self) -> Replay {
        Replay {
            tokens: self.tokens,
            rounds: self.rounds as f64,
            drafted: self.drafted as f64,
            accepted: self.accepted as f64,
            cut_off: self.cut_off as f64,
            ..Replay::default()
        }
    }

    /// Seconds of all proposals; none where a time is unknown.
    pub fn proposals_s(&self, costs: &Costs) -> Option<f64> {
        let proposals = self.rounds_by_work.iter();
        proposals.map(|(&(computed, _), &count)| Some(count as f64 * costs.proposal_s(computed)?)).sum()
    }

    /// Seconds of all rounds; none where a time is unknown.
    pub fn seconds(&self, costs: &Costs) -> Option<f64> {
        let round_s =
            |computed: usize, drafted: usize| Some(costs.proposal_s(computed)? + costs.verify_s(drafted + 1)?);
        self.rounds_by_work
            .iter()
            .map(|(&(computed, drafted), &count)| Some(count as f64 * round_s(computed, drafted)?))
            .sum()
    }
}

/// One round of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuledRound {
    /// Distributions computed by a model.
    pub computed: usize,
    /// Tokens verified.
    pub drafted: usize,
    pub accepted: usize,
}

/// Replays one prompt up to the trace's token budget with drafts of up to γ tokens, cut by the rule if there is one.
///
/// # Errors
/// If γ is longer than the drafts of the trace.
pub fn replay_ruled(trace: &TokenTrace, draft_length: usize, rule: Option<&StopRule>) -> Result<RuledReplay> {
    let mut result = RuledReplay { tokens: trace.tokens() as u64, ..RuledReplay::default() };
    for round in rounds_ruled(trace, draft_length, rule)? {
        result.rounds += 1;
        result.drafted += round.drafted as u64;
        result.accepted += round.accepted as u64;
        *result.rounds_by_work.entry((round.computed, round.drafted)).or_default() += 1;
    }
    result.cut_off = result.rounds + result.accepted - result.tokens;
    Ok(result)
}

/// The same, round by round.
///
/// # Errors
/// As of [`replay_ruled`].
pub fn rounds_ruled(trace: &TokenTrace, draft_length: usize, rule: Option<&StopRule>) -> Result<Vec<RuledRound>> {
    let longest = trace.lengths.draft_length_max();
    if draft_length > longest {
        bail!("draft length {draft_length} cannot be replayed from a trace of {longest}");
    }
    // Each source has a memory of its own.
    let mut stoppers = [Source::Model, Source::Lookup].map(|_| Stopper::new(rule.cloned()));
    let (mut rounds, mut position) = (Vec::new(), 0);
    while position < trace.tokens() {
        let draft = &trace.drafts[position];
        let stopper = &mut stoppers[draft.source as usize];
        let (computed, drafted) = cut(draft, stopper, position, draft_length);
        let accepted = draft.matched.min(drafted);
        position += accepted + 1;
        stopper.settle(position);
        rounds.push(RuledRound { computed, drafted, accepted });
    }
    Ok(rounds)
}

/// Distributions computed and tokens kept of a draft.
fn cut(draft: &TokenDraft, stopper: &mut Stopper, position: usize, draft_length: usize) -> (usize, usize) {
    stopper.round(position, draft_length);
    if draft.source == Source::Lookup {
        let confidences: Vec<f64> = draft.seen.iter().map(|seen| seen.confidence).collect();
        return (0, stopper.cut(&confidences));
    }
    let mut computed = 0;
    while stopper.wants() && computed < draft.seen.len() {
        computed += 1;
        if !stopper.keeps(draft.seen[computed - 1]) {
            break;
        }
    }
    (computed, stopper.kept())
}

/// Sums the replays of several prompts.
pub fn replay_all(traces: &[TokenTrace], draft_length: usize, rule: Option<&StopRule>) -> Result<RuledReplay> {
    let mut sum = RuledReplay::default();
    for trace in traces {
        sum.add(&replay_ruled(trace, draft_length, rule)?);
    }
    Ok(sum)
}

/// The cost-aware rule for drafts of up to γ tokens, on the traces it is to be used on or on others like them: confidences
/// are calibrated on them, and the rate r at which it is optimal is the one that it then reaches. r starts at that of plain
/// decoding and is replaced by what the replay reaches (Dinkelbach's iteration) as long as that grows.
///
/// # Errors
/// As of [`replay_ruled`].
pub fn fit_rule(traces: &[TokenTrace], draft_length: usize, costs: &Costs) -> Result<CostAware> {
    let calibration = Calibration::fit(traces.iter().flat_map(TokenTrace::outcomes));
    let mut best: Option<(f64, CostAware)> = None;
    let mut rate = costs.plain_s.recip();
    for _ in 0..MOST_ITERATIONS {
        let rule = CostAware::solve(calibration.clone(), rate, draft_length, costs);
        let replayed = replay_all(traces, draft_length, Some(&StopRule::CostAware(Arc::new(rule.clone()))))?;
        let Some(seconds) = replayed.seconds(costs) else { break };
        let reached = replayed.tokens as f64 / seconds;
        if best.as_ref().is_some_and(|(most, _)| reached <= *most) {
            break;
        }
        best = Some((reached, rule));
        rate = reached;
    }
    Ok(best.map_or_else(|| CostAware::solve(calibration, rate, draft_length, costs), |(_, rule)| rule))
}

/// Dinkelbach's iteration converges faster than linearly.
const MOST_ITERATIONS: usize = 20;

/// The bound on every rule for a trace of several sources: seconds if each round's length is chosen in knowledge of every
/// match to come. As [`oracle`](super::oracle()), but a lookup's proposal is free.
pub fn oracle_ruled(trace: &TokenTrace, costs: &Costs) -> f64 {
    shortest(trace.tokens(), trace.lengths.draft_length_max(), costs, |position, length| {
        let draft = &trace.drafts[position];
        let drafted = draft.seen.len().min(length);
        let computed = if draft.source == Source::Lookup { 0 } else { length };
        Some((costs.proposal_s(computed)? + costs.verify_s(drafted + 1)?, draft.matched.min(length)))
    })
}
