//! The one sentence that a person can act on.

use crate::analysis::{Choice, Why};
use crate::stats::bootstrap::Estimate;

/// Which draft length, how much faster than plain decoding with what interval, and why; or why there is no answer.
/// `why` speaks of [`Choice::notable_length`].
pub fn sentence(choice: &Choice, why: Option<Why>) -> String {
    match choice.decision.recommended {
        Some(0) => no_draft(choice, why),
        Some(length) => draft(choice, u64::from(length), why),
        None => undecided(choice),
    }
}

fn draft(choice: &Choice, length: u64, why: Option<Why>) -> String {
    let drafter = &choice.drafter;
    let tokens = if length == 1 { "token" } else { "tokens" };
    let speed = match (&choice.confirmation, choice.versus_plain(length)) {
        (Some(confirmed), _) if confirmed.draft_length == length => {
            let Estimate { value, low, high, confidence, .. } = confirmed.speedup;
            let prompts = confirmed.prompts;
            let speed = speedup(value, low, high, confidence);
            format!("{speed}, confirmed on {prompts} prompts that had no part in the choice")
        }
        (_, Some(arm)) => {
            let speed = speedup(arm.speedup, arm.low, arm.high, choice.decision.confidence);
            format!("{speed} on the {} prompts it was chosen on, not confirmed", choice.decision.prompts)
        }
        _ => "plain decoding was not timed".to_string(),
    };
    format!(
        "Draft {length} {tokens} a round with {drafter}: {speed}{}{}.",
        because(why, "yields"),
        rivals(choice, length)
    )
}

fn no_draft(choice: &Choice, why: Option<Why>) -> String {
    let drafter = &choice.drafter;
    let Some(best) = choice.fastest_draft() else {
        return format!("Decode plainly: no draft length of {drafter} was timed.");
    };
    let because = if best.speedup < 1.0 { because(why, "yields only") } else { String::new() };
    let speed = speedup(best.speedup, best.low, best.high, choice.decision.confidence);
    format!(
        "Do not draft with {drafter}: no draft length timed is shown to beat plain decoding on {} prompts (the fastest, γ={}, is \
         {speed}, Holm-adjusted p = {}){because}.",
        choice.decision.prompts,
        best.draft_length,
        p_value(best.p_holm)
    )
}

fn undecided(choice: &Choice) -> String {
    let decision = &choice.decision;
    let more = match decision.more_prompts {
        Some(more) => format!("about {more} more prompts would decide"),
        None => "how many more prompts would decide cannot be said".to_string(),
    };
    format!(
        "Undecided for {}: on {} prompts no draft length is shown to lose less than {} to the best (it may be γ={}); {more}.",
        choice.drafter,
        decision.prompts,
        percent(decision.margin),
        list(&decision.confidence_set)
    )
}

/// `1.420 times as fast as plain decoding (95 % interval 1.310 to 1.532)`.
fn speedup(value: f64, low: Option<f64>, high: Option<f64>, confidence: f64) -> String {
    let interval = match (low, high) {
        (Some(low), Some(high)) => format!("{} interval {low:.3} to {high:.3}", percent(confidence)),
        _ => "too few prompts or no spread for an interval".to_string(),
    };
    format!("{value:.3} times as fast as plain decoding ({interval})")
}

fn rivals(choice: &Choice, length: u64) -> String {
    let set = choice.decision.confidence_set.iter().copied();
    let others: Vec<u32> = set.filter(|other| u64::from(*other) != length).collect();
    if others.is_empty() { String::new() } else { format!("; the fastest may also be γ={}", list(&others)) }
}

fn because(why: Option<Why>, yields: &str) -> String {
    let Some(Why { tau, verification, proposal }) = why else { return String::new() };
    format!(
        ", because a round {yields} {tau:.2} tokens for the time of {:.2} plain ones (verification {verification:.2}, drafting {proposal:.2})",
        verification + proposal
    )
}

pub(super) fn list(lengths: &[u32]) -> String {
    lengths.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// A share in per cent, without needless digits.
pub(super) fn percent(share: f64) -> String {
    let rounded = (share * 1e4).round() / 1e2;
    format!("{rounded} %")
}

pub(super) fn p_value(p: f64) -> String {
    if p < 0.001 { "less than 0.001".to_string() } else { format!("{p:.3}") }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{choice, estimate};
    use super::*;
    use crate::analysis::Confirmation;
    use crate::stats::decision::VersusPlain;

    const WHY: Why = Why { tau: 1.9, verification: 1.12, proposal: 0.03 };

    #[test]
    fn a_confirmed_length_is_the_headline() {
        let confirmation =
            Confirmation { prompts: 16, draft_length: 2, speedup: estimate(1.42, 1.31, 1.53), neighbours: vec![] };
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
        let another =
            Confirmation { prompts: 16, draft_length: 4, speedup: estimate(9.0, 9.0, 9.0), neighbours: vec![] };
        let choice = Choice { confirmation: Some(another), ..choice(Some(2)) };
        let text = sentence(&choice, None);
        assert!(text.contains("1.500 times") && text.contains("24 prompts it was chosen on, not confirmed"), "{text}");
    }

    #[test]
    fn plain_decoding_is_recommended_with_the_reason() {
        let mut choice = choice(Some(0));
        choice.decision.versus_plain.truncate(1);
        choice.decision.versus_plain[0] =
            VersusPlain { draft_length: 2, speedup: 0.82, low: Some(0.8), high: Some(0.84), p_holm: 1.0 };
        assert_eq!(
            sentence(&choice, Some(Why { tau: 1.1, verification: 1.2, proposal: 0.14 })),
            "Do not draft with lookup: no draft length timed is shown to beat plain decoding on 24 prompts (the fastest, γ=2, is \
             0.820 times as fast as plain decoding (95 % interval 0.800 to 0.840), Holm-adjusted p = 1.000), because a round \
             yields only 1.10 tokens for the time of 1.34 plain ones (verification 1.20, drafting 0.14)."
        );
        choice.decision.versus_plain.clear();
        assert_eq!(sentence(&choice, None), "Decode plainly: no draft length of lookup was timed.");
    }

    #[test]
    fn no_answer_says_what_would_give_one() {
        let mut choice = choice(None);
        choice.decision.more_prompts = Some(30);
        assert_eq!(
            sentence(&choice, Some(WHY)),
            "Undecided for lookup: on 24 prompts no draft length is shown to lose less than 2 % to the best (it may be γ=2, 4); \
             about 30 more prompts would decide."
        );
    }
}
