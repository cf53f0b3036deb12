//! The bound on every rule that adapts the draft length: it knows in advance how much of a draft will match.

use super::predict::Costs;
use super::replay::Trace;

/// The least seconds for a trace's tokens if the draft length of each round is chosen, from 0 to γ_max, in knowledge of
/// every match length to come: the shortest path over positions. A round without a draft costs what is least, a synchronous
/// forward or a pipelined step, as a rule may well decode plainly for a while. Draft lengths whose width has no known time
/// are left out.
pub fn oracle(trace: &Trace, costs: &Costs) -> f64 {
    shortest(trace.tokens(), trace.draft_length_max(), costs, |position, draft_length| {
        let draft = trace.draft(position, draft_length);
        Some((costs.round_s(draft_length, draft.drafted)?, draft.matched))
    })
}

/// The same for rounds given by position and draft length: their seconds, if known, and how many tokens match.
pub(super) fn shortest(
    budget: usize,
    longest: usize,
    costs: &Costs,
    round: impl Fn(usize, usize) -> Option<(f64, usize)>,
) -> f64 {
    let step_s = costs.verify_s(1).map_or(costs.plain_s, |step_s| step_s.min(costs.plain_s));
    let mut least = vec![f64::INFINITY; budget + 1];
    least[budget] = 0.0;
    for position in (0..budget).rev() {
        least[position] = step_s + least[position + 1];
        for draft_length in 1..=longest {
            let Some((round_s, matched)) = round(position, draft_length) else { continue };
            let next = (position + matched + 1).min(budget);
            least[position] = least[position].min(round_s + least[next]);
        }
    }
    least[0]
}
