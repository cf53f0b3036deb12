//! The trace of a drafter that is itself a transformer and drafts greedily, from a few wide forwards.
//!
//! As long as its drafts match the text, such a drafter reads the text: its j-th draft at a position, if the first
//! j - 1 matched, is its first draft j - 1 positions later. So **one** forward over the text gives every match length
//! ([`matches`]). Only what it proposes beyond its first mismatch, which rules that stop by confidence need to know, has
//! a text of its own: [`drafts`] follows it from all positions side by side, one wide forward for each draft.

use anyhow::{Result, ensure};
use mlx_rs::Array;
use mlx_rs::ops::indexing::{TryIndexOp, argmax_axis};
use mlx_rs::transforms::eval;

use super::trace::Match;
use crate::decode::prefill;
use crate::decode::sampling::Sampling;
use crate::draft::model::look;
use crate::model::cache::KvCache;
use crate::model::transformer::{Logits, Transformer};

/// Tokens of one wide forward. Attention over drafts grows with its square.
const ROWS: usize = 64;

/// What a drafter proposes at one position, whether it matches or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Drafts {
    pub tokens: Vec<u32>,
    /// The drafter's own probability of each of them, at temperature 1.
    pub confidences: Vec<f32>,
    /// The entropies of the distributions that they are of, in nats.
    pub entropies: Vec<f32>,
}

/// How far `draft_length` drafts match `text` at each of `positions` positions from `first` on (`first` is at least 1:
/// a drafter needs a token to read). `text` must reach `draft_length` tokens beyond the last position.
pub fn matches(
    drafter: &Transformer,
    text: &[u32],
    first: usize,
    positions: usize,
    draft_length: usize,
) -> Result<Vec<Match>> {
    let end = first + positions + draft_length;
    ensure!(first > 0 && text.len() >= end, "a trace up to token {end} needs a longer text than {}", text.len());
    let mut cache = drafter.new_cache();
    cache.reserve(end as i32);
    prefill(drafter, &mut cache, &text[..first])?;
    let mut hits = Vec::with_capacity(end - first);
    for rows in text[first - 1..end - 1].chunks(ROWS) {
        let Choice { tokens, .. } = read(drafter, &mut cache, rows, None)?;
        eval(cache.arrays().chain([&tokens]))?;
        let text = &text[first + hits.len()..];
        hits.extend(tokens.try_as_slice::<u32>()?.iter().zip(text).map(|(draft, token)| draft == token));
    }
    let matched = |position| hits[position..position + draft_length].iter().take_while(|&&hit| hit).count();
    Ok((0..positions).map(|position| Match { proposed: draft_length, matched: matched(position) }).collect())
}

/// The model's probability, as `sampling` draws, of each of `count` tokens of `text` from `first` on (at least 1), given all
/// before it.
pub fn probabilities(
    model: &Transformer,
    text: &[u32],
    first: usize,
    count: usize,
    sampling: &Sampling,
) -> Result<Vec<f32>> {
    let end = first + count;
    ensure!(first > 0 && text.len() >= end, "probabilities up to token {end} need a longer text than {}", text.len());
    let mut cache = model.new_cache();
    cache.reserve(end as i32);
    prefill(model, &mut cache, &text[..first])?;
    let mut found = Vec::with_capacity(count);
    for (rows, next) in text[first - 1..end - 1].chunks(ROWS).zip(text[first..end].chunks(ROWS)) {
        let input = Array::from_slice(rows, &[1, rows.len() as i32]);
        let logits = model.forward(&input, &mut cache, Logits::All)?.squeeze_axes(&[0])?;
        let next = Array::from_slice(next, &[next.len() as i32, 1]);
        let chosen = model.over_vocabulary(sampling.probabilities(&logits)?)?.take_along_axis(&next, -1)?;
        eval(cache.arrays().chain([&chosen]))?;
        found.extend_from_slice(chosen.try_as_slice::<f32>()?);
    }
    Ok(found)
}

/// All of `draft_length` drafts at each of `positions` positions from `first` on, mismatched ones included.
pub fn drafts(
    drafter: &Transformer,
    text: &[u32],
    first: usize,
    positions: usize,
    draft_length: usize,
) -> Result<Vec<Drafts>> {
    let end = first + positions;
    ensure!(first > 0 && text.len() + 1 >= end, "a trace up to token {end} needs a longer text than {}", text.len());
    let mut cache = drafter.new_cache();
    cache.reserve((end + ROWS * draft_length) as i32);
    prefill(drafter, &mut cache, &text[..first])?;
    let mut all = Vec::with_capacity(positions);
    for rows in text[first - 1..end - 1].chunks(ROWS) {
        all.extend(branch(drafter, &mut cache, rows, None, draft_length)?);
    }
    Ok(all)
}

