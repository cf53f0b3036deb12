//! The bytes of a step, counted from the arrays as they are held, and the share of the ceiling that they explain.

use super::{Evidence, Experiment, Statement};
use anyhow::Result;

pub const EXPERIMENT: Experiment = Experiment {
    id: 6,
    name: "accounting",
    question: "Which bytes does a step move, and what share of the bandwidth ceiling is that?",
    #[cfg(feature = "mlx")]
    measure: measuring::measure,
    statements,
};

const WEIGHTS: &str = "weights read";
const READ: &str = "keys and values read";
const WRITTEN: &str = "keys and values written";

#[cfg(feature = "mlx")]
mod measuring {
    use super::super::lab::Lab;
    use super::super::operations::{forward_row, steps};
    use super::{READ, WEIGHTS, WRITTEN};
    use crate::results::SampleRow;
    use crate::roofline::Forward;
    use anyhow::Result;

    pub fn measure(lab: &mut Lab) -> Result<()> {
        let at = lab.scale.main.clone();
        let model = lab.model(&at)?;
        let contexts: Vec<u64> = lab.scale.contexts.iter().copied().step_by(2).collect();
        let of_token = model.transformer.shape().kv_bytes_per_token();
        for &context in &contexts {
            for (subject, bytes) in
                [(WEIGHTS, model.transformer.weight_nbytes()), (READ, context * of_token), (WRITTEN, of_token)]
            {
                let row = forward_row(lab, &model, subject, Forward { context, width: 1, batch: 1 });
                lab.count(SampleRow { bytes, flops: 0.0, ..row })?;
            }
        }
        let mut cases = Vec::new();
        for &context in &contexts {
            cases.push(steps(lab, &model, context)?);
        }
        lab.time(cases)
    }
}

fn statements(evidence: &Evidence) -> Result<Vec<Statement>> {
    let ceiling = evidence.ceilings.forward_bytes_per_s();
    let weights = evidence.counted(WEIGHTS, |_| true).unwrap_or(0) as f64;
    let share = |bytes: f64, ms: f64| bytes / (ms / 1e3) / ceiling;
    let longest = |pass: &super::evidence::Pass| -> Option<(f64, f64)> {
        let row = *pass.all("step").last()?;
        Some((row.bytes as f64, row.time_ms?))
    };
    let shortest = |pass: &super::evidence::Pass| -> Option<(f64, f64)> {
        let row = *pass.all("step").first()?;
        Some((row.bytes as f64, row.time_ms?))
    };
    let moved = |subject| {
        evidence.counted(subject, |row| row.context == evidence.scale.contexts.iter().step_by(2).last().copied())
    };
    let context = evidence.scale.contexts.iter().step_by(2).last().copied().unwrap_or(0);
    let computed = evidence.samples.iter().find(|row| row.subject == "step").map_or(0, |row| row.bytes) as f64;
    let counted_note = format!(
        "from the arrays: weights {:.4} GB, keys and values read {:.4} GB, written {:.6} GB; by formula at the shortest context {:.4} GB",
        weights / 1e9,
        moved(READ).unwrap_or(0) as f64 / 1e9,
        moved(WRITTEN).unwrap_or(0) as f64 / 1e9,
        computed / 1e9
    );
    Ok(vec![
        Statement::at_least(
            &format!("at {context} tokens of context all bytes together come near the ceiling"),
            "bandwidth over the ceiling",
            evidence.quantity(|pass| longest(pass).map(|(bytes, ms)| share(bytes, ms)))?,
            0.8,
        )
        .noting(counted_note),
        Statement::at_least(
            "the share of the ceiling rises with the context",
            "share at the longest context less that at the shortest",
            evidence.quantity(|pass| {
                let ((few, few_ms), (many, many_ms)) = (shortest(pass)?, longest(pass)?);
                Some(share(many, many_ms) - share(few, few_ms))
            })?,
            0.0,
        ),
        Statement::at_least(
            &format!("counting the weights alone understates the share at {context} tokens of context"),
            "share with all bytes over the share with the weights alone",
            evidence.quantity(|pass| longest(pass).map(|(bytes, _)| bytes / weights))?,
            1.05,
        ),
    ])
}
