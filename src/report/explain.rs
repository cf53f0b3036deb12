//! How a decision came about, in plain words: each step with its numbers.

use super::opinions::{opinions, race};
use super::rounding::significant;
use super::sentence::{list, p_value, percent, sentence};
use crate::analysis::{Choice, Derived, RegimeChoice};
use crate::results::{Design, PredictionRow};
use crate::stats::decision::Verdict;

/// Numbered steps for every drafter of a results folder.
pub fn explain(derived: &Derived) -> String {
    let mut text = String::new();
    for regime in &derived.choices {
        let row = &regime.row;
        text += &format!(
            "{} on {}, drafted by {} ({}, context {}, batch {})\n\n",
            row.target, row.machine, row.drafter, row.precision, row.context, row.batch
        );
        let steps = [traced(derived, regime), cost(regime), predicted(derived, regime), timed(derived, regime)];
        let steps =
            steps.into_iter().chain([compared(regime), against_plain(&regime.choice), rule(regime), confirmed(regime)]);
        for (number, step) in steps.filter(|step| !step.is_empty()).enumerate() {
            text += &format!("{}. {step}\n", number + 1);
        }
        let said: Vec<String> = opinions(&regime.choice);
        said.iter().for_each(|line| text += &format!("   {line}\n"));
        regime.choice.warnings.iter().for_each(|warning| text += &format!("   warning: {warning}\n"));
        text += &format!("\n{}\n\n", sentence(&regime.choice, regime.why));
    }
    if derived.choices.is_empty() {
        text += "Nothing was decided: no draft length has been timed yet.\n";
    }
    derived.warnings.iter().for_each(|warning| text += &format!("warning: {warning}\n"));
    text
}

fn predictions<'a>(derived: &'a Derived, regime: &RegimeChoice) -> Vec<&'a PredictionRow> {
    derived.predictions.iter().filter(|row| row.drafter == regime.choice.drafter).collect()
}

fn traced(derived: &Derived, regime: &RegimeChoice) -> String {
    let rows = predictions(derived, regime);
    let Some(first) = rows.first() else { return String::new() };
    let alpha = first.alpha.map_or("not known".to_string(), |alpha| format!("{alpha:.3}"));
    let mut text = format!(
        "Acceptance was traced once. At {} positions of the tuning text the first drafted token was right {} times: \
         α = {alpha}.",
        first.positions, first.first_accepted
    );
    if let Some(longest) = rows.iter().max_by_key(|row| row.draft_length).filter(|row| row.draft_length > 0) {
        text += &format!(" Replayed at γ={}, a round would commit {:.2} tokens.", longest.draft_length, longest.tau);
    }
    text
}

fn cost(regime: &RegimeChoice) -> String {
    let Some(why) = regime.why else { return String::new() };
    let Some(length) = regime.choice.notable_length() else { return String::new() };
    let bound = match regime.row.regime.as_str() {
        "" | "unexplained" => String::new(),
        regime => format!("; a forward of {} tokens is {regime}", length + 1),
    };
    format!(
        "The cost was measured. At γ={length} a round's verification takes {:.2} times as long as a pipelined plain step on \
         average, and drafting {:.2} times{bound}.",
        why.verification, why.proposal
    )
}

fn predicted(derived: &Derived, regime: &RegimeChoice) -> String {
    let rows = predictions(derived, regime);
    let best = |value: fn(&PredictionRow) -> Option<f64>| {
        let known = rows.iter().filter_map(|row| Some((row.draft_length, value(row)?)));
        known.max_by(|a, b| a.1.total_cmp(&b.1))
    };
    let Some((length, speed)) = best(|row| row.replay_tok_per_s) else { return String::new() };
    // Of drafts that a rule ends the textbook says nothing.
    let says = rows.iter().any(|row| row.draft_length > 0 && row.textbook_tok_per_s.is_some());
    let textbook = match best(|row| row.textbook_tok_per_s).filter(|_| says) {
        Some((other, speed)) => {
            format!(
                " (the textbook rule, which takes verification as free, would say γ={other} and {} tokens a second)",
                significant(speed)
            )
        }
        None => String::new(),
    };
    let bound = match rows.iter().find_map(|row| row.oracle_tok_per_s) {
        Some(oracle) => format!("; no rule could reach more than {}", significant(oracle)),
        None => String::new(),
    };
    format!(
        "Both together predict the throughput of every length before any is timed. γ={length} is the fastest by that, with {} \
         tokens a second{textbook}{bound}.",
        significant(speed)
    )
}

