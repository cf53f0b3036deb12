//! A step's time and memory over the tokens in the cache.

use super::{Evidence, Experiment, Statement};
use anyhow::Result;

pub const EXPERIMENT: Experiment = Experiment {
    id: 4,
    name: "kv-cache",
    question: "How do time and memory of a step grow with the context?",
    #[cfg(feature = "mlx")]
    measure: measuring::measure,
    statements,
};

#[cfg(feature = "mlx")]
mod measuring {
    use super::super::lab::Lab;
    use super::super::operations::{forward_row, steps};
    use crate::decode::prefill;
    use crate::results::SampleRow;
    use crate::roofline::Forward;
    use anyhow::Result;
    use mlx_rs::memory::{active_memory, clear_cache};
    use mlx_rs::transforms::eval;

    pub fn measure(lab: &mut Lab) -> Result<()> {
        let at = lab.scale.main.clone();
        let model = lab.model(&at)?;
        // What a cache of each length really takes, as MLX counts it.
        for &context in &lab.scale.contexts.clone() {
            clear_cache()?;
            let before = active_memory()?;
            let mut cache = model.transformer.new_cache();
            cache.reserve(context as i32);
            prefill(&model.transformer, &mut cache, &model.tokens(context as usize + 1))?;
            eval(cache.arrays())?;
            clear_cache()?;
            let active = active_memory()?;
            let row = forward_row(lab, &model, "cache in memory", Forward { context, width: 1, batch: 1 });
            let bytes = active.saturating_sub(before) as u64;
            lab.count(SampleRow { bytes, flops: 0.0, active_bytes: Some(active as u64), ..row })?;
        }
        let mut cases = Vec::new();
        for &context in &lab.scale.contexts {
            cases.push(steps(lab, &model, context)?);
        }
        lab.time(cases)
    }
}

fn statements(evidence: &Evidence) -> Result<Vec<Statement>> {
    let ends = |pass: &super::evidence::Pass| -> Option<(f64, f64, f64)> {
        let rows = pass.all("step");
        let (first, last) = (rows.first()?, rows.last()?);
        let bytes = last.bytes.checked_sub(first.bytes)? as f64;
        (bytes > 0.0).then_some((first.time_ms?, last.time_ms?, bytes))
    };
    // Least squares over all contexts of a pass, in ms a token of context.
    let slope = |pass: &super::evidence::Pass| -> Option<f64> {
        let points: Vec<(f64, f64)> =
            pass.all("step").iter().filter_map(|row| Some((row.context? as f64, row.time_ms?))).collect();
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
        let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        (points.len() > 2).then_some(covariance / variance)
    };
    let first = evidence.scale.contexts.first().copied().unwrap_or_default();
    let last = evidence.scale.contexts.last().copied().unwrap_or_default();
    let memory = |context: u64| evidence.counted("cache in memory", |row| row.context == Some(context));
    let memory = match (memory(first), memory(last)) {
        (Some(few), Some(many)) if last > first => format!(
            "the cache takes {:.1} KiB a token of all layers as MLX counts it",
            many.saturating_sub(few) as f64 / (last - first) as f64 / 1024.0
        ),
        _ => String::new(),
    };
    Ok(vec![
        Statement::at_least(
            "a step takes longer the longer the context",
            "trend of the step's time, in µs a token of context",
            evidence.quantity(|pass| slope(pass).map(|slope| 1e3 * slope))?,
            0.0,
        )
        .noting(memory),
        Statement::at_least(
            &format!("throughput at {last} tokens of context is at least 15 % below that at {first}"),
            "relative loss of throughput",
            evidence.quantity(|pass| ends(pass).map(|(few, many, _)| 1.0 - few / many))?,
            0.15,
        ),
        Statement::between(
            "the cache's bytes at the measured ceiling explain the additional time",
            "additional time over the additional bytes' time at the ceiling",
            evidence.quantity(|pass| {
                ends(pass)
                    .map(|(few, many, bytes)| (many - few) / 1e3 / (bytes / evidence.ceilings.forward_bytes_per_s()))
            })?,
            0.8,
            1.25,
        ),
    ])
}
