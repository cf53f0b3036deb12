//! Timed runs in randomised complete blocks: on each prompt plain decoding first and last, all other arms between in
//! seeded random order.

use crate::analysis::Arm;
use crate::decode::sampling::Sampling;
use crate::decode::{Request, Run, plain, speculative};
use crate::draft::Drafter;
use crate::model::transformer::{Logits, Transformer};
use crate::results::Control;
use anyhow::{Context, Result};
use mlx_rs::{Array, Dtype};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::BTreeMap;

/// Drafters by the name that results use.
pub type Drafters = BTreeMap<String, Box<dyn Drafter>>;

/// The arms of one block in the order in which they are run. The order depends on `seed` and `block` alone.
pub fn block(arms: &[Arm], seed: u64, block: u64) -> Vec<(Arm, Control)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(block);
    let mut between: Vec<Arm> = arms.iter().filter(|arm| arm.draft_length > 0).cloned().collect();
    between.shuffle(&mut rng);
    let first = (Arm::plain(), Control::First);
    let last = (Arm::plain(), Control::Last);
    let between = between.into_iter().map(|arm| (arm, Control::No));
    std::iter::once(first).chain(between).chain([last]).collect()
}

/// One run of one arm: greedy, exactly `max_tokens` tokens, the end of the text ignored.
pub fn run_arm(
    model: &Transformer,
    drafters: &mut Drafters,
    arm: &Arm,
    prompt: &[u32],
    max_tokens: usize,
) -> Result<Run> {
    let request = Request { prompt, max_tokens, sampling: Sampling::GREEDY, seed: 0, end_ids: &[] };
    if arm.draft_length == 0 {
        return plain::decode(model, &request, &mut |_| ());
    }
    let drafter = drafters.get_mut(&arm.drafter).with_context(|| format!("there is no drafter '{}'", arm.drafter))?;
    speculative::decode(model, drafter.as_mut(), arm.draft_length as usize, &request, &mut |_| ())
}

/// Where two texts part, if they do.
pub fn first_divergence(plain: &[u32], other: &[u32]) -> Option<usize> {
    plain.iter().zip(other).position(|(a, b)| a != b)
}

/// The gap between the two largest logits of plain decoding behind `text`.
pub fn logit_margin(model: &Transformer, text: &[u32]) -> Result<f32> {
    let mut cache = model.new_cache();
    crate::decode::prefill(model, &mut cache, text)?;
    let last = Array::from_slice(&text[text.len() - 1..], &[1, 1]);
    let logits = model.forward(&last, &mut cache, Logits::Last)?.as_dtype(Dtype::Float32)?;
    logits.eval()?;
    let (mut best, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for &logit in logits.try_as_slice::<f32>()? {
        if logit > best {
            (best, second) = (logit, best);
        } else if logit > second {
            second = logit;
        }
    }
    Ok(best - second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arms() -> Vec<Arm> {
        let draft = |draft_length| Arm { drafter: "d".into(), draft_length };
        vec![Arm::plain(), draft(1), draft(2), draft(3), draft(4)]
    }

    #[test]
    fn a_block_runs_every_arm_once_between_two_controls() {
        for number in 0..20 {
            let order = block(&arms(), 7, number);
            assert_eq!(order.len(), 6);
            assert_eq!((&order[0], &order[5]), (&(Arm::plain(), Control::First), &(Arm::plain(), Control::Last)));
            let mut lengths: Vec<_> = order[1..5].iter().map(|(arm, _)| arm.draft_length).collect();
            lengths.sort_unstable();
            assert_eq!(lengths, [1, 2, 3, 4]);
            assert_eq!(order, block(&arms(), 7, number));
        }
    }

    #[test]
    fn orders_differ_between_blocks() {
        let orders: std::collections::BTreeSet<Vec<u64>> =
            (0..20).map(|n| block(&arms(), 7, n).iter().map(|(arm, _)| arm.draft_length).collect()).collect();
        assert!(orders.len() > 5, "{orders:?}");
    }

    #[test]
    fn divergence_is_the_first_difference() {
        assert_eq!(first_divergence(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(first_divergence(&[1, 2, 3], &[1, 5, 6]), Some(1));
    }
}
