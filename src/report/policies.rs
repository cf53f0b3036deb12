//! What came of rules that end drafts early, in lines for the terminal.

use crate::results::{CategoryRow, PolicyRow};

/// One line for the drafter's rule at the draft length at which its replay is the fastest; none if it has no rule.
pub fn policy_line(drafter: &str, policies: &[PolicyRow]) -> Option<String> {
    let rows = policies.iter().filter(|row| row.drafter == drafter);
    let row = rows.max_by(|a, b| a.rule_tok_per_s.total_cmp(&b.rule_tok_per_s))?;
    let share = match (row.share, row.share_low, row.share_high) {
        (Some(share), Some(low), Some(high)) => {
            format!(": {:.0} % of what the oracle gains ({:.0} to {:.0} %)", 1e2 * share, 1e2 * low, 1e2 * high)
        }
        (Some(share), ..) => format!(": {:.0} % of what the oracle gains", 1e2 * share),
        _ => String::new(),
    };
    Some(format!(
        "rule {} at γ={}, replayed: {:.1} tok/s, the best static length ({}) {:.1}, the oracle {:.1}{share}",
        row.rule,
        row.draft_length,
        row.rule_tok_per_s,
        row.static_draft_length,
        row.static_tok_per_s,
        row.oracle_tok_per_s
    ))
}

/// The speed-ups of an arm on fresh prompts, by category; none if there are not several.
pub fn category_line(drafter: &str, draft_length: u64, categories: &[CategoryRow]) -> Option<String> {
    let of = |row: &&CategoryRow| row.split == "confirm" && row.drafter == drafter && row.draft_length == draft_length;
    let rows: Vec<&CategoryRow> = categories.iter().filter(of).collect();
    let words: Vec<String> = rows
        .iter()
        .map(|row| match (row.speedup_low, row.speedup_high) {
            (Some(low), Some(high)) => format!("{} {:.2} ({low:.2} to {high:.2})", row.category, row.speedup),
            _ => format!("{} {:.2}", row.category, row.speedup),
        })
        .collect();
    (rows.len() > 1).then(|| format!("γ={draft_length} on fresh prompts by category: {}", words.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_by_hand() {
        let row = |draft_length, rate| PolicyRow {
            drafter: "d".into(),
            rule: "cost-aware".into(),
            draft_length,
            static_draft_length: 3,
            static_tok_per_s: 50.0,
            rule_tok_per_s: rate,
            oracle_tok_per_s: 75.0,
            share: Some(0.4),
            share_low: Some(0.25),
            share_high: Some(0.5),
            ..PolicyRow::default()
        };
        assert_eq!(
            policy_line("d", &[row(2, 55.0), row(8, 60.0), row(9, 59.0)]).unwrap(),
            "rule cost-aware at γ=8, replayed: 60.0 tok/s, the best static length (3) 50.0, the oracle 75.0: 40 % of what the oracle gains (25 to 50 %)"
        );
        assert_eq!(policy_line("e", &[row(2, 55.0)]), None);
        let category = |category: &str, speedup_low: Option<f64>| CategoryRow {
            split: "confirm".into(),
            drafter: "d".into(),
            draft_length: 2,
            category: category.into(),
            speedup: 1.25,
            speedup_low,
            speedup_high: speedup_low.map(|low| low + 0.2),
            ..CategoryRow::default()
        };
        let rows = [category("chat", Some(1.1)), category("code", None)];
        assert_eq!(
            category_line("d", 2, &rows).unwrap(),
            "γ=2 on fresh prompts by category: chat 1.25 (1.10 to 1.30), code 1.25"
        );
        assert_eq!(category_line("d", 3, &rows), None);
    }
}
