//! Whether one length is as fast as another, up to the margin that was declared.

use super::gather::Complete;
use crate::stats::equivalence::{Equivalence, tost_ratio};

/// Two lengths of one drafter on the same prompts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Equivalent {
    pub draft_length: u64,
    /// What it is compared with; 0 is plain decoding.
    pub reference: u64,
    /// Largest difference, as a share, that does not matter.
    pub margin: f64,
    /// `p_upper` alone is about 'loses no more than the margin'.
    pub test: Equivalence,
}

/// Compares two timed lengths; none where they are one, where one was not timed, or where nothing differs between prompts.
pub fn equivalent(complete: &Complete, draft_length: u64, reference: u64, margin: f64) -> Option<Equivalent> {
    let seconds = |length: u64| {
        let arm = complete.arms.iter().position(|arm| arm.draft_length == length)?;
        Some(complete.arm_seconds(arm))
    };
    if draft_length == reference {
        return None;
    }
    let test = tost_ratio(&seconds(draft_length)?, &seconds(reference)?, margin).ok()?;
    test.p.is_finite().then_some(Equivalent { draft_length, reference, margin, test })
}
