//! Randomised complete blocks: on each prompt plain decoding first and last, all other arms between in seeded random order.

use crate::analysis::Arm;
use crate::results::Control;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

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
}
