//! The one sentence that a person can act on.

use crate::decision::Choice;
use crate::stats::bootstrap::Estimate;

/// What explains a speed-up or its absence, at the length spoken of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Why {
    /// Committed tokens a round.
    pub tau: f64,
    /// t(γ+1) over T_AR: what a verification costs in plain tokens.
    pub verification: f64,
    /// The proposal's time over T_AR.
    pub proposal: f64,
}

/// Which draft length, how much faster than plain decoding with what interval, and why; or why there is no answer.
/// `why` speaks of the recommended length, or of the fastest one if none is recommended over plain decoding.
pub fn sentence(choice: &Choice, why: Option<Why>) -> String {
    match choice.recommended {
        Some(0) => no_draft(choice, why),
        Some(length) => draft(choice, length, why),
        None => undecided(choice),
    }
}

fn draft(choice: &Choice, length: u64, why: Option<Why>) -> String {
    let drafter = &choice.drafter;
    let tokens = if length == 1 { "token" } else { "tokens" };
    let speed = match &choice.confirmation {
        Some(confirmed) if confirmed.draft_length == length => {
            let prompts = confirmed.prompts;
            let speedup = speedup(&confirmed.speedup, choice.confidence);
            format!("{speedup}, confirmed on {prompts} prompts that had no part in the choice")
        }
        _ => {
            let speedup = choice.arm(length).map(|arm| speedup(&arm.speedup, choice.confidence)).unwrap_or_default();
            format!("{speedup} on the {} prompts it was chosen on, not confirmed", choice.prompts)
        }
    };
    format!(
        "Draft {length} {tokens} a round with {drafter}: {speed}{}{}.",
        because(why, "yields"),
        rivals(choice, length)
    )
}

fn no_draft(choice: &Choice, why: Option<Why>) -> String {
    let Choice { drafter, prompts, .. } = choice;
    let Some(best) = choice.fastest_draft() else {
        return format!("Decode plainly: no draft length of {drafter} was timed.");
    };
    let length = best.arm.draft_length;
    let p = best.p_holm.map(|p| format!(", Holm-adjusted p = {}", p_value(p))).unwrap_or_default();
    let because = if best.speedup.value < 1.0 { because(why, "yields only") } else { String::new() };
    let speedup = speedup(&best.speedup, choice.confidence);
    format!(
        "Do not draft with {drafter}: no draft length timed is shown to beat plain decoding on {prompts} prompts (the fastest, \
         γ={length}, is {speedup}{p}){because}."
    )
}

fn undecided(choice: &Choice) -> String {
    let set = list(&choice.confidence_set());
    let margin = percent(choice.practical_margin);
    let more = match choice.more_prompts {
        Some(more) => format!("about {more} more prompts would decide"),
        None => "more prompts are needed".to_string(),
    };
    format!(
        "Undecided for {}: on {} prompts no draft length is shown to lose less than {margin} to the best (it may be γ={set}); {more}.",
        choice.drafter, choice.prompts
    )
}

/// `1.420 times as fast as plain decoding (95 % interval 1.310 to 1.532)`.
fn speedup(estimate: &Estimate, confidence: f64) -> String {
    let interval = match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => format!("{} interval {low:.3} to {high:.3}", percent(confidence)),
        _ => estimate.caveat.clone().unwrap_or_else(|| "no interval".to_string()),
    };
    format!("{:.3} times as fast as plain decoding ({interval})", estimate.value)
}

fn rivals(choice: &Choice, length: u64) -> String {
    let others: Vec<u64> = choice.confidence_set().into_iter().filter(|other| *other != length).collect();
    if others.is_empty() { String::new() } else { format!("; the fastest may also be γ={}", list(&others)) }
}

fn because(why: Option<Why>, yields: &str) -> String {
    let Some(Why { tau, verification, proposal }) = why else { return String::new() };
    format!(
        ", because a round {yields} {tau:.2} tokens for the time of {:.2} plain ones (verification {verification:.2}, drafting {proposal:.2})",
        verification + proposal
    )
}

fn list(lengths: &[u64]) -> String {
    lengths.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// A share in per cent, without needless digits.
fn percent(share: f64) -> String {
    let rounded = (share * 1e4).round() / 1e2;
    format!("{rounded} %")
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "less than 0.001".to_string() } else { format!("{p:.3}") }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{choice, estimate};
    use super::*;
    use crate::decision::Confirmation;

    const WHY: Why = Why { tau: 1.9, verification: 1.12, proposal: 0.03 };

    #[test]
    fn a_confirmed_length_is_the_headline() {
        let confirmation = Confirmation { prompts: 16, draft_length: 2, speedup: estimate(1.42, 1.31, 1.53) };
        let choice = Choice { confirmation: Some(confirmation), ..choice(Some(2)) };
        assert_eq!(
            sentence(&choice, Some(WHY)),
            "Draft 2 tokens a round with lookup: 1.420 times as fast as plain decoding (95 % interval 1.310 to 1.530), \
             confirmed on 16 prompts that had no part in the choice, because a round yields 1.90 tokens for the time of \
             1.15 plain ones (verification 1.12, drafting 0.03); the fastest may also be γ=4."
        );
    }

    #[test]
    fn an_unconfirmed_length_says_so() {
        let confirmed_another = Confirmation { prompts: 16, draft_length: 4, speedup: estimate(9.0, 9.0, 9.0) };
        let choice = Choice { confirmation: Some(confirmed_another), ..choice(Some(2)) };
        let text = sentence(&choice, None);
        assert!(text.contains("1.500 times") && text.contains("24 prompts it was chosen on, not confirmed"), "{text}");
    }

    #[test]
    fn plain_decoding_is_recommended_with_the_reason() {
        let mut choice = choice(Some(0));
        choice.arms.truncate(2);
        choice.arms[1].speedup = estimate(0.82, 0.8, 0.84);
        choice.arms[1].p_holm = Some(1.0);
        assert_eq!(
            sentence(&choice, Some(Why { tau: 1.1, verification: 1.2, proposal: 0.14 })),
            "Do not draft with lookup: no draft length timed is shown to beat plain decoding on 24 prompts (the fastest, γ=2, is \
             0.820 times as fast as plain decoding (95 % interval 0.800 to 0.840), Holm-adjusted p = 1.000), because a round \
             yields only 1.10 tokens for the time of 1.34 plain ones (verification 1.20, drafting 0.14)."
        );
        choice.arms.truncate(1);
        assert_eq!(sentence(&choice, None), "Decode plainly: no draft length of lookup was timed.");
    }

    #[test]
    fn no_answer_says_what_would_give_one() {
        let choice = Choice { more_prompts: Some(30), ..choice(None) };
        assert_eq!(
            sentence(&choice, Some(WHY)),
            "Undecided for lookup: on 24 prompts no draft length is shown to lose less than 2 % to the best (it may be γ=2, 4); \
             about 30 more prompts would decide."
        );
    }
}
