//! What people read: tables and sentences for the terminal, and reports with figures for pages and papers. The caller prints
//! and writes them.
//!
//! How to add a report: one file with a function from a decision or from rows to text, one `pub use` here. A figure, a section
//! or a format of `ridgepoint report`: see `figure/`, `page/` and `document/`.

mod baseline;
mod cost;
#[cfg(feature = "plot")]
mod cost_plot;
mod document;
mod explain;
#[cfg(feature = "plot")]
mod figure;
mod material;
mod opinions;
mod page;
mod paper;
mod policies;
mod predict;
mod reference;
mod regime_page;
mod regimes;
mod rounding;
mod sentence;
pub mod stream;
mod sweep;
mod table;
mod width;

pub use baseline::{baseline_notes, hypothesis_table, scale};
pub use cost::{cost_details, cost_sentence, cost_table, cost_title};
#[cfg(feature = "plot")]
pub use cost_plot::{cost_figures, cost_in_terminal};
pub use document::{booktabs, html, markdown};
pub use explain::explain;
pub use material::Material;
pub use opinions::{opinions, race};
pub use page::{Page, page};
pub use paper::{macros, tables};
pub use policies::{category_line, policy_line};
pub use predict::{
    length_table, prediction_errors, prediction_head, prediction_page, prediction_table, regret_sentence,
};
pub use reference::reference_text;
pub use regime_page::regime_page;
pub use regimes::{contrast_sentence, regime_table};
pub use sentence::sentence;
pub use sweep::{sweep_plan, sweep_summary};
pub use table::decision_table;
pub use width::Width;

#[cfg(test)]
mod tests {
    use crate::analysis::{ArmResult, Choice, Counts};
    use crate::stats::bootstrap::Estimate;
    use crate::stats::decision::{Decision, Verdict, VersusPlain};
    use crate::stats::selection::Method;
    use crate::stats::sensitivity::Sensitivity;

    pub(super) fn estimate(value: f64, low: f64, high: f64) -> Estimate {
        Estimate { value, low: Some(low), high: Some(high), confidence: 0.95, caveat: None }
    }

    /// Plain decoding, γ=2 and γ=4 of a lookup on 24 prompts of 48 tokens.
    pub(super) fn choice(recommended: Option<u32>) -> Choice {
        let arm = |draft_length: u64, speedup: f64, rounds: u64| ArmResult {
            draft_length,
            prompts: 24,
            tok_per_s: 20.0 * speedup,
            counts: Counts { rounds, drafted: rounds * draft_length, accepted: 1152 - rounds, tokens: 1152 },
        };
        let versus_plain = |draft_length: u32, speedup: f64| VersusPlain {
            draft_length,
            speedup,
            low: Some(speedup - 0.1),
            high: Some(speedup + 0.1),
            p_holm: 0.004,
        };
        let decision = Decision {
            recommended,
            verdict: Verdict::Recommended,
            confidence_set: vec![2, 4],
            practically_best: vec![2],
            loss_bound: [(0, Some(0.6)), (2, Some(0.0123)), (4, None)].into(),
            versus_plain: vec![versus_plain(2, 1.5), versus_plain(4, 1.49)],
            more_prompts: None,
            observed_best: 2,
            prompts: 24,
            confidence: 0.95,
            margin: 0.02,
            method: Method::MaxT,
            warnings: Vec::new(),
        };
        Choice {
            drafter: "lookup".to_string(),
            looks: Vec::new(),
            equivalents: Vec::new(),
            sensitivity: Sensitivity::default(),
            validity: None,
            arms: vec![arm(0, 1.0, 1152), arm(2, 1.5, 720), arm(4, 1.49, 640)],
            decision,
            confirmation: None,
            warnings: Vec::new(),
        }
    }
}
