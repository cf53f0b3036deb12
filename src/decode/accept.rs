//! Which drafted tokens are committed, and the one token that the target adds. Everything here is lazy: nothing is
//! evaluated, nothing travels to the host.
//!
//! Shapes are for one sequence; leading axes, where given, are independent sequences.

use anyhow::{Result, ensure};
use mlx_rs::ops::indexing::argmax_axis;
use mlx_rs::ops::{arange, broadcast_to, concatenate, maximum, minimum, select, split_at_indices, zeros_dtype};
use mlx_rs::{Array, Dtype, random};

use crate::decode::sampling::{draw, one_hot};

/// What a round commits.
pub struct Accepted {
    /// Drafted tokens accepted, 0..=γ: int32, a scalar for one sequence.
    pub count: Array,
    /// `[γ+1]` uint32, of which the first `count + 1` are committed: the accepted drafts, then the target's own token.
    pub tokens: Array,
}

/// Greedy acceptance: drafts are kept while they equal the target's argmax, and its next argmax follows.
///
/// `draft_tokens` is `[γ]`, `target_logits` is `[γ+1, V]`: row j follows the first j drafts.
pub fn greedy(draft_tokens: &Array, target_logits: &Array) -> Result<Accepted> {
    let draft_length = draft_length(draft_tokens, target_logits)?;
    let tokens = argmax_axis(target_logits, -1, false)?;
    let predicted = split_at_indices(&tokens, &[draft_length], -1)?.swap_remove(0);
    Ok(Accepted { count: leading(&predicted.eq(draft_tokens)?)?, tokens })
}

/// Rejection sampling: the committed tokens have the target's distribution, whatever the drafter's is (Leviathan,
/// Kalman and Matias 2023, "Fast Inference from Transformers via Speculative Decoding", algorithm 1; Chen et al. 2023,
/// "Accelerating Large Language Model Decoding with Speculative Sampling", algorithm 2).
///
/// A draft x is accepted with probability min(1, p(x)/q(x)). The first one rejected is replaced by a draw from the
/// normalised residual max(0, p - q); after γ acceptances a draw from p follows. Where p = q throughout, the residual
/// is empty and rejection impossible up to rounding: p then takes its place.
///
/// `draft_tokens` is `[γ]`, drawn from `draft_probabilities` `[γ, V]`; `None` is a drafter that leaves nothing to chance
/// (q is 1 at its token). `target_probabilities` is `[γ+1, V]`: row j follows the first j drafts.
pub fn rejection(
    draft_tokens: &Array,
    draft_probabilities: Option<&Array>,
    target_probabilities: &Array,
    key: &Array,
) -> Result<Accepted> {
    let draft_length = draft_length(draft_tokens, target_probabilities)?;
    let (coin_key, draw_key) = random::split(key, 2)?;
    let chances = acceptance_probabilities(draft_tokens, draft_probabilities, target_probabilities)?;
    let coins = random::uniform::<_, f32>(0f32, 1f32, chances.shape(), &coin_key)?;
    let count = leading(&coins.lt(&chances)?)?;

    let drafts = with_sentinel(draft_tokens)?;
    let position = count.expand_dims(-1)?;
    let target_row = row(target_probabilities, &position)?;
    let draft_row = match draft_probabilities {
        Some(probabilities) if draft_length > 0 => {
            let rejected = position.lt(Array::from_int(draft_length))?.expand_dims(-1)?;
            let last = minimum(&position, Array::from_int(draft_length - 1))?;
            row(probabilities, &last)?.multiply(rejected)?
        }
        _ => {
            let token = drafts.take_along_axis(&position, -1)?.expand_dims(-1)?;
            one_hot(&token, target_probabilities.dim(-1))?
        }
    };
    let own_token = draw(&residual(&target_row, &draft_row)?, &draw_key)?;
    let accepted = arange::<_, i32>(None, draft_length + 1, None)?.lt(&position)?;
    Ok(Accepted { count, tokens: select(accepted, drafts, own_token)? })
}

