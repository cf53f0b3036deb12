//! The draft length that carried costs and a given acceptance make the fastest.

use super::carry::Carrier;
use super::fit::{median_of, resample};
use super::source::{CostFolder, Samples, SourceCurve};
use crate::results::PredictedLengthRow;
use crate::roofline::{Acceptance, CostCurve, Costs, Decomposition, Replay, Trace, expected_tokens, replay};
use crate::scenario::MAX_WIDTH;
use crate::stats::summary::quantile;
use anyhow::{Context, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Resampled passes behind an interval, for each way to take times apart.
const DRAWS: usize = 200;
/// A loss that does not matter, as the scenarios' own default.
const MARGIN: f64 = 0.02;

/// What is accepted of a draft.
#[derive(Debug, Clone)]
pub enum Accepted {
    /// Every token with this chance, independently; with the expected tokens of a round by draft length.
    Iid { alpha: f64, tokens: Vec<f64> },
    /// What a traced pair did.
    Traced { name: String, alpha: Option<f64>, longest: usize, replays: Vec<Replay> },
}

impl Accepted {
    /// With the same chance everywhere.
    pub fn iid(alpha: f64) -> Accepted {
        Accepted::Iid { alpha, tokens: (0..MAX_WIDTH).map(|length| expected_tokens(alpha, length)).collect() }
    }

    /// The replays of all draft lengths that the traces have.
    pub fn traced(name: String, traces: &[Trace]) -> Result<Accepted> {
        let longest = traces.iter().map(Trace::draft_length_max).min().context("there is no trace")?;
        let mut replays = Vec::new();
        for length in 0..=longest {
            let mut sum = Replay::default();
            for trace in traces {
                sum.add(&replay(trace, length)?);
            }
            replays.push(sum);
        }
        Ok(Accepted::Traced { name, alpha: Acceptance::of(traces).alpha(), longest, replays })
    }

    fn name(&self) -> &str {
        match self {
            Accepted::Iid { .. } => "alpha",
            Accepted::Traced { name, .. } => name,
        }
    }

    fn alpha(&self) -> Option<f64> {
        match self {
            Accepted::Iid { alpha, .. } => Some(*alpha),
            Accepted::Traced { alpha, .. } => *alpha,
        }
    }

    /// Seconds a committed token at this draft length; none where a time is not known.
    fn token_s(&self, costs: &Costs, length: usize) -> Option<f64> {
        match self {
            _ if length == 0 => Some(costs.plain_s),
            Accepted::Iid { tokens, .. } => Some(costs.round_s(length, length)? / tokens.get(length)?),
            Accepted::Traced { replays, .. } => {
                let replay = replays.get(length)?;
                Some(costs.replayed_s(replay, length)? / replay.tokens as f64)
            }
        }
    }

    /// The same if verification took what a plain step does, as in theorem 3.8 of Leviathan, Kalman and Matias 2023.
    fn free_token_s(&self, costs: &Costs, length: usize) -> Option<f64> {
        let round_s = costs.draft.at(length)? + costs.plain_s;
        match self {
            Accepted::Iid { tokens, .. } => Some(round_s / tokens.get(length)?),
            Accepted::Traced { replays, .. } => {
                replays.get(length).map(|replay| round_s * replay.rounds / replay.tokens as f64)
            }
        }
    }
}

/// What a drafted token costs.
#[derive(Debug, Clone, PartialEq)]
pub enum Price {
    /// A measured drafter of the folder.
    Drafter(String),
    /// So many plain steps.
    PlainSteps(f64),
}

/// Medians of a curve's shapes on the machine that is predicted: of all passes, or of drawn ones.
struct World {
    plain_s: f64,
    target: CostCurve,
    drafts: BTreeMap<String, CostCurve>,
}

impl World {
    /// None where plain decoding or every width is unknown.
    fn of(curve: &SourceCurve, carrier: Option<&Carrier>, by: &Decomposition, passes: Option<&[u64]>) -> Option<World> {
        let time = |samples: &Samples| {
            let time_s = match passes {
                Some(passes) => median_of(samples, passes)?,
                None => samples.median_s(),
            };
            match carrier {
                Some(carrier) => carrier.carry(by, time_s, samples),
                None => Some(time_s),
            }
        };
        let times = |shapes: &BTreeMap<u64, Samples>| {
            let known = shapes.iter().filter_map(|(width, samples)| Some((*width as usize, time(samples)?)));
            CostCurve::from_samples(known).ok()
        };
        let drafts = curve.drafters.iter().filter_map(|(name, shapes)| Some((name.clone(), times(shapes)?)));
        Some(World { plain_s: time(curve.plain.as_ref()?)?, target: times(&curve.forwards)?, drafts: drafts.collect() })
    }

    /// What rounds at this price are made of.
    fn costs(&self, price: &Price) -> Option<Costs> {
        let World { plain_s, target, .. } = self;
        let draft = match price {
            Price::Drafter(name) => self.drafts.get(name)?.clone(),
            Price::PlainSteps(steps) => {
                let widest = target.points().last()?.0;
                // A proposal takes some time, however cheap it is.
                let proposals = (1..widest.max(2)).map(|length| (length, (length as f64 * steps * plain_s).max(1e-12)));
                CostCurve::from_samples(proposals).ok()?
            }
        };
        Some(Costs { plain_s: *plain_s, draft, target: target.clone(), overlap_s: 0.0, pad: false })
    }
}

/// Seconds a token by draft length, from 0 on; infinite where it is not known.
fn by_length(accepted: &Accepted, costs: &Costs) -> Vec<f64> {
    let widest = costs.target.points().last().map_or(1, |point| point.0);
    let longest = match accepted {
        Accepted::Iid { .. } => widest - 1,
        Accepted::Traced { longest, .. } => *longest,
    };
    (0..=longest).map(|length| accepted.token_s(costs, length).unwrap_or(f64::INFINITY)).collect()
}

/// The first of the smallest.
fn fastest(costs: &[f64]) -> usize {
    (0..costs.len()).min_by(|&a, &b| costs[a].total_cmp(&costs[b]).then(a.cmp(&b))).unwrap_or(0)
}

/// One row for each acceptance and price; nothing for a curve without pipelined plain decoding.
pub fn lengths(
    folder: &CostFolder,
    curve: &SourceCurve,
    carrier: &Carrier,
    other: Option<&SourceCurve>,
    accepted: &[Accepted],
    prices: &[f64],
    seed: u64,
) -> Result<Vec<PredictedLengthRow>> {
    let point = carrier.fit.point();
    let Some(world) = World::of(curve, Some(carrier), &point, None) else { return Ok(Vec::new()) };
    let worlds = drawn_worlds(folder, curve, carrier, seed);
    let measured = other.and_then(|other| World::of(other, None, &point, None));
    let measured_drafters = curve.drafters.keys().cloned().map(Price::Drafter);
    let prices: Vec<Price> = prices.iter().copied().map(Price::PlainSteps).chain(measured_drafters).collect();
    let mut rows = Vec::new();
    for accepted in accepted {
        for price in &prices {
            let Some(costs) = world.costs(price) else { continue };
            let token_s = by_length(accepted, &costs);
            let best = fastest(&token_s);
            let loss = |length: usize| token_s[length] / token_s[best] - 1.0;
            let free: Vec<f64> = (0..token_s.len())
                .map(|length| match length {
                    0 => costs.plain_s,
                    // A length whose cost is not known cannot be advised.
                    _ if token_s[length].is_infinite() => f64::INFINITY,
                    _ => accepted.free_token_s(&costs, length).unwrap_or(f64::INFINITY),
                })
                .collect();
            let textbook = fastest(&free);
            let sure = sureness(&worlds, accepted, price, best, folder.confidence)?;
            let there = measured.as_ref().and_then(|world| Some(by_length(accepted, &world.costs(price)?)));
            let regret = |costs: &Vec<f64>| {
                let predicted = costs.get(best).filter(|cost| cost.is_finite())?;
                Some(predicted / costs[fastest(costs)] - 1.0)
            };
            rows.push(PredictedLengthRow {
                source: folder.folder.clone(),
                machine: carrier.there.name.clone(),
                target: curve.target.clone(),
                precision: curve.precision.clone(),
                context: curve.context,
                batch: curve.batch,
                acceptance: accepted.name().to_string(),
                alpha: accepted.alpha(),
                drafter: if let Price::Drafter(name) = price { name.clone() } else { String::new() },
                draft_cost: if let Price::PlainSteps(steps) = price { Some(*steps) } else { None },
                draft_length: best as u64,
                speedup: token_s[0] / token_s[best],
                speedup_low: sure.as_ref().map(|sure| sure.low),
                speedup_high: sure.as_ref().map(|sure| sure.high),
                shortest_good: (0..=best).find(|&length| loss(length) < MARGIN).unwrap_or(best) as u64,
                margin: MARGIN,
                may_be_best: sure.map(|sure| ranges(&sure.may_be_best)).unwrap_or_default(),
                textbook_length: textbook as u64,
                textbook_loss: loss(textbook),
                measured_length: there.as_ref().map(|costs| fastest(costs) as u64),
                regret: there.as_ref().and_then(regret),
                confidence: folder.confidence,
            });
        }
    }
    Ok(rows)
}

/// Worlds of drawn passes, one list for each way to take times apart; none where passes are too few for an interval.
fn drawn_worlds(folder: &CostFolder, curve: &SourceCurve, carrier: &Carrier, seed: u64) -> Vec<Vec<World>> {
    let plain = curve.plain.as_ref().and_then(|plain| plain.interval_s(folder.confidence));
    if plain.is_none() || curve.scatter_factor.is_some() {
        return Vec::new();
    }
    let extremes = if carrier.is_home() { vec![carrier.fit.point()] } else { carrier.fit.extremes() };
    let passes = curve.passes();
    let draw = |by: &Decomposition| {
        // The same draws for each, so that only the decomposition differs.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let drawn = (0..DRAWS).map(|_| resample(&passes, &mut rng));
        drawn.filter_map(|passes| World::of(curve, Some(carrier), by, Some(&passes))).collect()
    };
    extremes.iter().map(draw).collect()
}

struct Sure {
    low: f64,
    high: f64,
    may_be_best: Vec<usize>,
}

/// Over all ways to take times apart: the interval of the length's speed-up, and the lengths that, one at a time, are not
/// shown to be slower than it.
fn sureness(
    worlds: &[Vec<World>],
    accepted: &Accepted,
    price: &Price,
    best: usize,
    confidence: f64,
) -> Result<Option<Sure>> {
    let mut sure: Option<Sure> = None;
    for worlds in worlds {
        let drawn: Vec<Vec<f64>> =
            worlds.iter().filter_map(|world| Some(by_length(accepted, &world.costs(price)?))).collect();
        let known = drawn.iter().all(|costs| costs.get(best).is_some_and(|cost| cost.is_finite()));
        if drawn.is_empty() || !known {
            continue;
        }
        let speedups: Vec<f64> = drawn.iter().map(|costs| costs[0] / costs[best]).collect();
        let tail = (1.0 - confidence) / 2.0;
        let (low, high) = (quantile(&speedups, tail)?, quantile(&speedups, 1.0 - tail)?);
        let lengths = drawn.iter().map(Vec::len).min().unwrap_or(0);
        let as_fast = |length: &usize| {
            let wins = drawn.iter().filter(|costs| costs[*length] <= costs[best]).count();
            wins as f64 > (1.0 - confidence) * drawn.len() as f64
        };
        let found: Vec<usize> = (0..lengths).filter(as_fast).collect();
        let sure = sure.get_or_insert(Sure { low, high, may_be_best: Vec::new() });
        (sure.low, sure.high) = (sure.low.min(low), sure.high.max(high));
        sure.may_be_best.extend(found);
    }
    Ok(sure.map(|mut sure| {
        sure.may_be_best.sort_unstable();
        sure.may_be_best.dedup();
        sure
    }))
}

/// `3-5 8`.
fn ranges(lengths: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &length in lengths {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == length => *last = length,
            _ => parts.push((length, length)),
        }
    }
    let text = |&(from, to): &(usize, usize)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    parts.iter().map(text).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_ranges() {
        assert_eq!(ranges(&[3, 4, 5, 8, 10, 11]), "3-5 8 10-11");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn a_token_costs_a_round_over_what_it_commits() {
        let target = CostCurve::from_samples([(1, 10.0), (2, 11.0), (3, 15.0)]).unwrap();
        let world = World { plain_s: 9.0, target, drafts: BTreeMap::new() };
        let costs = world.costs(&Price::PlainSteps(0.1)).unwrap();
        // α = 0.5: 1.5 and 1.75 tokens a round.
        let found = by_length(&Accepted::iid(0.5), &costs);
        let expected = [9.0, (0.9 + 11.0) / 1.5, (1.8 + 15.0) / 1.75];
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-9), "{found:?}");
        assert_eq!(fastest(&found), 1);
        assert!((Accepted::iid(0.5).free_token_s(&costs, 2).unwrap() - (1.8 + 9.0) / 1.75).abs() < 1e-9);
        assert!(world.costs(&Price::Drafter("none".into())).is_none());
    }
}
