//! What a drafter is trained towards: the target's own next-token distribution.
//!
//! At each position the drafter's head gives logits s over the ids that it can propose, the target's head logits z over
//! all ids. The weights t of the cross-entropy Σ t_i (logsumexp s - s_i) are a mix: (1 - w) times the target's probability
//! exp(z_i - logsumexp z), which leaves out the mass beyond the drafter's head, and w (`hard_weight`) at the target's most
//! probable id if the head has it. Greedy verification accepts exactly that id, so w moves capacity towards what counts;
//! the distribution says more in each token and keeps the drafter useful at temperatures above 0.

use mlx_rs::error::Result;
use mlx_rs::ops::indexing::{TryIndexOp, argmax_axis};
use mlx_rs::ops::{concatenate, logsumexp_axis};
use mlx_rs::{Array, Dtype};

/// Rows of target logits over the whole vocabulary that lie in memory at a time.
const ROWS: i32 = 2048;

/// The matrices of the heads, float32 whatever the rest is computed in: logits of 20 have a spacing of 0.1 in bfloat16.
#[derive(Debug, Clone, Copy)]
pub struct HeadRows<'a> {
    /// The target's, `[vocab, hidden]`.
    pub all: &'a Array,
    /// Those that the drafter has, `[n, hidden]`.
    pub draft: &'a Array,
    /// Their ids, `[n]` uint32.
    pub draft_ids: &'a Array,
}

/// What the target says, for `rows` positions.
#[derive(Debug, Clone)]
pub struct Targets {
    /// t, `[rows, n]` float32.
    pub weights: Array,
    /// The target's most probable id, `[rows]` uint32.
    pub tokens: Array,
}

/// Targets from the target's normed hidden states, `[rows, hidden]`.
pub fn targets(hidden: &Array, heads: HeadRows, hard_weight: f32) -> Result<Targets> {
    let (mut weights, mut tokens) = (Vec::new(), Vec::new());
    for first in (0..hidden.dim(0)).step_by(ROWS as usize) {
        let end = (first + ROWS).min(hidden.dim(0));
        let chunk = hidden.try_index((first..end, ..))?.as_dtype(Dtype::Float32)?;
        let logits = chunk.matmul(heads.all.t())?;
        let best = argmax_axis(&logits, -1, true)?;
        let log_mass = logsumexp_axis(&logits, -1, true)?;
        let probabilities = chunk.matmul(heads.draft.t())?.subtract(log_mass)?.exp()?;
        let hard = best.eq(heads.draft_ids)?.as_dtype(Dtype::Float32)?;
        let soft = probabilities.multiply(Array::from_f32(1.0 - hard_weight))?;
        weights.push(soft.add(hard.multiply(Array::from_f32(hard_weight))?)?);
        tokens.push(best.reshape(&[-1])?);
    }
    Ok(Targets { weights: concatenate(&weights, 0)?, tokens: concatenate(&tokens, 0)? })
}

/// The drafter's logits over its head, `[rows, n]` float32, from its normed hidden states `[rows, hidden]`.
pub fn logits(hidden: &Array, heads: HeadRows) -> Result<Array> {
    hidden.as_dtype(Dtype::Float32)?.matmul(heads.draft.t())
}

/// The sum of the cross-entropies, in nats, of the positions that count (`counted`, `[rows]` float32 of 0 and 1), over
/// `positions`, a scalar.
pub fn cross_entropy(logits: &Array, weights: &Array, counted: &Array, positions: &Array) -> Result<Array> {
    let mass = weights.sum_axis(-1, false)?;
    let rows =
        mass.multiply(logsumexp_axis(logits, -1, false)?)?.subtract(weights.multiply(logits)?.sum_axis(-1, false)?)?;
    rows.multiply(counted)?.sum(false)?.divide(positions)
}