/// The chance `[γ]` float32 with which each draft is accepted once it is reached: min(1, p(x)/q(x)).
///
/// Arguments as of [`rejection`].
pub fn acceptance_probabilities(
    draft_tokens: &Array,
    draft_probabilities: Option<&Array>,
    target_probabilities: &Array,
) -> Result<Array> {
    let draft_length = draft_length(draft_tokens, target_probabilities)?;
    let token = draft_tokens.expand_dims(-1)?;
    let target = split_at_indices(target_probabilities, &[draft_length], -2)?.swap_remove(0);
    let p = target.take_along_axis(&token, -1)?.squeeze_axes(&[-1])?;
    let Some(probabilities) = draft_probabilities else { return Ok(p) };
    ensure!(
        probabilities.shape() == target.shape(),
        "draft probabilities have shape {:?}, the target's rows for them {:?}",
        probabilities.shape(),
        target.shape()
    );
    let q = probabilities.take_along_axis(&token, -1)?.squeeze_axes(&[-1])?;
    Ok(minimum(p.divide(q)?, Array::from_f32(1.0))?)
}

/// max(0, p - q), or p where that is zero everywhere. Not normalised.
fn residual(target_row: &Array, draft_row: &Array) -> Result<Array> {
    let excess = maximum(target_row.subtract(draft_row)?, Array::from_f32(0.0))?;
    let mass = excess.sum_axis(-1, true)?;
    Ok(select(mass.gt(Array::from_f32(0.0))?, excess, target_row)?)
}

/// How many lead before the first false: `[γ]` bool to an int32 scalar.
fn leading(accepted: &Array) -> Result<Array> {
    if accepted.dim(-1) == 0 {
        let shape = accepted.shape();
        return Ok(zeros_dtype(&shape[..shape.len() - 1], Dtype::Int32)?);
    }
    Ok(accepted.as_type::<i32>()?.cumprod(-1, None, None)?.sum_axis(-1, false)?)
}

/// `[γ]` drafts to `[γ+1]`, with a last id that is no token.
fn with_sentinel(draft_tokens: &Array) -> Result<Array> {
    let mut shape = draft_tokens.shape().to_vec();
    *shape.last_mut().expect("drafts have an axis") = 1;
    let sentinel = broadcast_to(Array::from_slice(&[u32::MAX], &[1]), &shape)?;
    Ok(concatenate(&[draft_tokens.as_type::<u32>()?, sentinel], -1)?)
}

/// Row `position` `[1]` of `[n, V]`, as `[1, V]`.
fn row(rows: &Array, position: &Array) -> Result<Array> {
    Ok(rows.take_along_axis(position.expand_dims(-1)?, -2)?)
}