fn timed(derived: &Derived, regime: &RegimeChoice) -> String {
    let choice = &regime.choice;
    let lengths: Vec<u32> = choice.arms.iter().map(|arm| arm.draft_length as u32).collect();
    let speeds: Vec<String> =
        choice.arms.iter().map(|arm| format!("γ={} {}", arm.draft_length, significant(arm.tok_per_s))).collect();
    let how = match derived.stamp.identity.design {
        Design::Blocks => "every length on every prompt, in random order, plain decoding first and last".to_string(),
        Design::Race => format!("as a race: {}", race(choice).join("; ")),
        Design::AnyTime => "in an order that allows stopping at any time".to_string(),
    };
    format!(
        "The lengths that could be the fastest, γ={}, were timed on {} prompts: {how}. Tokens a second: {}.",
        list(&lengths),
        choice.decision.prompts,
        speeds.join(", ")
    )
}

fn compared(regime: &RegimeChoice) -> String {
    let decision = &regime.choice.decision;
    let bound = |length: &u32| match decision.loss_bound.get(length) {
        Some(Some(bound)) => format!("γ={length} at most {}", super::table::loss(Some(*bound))),
        _ => format!("γ={length} unknown"),
    };
    let bounds: Vec<String> = decision.loss_bound.keys().map(bound).collect();
    format!(
        "They were compared all at once. With {} confidence the fastest is one of γ={}; what each loses to it: {}.",
        percent(decision.confidence),
        list(&decision.confidence_set),
        bounds.join(", ")
    )
}

fn against_plain(choice: &Choice) -> String {
    let one = |arm: &crate::stats::decision::VersusPlain| {
        let interval = match (arm.low, arm.high) {
            (Some(low), Some(high)) => format!(" ({low:.3} to {high:.3})"),
            _ => String::new(),
        };
        format!("γ={} {:.3} times as fast{interval}, p = {}", arm.draft_length, arm.speedup, p_value(arm.p_holm))
    };
    let arms: Vec<String> = choice.decision.versus_plain.iter().map(one).collect();
    if arms.is_empty() {
        return String::new();
    }
    format!(
        "Each was compared with plain decoding, the p-values adjusted for their number (Holm): {}.",
        arms.join("; ")
    )
}

fn rule(regime: &RegimeChoice) -> String {
    let decision = &regime.choice.decision;
    let margin = percent(decision.margin);
    let best = if decision.practically_best.is_empty() {
        format!("No length is shown to lose less than {margin}")
    } else {
        format!("Shown to lose less than {margin}: γ={}", list(&decision.practically_best))
    };
    let answer = match (decision.verdict, decision.recommended) {
        (Verdict::Recommended, Some(0)) => "plain decoding is among them, and drafts nothing: γ=0".to_string(),
        (Verdict::Recommended, Some(length)) => {
            format!("the smallest of them that also beats plain decoding is γ={length}")
        }
        (Verdict::PlainNotBeaten, _) => "no length is shown to beat plain decoding: γ=0".to_string(),
        _ => match decision.more_prompts {
            Some(more) => format!("so nothing is recommended; about {more} more prompts would decide"),
            None => "so nothing is recommended".to_string(),
        },
    };
    format!(
        "The rule takes the smallest length that is practically the fastest and beats plain decoding. {best}; {answer}."
    )
}

fn confirmed(regime: &RegimeChoice) -> String {
    let row = &regime.row;
    match (&regime.choice.confirmation, row.draft_length) {
        (Some(confirmed), _) => {
            let speedup = &confirmed.speedup;
            let interval = match (speedup.low, speedup.high) {
                (Some(low), Some(high)) => format!("{low:.3} to {high:.3}"),
                _ => "no interval".to_string(),
            };
            format!(
                "It was measured again on {} prompts that had no part in choosing: {:.3} times as fast as plain decoding \
                 ({interval}). Only this number is for quoting, since the winner of a comparison looks better than it is.",
                confirmed.prompts, speedup.value
            )
        }
        (None, Some(0) | None) => "There is no speed-up to confirm.".to_string(),
        (None, Some(_)) => {
            "It has not been confirmed on fresh prompts, so its speed-up is not for quoting.".to_string()
        }
    }
}