/// The same of a drafter that reads the target's hidden states: `features` (`[1, n, hidden]`) has for each token of the
/// text that of the position before it. Drafts behind the first of a position come from the drafter's own.
pub fn conditioned_drafts(
    drafter: &Transformer,
    text: &[u32],
    features: &Array,
    first: usize,
    positions: usize,
    draft_length: usize,
) -> Result<Vec<Drafts>> {
    let end = first + positions;
    let known = text.len().min(features.dim(1) as usize);
    ensure!(first > 0 && known + 1 >= end, "a trace up to token {end} needs a longer text than {known}");
    let mut cache = drafter.new_cache();
    cache.reserve((end + ROWS * draft_length) as i32);
    let part = |from: usize, to: usize| features.try_index((.., from as i32..to as i32, ..));
    if first > 1 {
        let tokens = Array::from_slice(&text[..first - 1], &[1, first as i32 - 1]);
        drafter.prefill(&tokens, Some(&part(0, first - 1)?), &mut cache)?;
    }
    let mut all = Vec::with_capacity(positions);
    for rows in text[first - 1..end - 1].chunks(ROWS) {
        let from = first - 1 + all.len();
        let features = part(from, from + rows.len())?;
        all.extend(branch(drafter, &mut cache, rows, Some(&features), draft_length)?);
    }
    Ok(all)
}

/// Reads `rows`, committed tokens, and follows the drafts after each of them. Leaves `cache` behind the last row.
fn branch(
    drafter: &Transformer,
    cache: &mut KvCache,
    rows: &[u32],
    features: Option<&Array>,
    draft_length: usize,
) -> Result<Vec<Drafts>> {
    let first_draft = cache.len() + 1;
    let mut steps: Vec<Choice> = Vec::with_capacity(draft_length);
    for step in 0..draft_length {
        let choice = match steps.last() {
            None => read(drafter, cache, rows, features)?,
            Some(Choice { tokens, hidden, .. }) => {
                let mask = branch_mask(first_draft as usize, rows.len(), step);
                let position = first_draft + step as i32 - 1;
                let (tokens, features) = (tokens.reshape(&[1, -1])?, features.map(|_| hidden));
                Choice::of(drafter, drafter.hidden_branches(&tokens, features, cache, position, &mask)?)?
            }
        };
        steps.push(choice);
    }
    cache.truncate(first_draft - 1 + rows.len() as i32);
    eval(cache.arrays().chain(steps.iter().flat_map(|step| [&step.tokens, &step.confidences, &step.entropies])))?;
    let (mut tokens, mut confidences, mut entropies) = (Vec::new(), Vec::new(), Vec::new());
    for step in &steps {
        tokens.push(step.tokens.try_as_slice::<u32>()?);
        confidences.push(step.confidences.try_as_slice::<f32>()?);
        entropies.push(step.entropies.try_as_slice::<f32>()?);
    }
    let row = |n: usize| Drafts {
        tokens: tokens.iter().map(|step| step[n]).collect(),
        confidences: confidences.iter().map(|step| step[n]).collect(),
        entropies: entropies.iter().map(|step| step[n]).collect(),
    };
    Ok((0..rows.len()).map(row).collect())
}

/// `[rows, held + rows * drafts]` bool. Row n goes on after the first `first + n` of the tokens held, all of which were
/// committed, and sees of the drafts, which lie behind them step by step, those of its own branch.
fn branch_mask(first: usize, rows: usize, drafts: usize) -> Array {
    let held = first - 1 + rows;
    let sees = |row: usize, column: usize| {
        if column < held { column < first + row } else { (column - held) % rows == row }
    };
    let columns = held + rows * drafts;
    let mask: Vec<bool> = (0..rows).flat_map(|row| (0..columns).map(move |column| sees(row, column))).collect();
    Array::from_slice(&mask, &[rows as i32, columns as i32])
}

/// The first draft after each of `rows`, committed tokens that follow those in `cache`.
fn read(drafter: &Transformer, cache: &mut KvCache, rows: &[u32], features: Option<&Array>) -> Result<Choice> {
    let tokens = Array::from_slice(rows, &[1, rows.len() as i32]);
    Choice::of(drafter, drafter.hidden_states(&tokens, features, cache)?)
}

/// A greedy draft for each row.
struct Choice {
    /// `[rows]` uint32
    tokens: Array,
    /// `[rows]` float32
    confidences: Array,
    /// `[rows]` float32
    entropies: Array,
    /// `[1, rows, hidden]`, what they come from
    hidden: Array,
}

impl Choice {
    /// `hidden`: the drafter's normed hidden states, `[1, rows, hidden]`.
    fn of(drafter: &Transformer, hidden: Array) -> Result<Self> {
        let logits = drafter.head(&hidden)?.squeeze_axes(&[0])?;
        let tokens = drafter.token_ids(argmax_axis(&logits, -1, false)?)?;
        let (confidences, entropies) = look(&logits)?;
        Ok(Self { tokens, confidences, entropies, hidden })
    }
}