/// γ, after checking that the target has a row more than there are drafts.
fn draft_length(draft_tokens: &Array, target: &Array) -> Result<i32> {
    let (drafts, rows) = (draft_tokens.shape(), target.shape());
    ensure!(
        !drafts.is_empty()
            && rows.len() == drafts.len() + 1
            && rows[..drafts.len() - 1] == drafts[..drafts.len() - 1]
            && rows[drafts.len() - 1] == drafts[drafts.len() - 1] + 1,
        "drafted tokens of shape {drafts:?} need one row more of the target than there are drafts, it has shape {rows:?}"
    );
    Ok(drafts[drafts.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlx_rs::random::key;

    fn tokens(ids: &[u32]) -> Array {
        Array::from_slice(ids, &[ids.len() as i32])
    }

    /// Rows that put all mass on one token each, over four tokens.
    fn certain(ids: &[u32]) -> Array {
        one_hot(&tokens(ids).expand_dims(-1).unwrap(), 4).unwrap()
    }

    fn committed(accepted: &Accepted) -> Vec<u32> {
        assert_eq!(accepted.count.dtype(), Dtype::Int32);
        assert_eq!(accepted.count.shape(), &[] as &[i32]);
        let count = accepted.count.item_exact::<i32>() as usize;
        accepted.tokens.to_vec_exact::<u32>().unwrap()[..=count].to_vec()
    }

    /// (drafts, the target's choice after each prefix of them, committed)
    const CASES: [(&[u32], &[u32], &[u32]); 6] = [
        (&[], &[3], &[3]),
        (&[1], &[1, 2], &[1, 2]),
        (&[1], &[2, 3], &[2]),
        (&[0, 1, 2], &[0, 1, 2, 3], &[0, 1, 2, 3]),
        (&[0, 1, 2], &[0, 3, 2, 1], &[0, 3]),
        (&[0, 1, 2], &[3, 1, 2, 0], &[3]),
    ];

    #[test]
    fn greedy_keeps_the_matching_start_and_adds_the_correction() {
        for (drafts, choices, expected) in CASES {
            assert_eq!(committed(&greedy(&tokens(drafts), &certain(choices)).unwrap()), expected);
        }
    }

    #[test]
    fn rejection_of_a_certain_target_is_greedy() {
        for (drafts, choices, expected) in CASES {
            let draft_rows = certain(drafts);
            for probabilities in [None, Some(&draft_rows)] {
                let accepted = rejection(&tokens(drafts), probabilities, &certain(choices), &key(1).unwrap()).unwrap();
                assert_eq!(committed(&accepted), expected);
            }
        }
    }

    #[test]
    fn equal_distributions_accept_everything() {
        let p = Array::from_slice(&[0.1f32, 0.2, 0.3, 0.4, 0.7, 0.1, 0.1, 0.1, 0.0, 0.0, 0.5, 0.5], &[3, 4]);
        let q = split_at_indices(&p, &[2], 0).unwrap().swap_remove(0);
        for seed in 0..50 {
            let accepted = rejection(&tokens(&[3, 1]), Some(&q), &p, &key(seed).unwrap()).unwrap();
            let committed = committed(&accepted);
            assert_eq!(committed[..2], [3, 1]);
            assert!(committed[2] >= 2);
        }
    }

    #[test]
    fn an_empty_residual_gives_way_to_the_target() {
        let p = Array::from_slice(&[0.25f32, 0.75], &[1, 2]);
        assert_eq!(residual(&p, &p).unwrap().to_vec_exact::<f32>().unwrap(), [0.25, 0.75]);
        let q = Array::from_slice(&[0.5f32, 0.5], &[1, 2]);
        assert_eq!(residual(&p, &q).unwrap().to_vec_exact::<f32>().unwrap(), [0.0, 0.25]);
    }

    #[test]
    fn a_draft_that_the_target_excludes_is_never_kept_nor_drawn() {
        let p = Array::from_slice(&[0.0f32, 0.5, 0.5, 0.0], &[1, 4]);
        let p = concatenate(&[&p, &p], 0).unwrap();
        for seed in 0..50 {
            let accepted = rejection(&tokens(&[3]), None, &p, &key(seed).unwrap()).unwrap();
            assert!(matches!(committed(&accepted)[..], [1 | 2]));
        }
    }

    #[test]
    fn leading_axes_are_independent_sequences() {
        let drafts = Array::from_slice(&[0u32, 1, 2, 1], &[2, 2]);
        let rows = certain(&[0, 1, 2, 3, 1, 2]).reshape(&[2, 3, 4]).unwrap();
        for accepted in [greedy(&drafts, &rows).unwrap(), rejection(&drafts, None, &rows, &key(3).unwrap()).unwrap()] {
            assert_eq!(accepted.count.to_vec_exact::<i32>().unwrap(), [2, 0]);
            let tokens = accepted.tokens.to_vec_exact::<u32>().unwrap();
            assert_eq!((&tokens[..3], tokens[3]), (&[0, 1, 2][..], 3));
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert!(greedy(&tokens(&[1, 2]), &certain(&[1, 2])).is_err());
        assert!(rejection(&tokens(&[1]), Some(&certain(&[1, 2])), &certain(&[1, 2]), &key(0).unwrap()).is_err());
    }
}
