//! A feature-conditioned drafter in training: several passes, in which it learns to live on its own features.
//!
//! Such a drafter reads at position t the token there and the target's last hidden state of position t - 1 (EAGLE, Li et
//! al. 2024). Of a round's drafts only the first has that: the others have the drafter's own hidden state in its place. So
//! pass n (from 0) reads at every t what the (n + 1)-th draft of a round that began at t - n reads: the hidden state that
//! pass n - 1 gave at t - 1, and keys and values of pass 0 up to t - n, of pass 1 at t - n + 1, ..., of pass n at t itself.
//! (EAGLE-3, Li et al. 2025, trains this way.) No fused attention has that pattern, so it is composed: one masked product
//! with pass 0, and one product a later pass with that pass shifted along the positions.

use super::decoder::{Heads, Weighted};
use mlx_rs::error::Result;
use mlx_rs::fast::{ScaledDotProductAttentionMask, scaled_dot_product_attention};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::{concatenate, expand_dims, select, softmax_axis, zeros_dtype};
use mlx_rs::{Array, Dtype};

/// The drafter's normed hidden states of each of `passes` passes, `[batch, b, hidden]`. `embedded`: its tokens;
/// `target_hidden`: the target's normed hidden states at the same positions.
pub fn hidden(
    drafter: Weighted,
    layers: i32,
    embedded: &Array,
    target_hidden: &Array,
    passes: usize,
) -> Result<Vec<Array>> {
    let mut held: Vec<Vec<Heads>> = vec![Vec::new(); layers as usize];
    let mut all: Vec<Array> = Vec::with_capacity(passes);
    for _ in 0..passes {
        let before = shifted(all.last().unwrap_or(target_hidden), 1, 1)?;
        let mut x = drafter.conditioned(embedded, &before)?;
        for (layer, held) in held.iter_mut().enumerate() {
            held.push(drafter.heads(layer as i32, &x)?);
            let y = attention(held, drafter.scale())?;
            x = drafter.after_attention(layer as i32, &x, &y)?;
        }
        all.push(drafter.norm(super::decoder::NORM, &x)?);
    }
    Ok(all)
}

/// `x` moved `by` positions back along `axis`, zeros before it.
pub fn shifted(x: &Array, axis: usize, by: i32) -> Result<Array> {
    if by == 0 {
        return Ok(x.clone());
    }
    let mut shape = x.shape().to_vec();
    let kept = shape[axis] - by;
    shape[axis] = by;
    let kept = match axis {
        1 => x.try_index((.., ..kept))?,
        _ => x.try_index((.., .., ..kept))?,
    };
    concatenate(&[zeros_dtype(&shape, x.dtype())?, kept], axis as i32)
}

/// Attention of the last of `passes`, whose heads and those of the passes before it are given.
fn attention(passes: &[Heads], scale: f32) -> Result<Array> {
    let last = passes.len() - 1;
    let (queries, first) = (&passes[last].queries, &passes[0]);
    if last == 0 {
        let mask = Some(ScaledDotProductAttentionMask::Causal);
        return scaled_dot_product_attention(queries, &first.keys, &first.values, scale, mask, None);
    }
    // Query heads of one key head side by side: [batch, kv heads, queries of each, b, head_dim].
    let (shape, kv_heads) = (queries.shape().to_vec(), first.keys.dim(1));
    let (batch, width, head_dim) = (shape[0], shape[2], shape[3]);
    let queries = queries.multiply(Array::from_f32(scale).as_dtype(queries.dtype())?)?;
    let queries = queries.reshape(&[batch, kv_heads, -1, width, head_dim])?;
    let spread = |x: &Array| expand_dims(x, 2);
    let mut scores = vec![masked(&queries.matmul(spread(&first.keys)?.swap_axes(-1, -2)?)?, last as i32)?];
    let shifts = (1..=last).map(|pass| (last - pass) as i32);
    for (pass, by) in passes[1..].iter().zip(shifts.clone()) {
        let keys = spread(&shifted(&pass.keys, 2, by)?)?;
        scores.push(queries.multiply(keys)?.sum_axis(-1, true)?);
    }
    let scores = concatenate(&scores, -1)?.as_dtype(Dtype::Float32)?;
    let shares = softmax_axis(&scores, -1, true)?.as_dtype(queries.dtype())?;
    let mut y = shares.try_index((.., .., .., .., ..width))?.matmul(spread(&first.values)?)?;
    for (place, (pass, by)) in passes[1..].iter().zip(shifts).enumerate() {
        let at = width + place as i32;
        let share = shares.try_index((.., .., .., .., at..at + 1))?;
        y = y.add(share.multiply(spread(&shifted(&pass.values, 2, by)?)?)?)?;
    }
    y.reshape(&shape)
}

/// Scores of which position t keeps those up to t - `behind`; the first rows, which no round has, keep the first.
fn masked(scores: &Array, behind: i32) -> Result<Array> {
    let width = scores.dim(-1);
    let place = |shape: &[i32]| mlx_rs::ops::arange::<_, i32>(None, width, None)?.reshape(shape);
    let newest = mlx_rs::ops::maximum(place(&[width, 1])?.subtract(Array::from_int(behind))?, Array::from_int(0))?;
    let kept = place(&[1, width])?.le(newest)?;
    select(&kept, scores, Array::from_f32(-1e9).as_dtype(scores.dtype())?)
}
