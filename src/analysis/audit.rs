//! The derived figures of the published experiments, recomputed from their tables.

use crate::results::PublishedTable;
use crate::roofline::expected_tokens;
use anyhow::Result;
use serde::Serialize;
use std::path::Path;

/// Mistral-7B as published by its makers: what the source does not say and two figures need.
const LAYERS: f64 = 32.0;
const HIDDEN: f64 = 4096.0;
const KV: f64 = 1024.0;
const VOCABULARY: f64 = 32_000.0;
/// 4 bits, and a 16-bit scale and bias for each 64 weights.
const BYTES_PER_WEIGHT: f64 = 4.5 / 8.0;
/// The acceptance that the gain of a published drafter is worked out for.
const ALPHA: f64 = 0.8;
/// The draft length of the only narrow width above 1 that was timed.
const LENGTH: usize = 3;

/// What the source's numbers say where it says something else.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Audit {
    /// Experiment 10: t(4) / t(1), where below 11 tokens verification is called nearly free.
    pub verification_of_4: f64,
    /// Milliseconds of each token between widths 1 and 4, and between 32 and 128.
    pub first_slope_ms: f64,
    pub last_slope_ms: f64,
    /// 10^12 FLOP a second that the latter implies at 7.0 G parameters; 30 are assumed.
    pub slope_tflop_s: f64,
    /// t(16) of an earlier version over t(32): above 1 time falls with width.
    pub earlier_16_over_32: f64,
    /// Experiment 2: milliseconds that an evaluation adds.
    pub evaluation_ms: f64,
    /// Experiments 3, 5 and 11: the fastest and the slowest isolated quantised product, in microseconds; both sit on it.
    pub isolated_us: (f64, f64),
    /// Experiment 4: megabytes of cache a token, over all layers together.
    pub cache_mb_per_token: f64,
    /// Changes at contexts 547, 1059 and 4131, in percent.
    pub context_changes_percent: [f64; 3],
    /// Experiments 6 and 8: percent of the data sheet's bandwidth at context 4096: as published, with the weights of
    /// experiment 8, and with a 16-bit cache as well.
    pub efficiency_percent: [f64; 3],
    /// Experiment 8: milliseconds left beside the weights at the data sheet's and at the copy's bandwidth.
    pub rest_ms: (f64, f64),
    /// The smallest and the largest rest of the four models, called constant.
    pub rest_range_ms: (f64, f64),
    /// Experiment 9: gigabytes that the step without attention still reads, and the GB/s that its time implies.
    pub ablated_gb: f64,
    pub ablated_bandwidth_gb_s: f64,
    /// Milliseconds of attention and cache by ablation, and in the final summary.
    pub attention_ms: (f64, f64),
    /// Experiment 11: 8-bit against 4-bit, less throughput and more time, in percent.
    pub slower_percent: (f64, f64),
    /// Experiments 8 and 10: a step of the smallest model over t(1), and what drafting three tokens with it gains at
    /// α = 0.8.
    pub draft_cost: f64,
    pub gain_of_3: f64,
}

impl Audit {
    /// Recomputes the figures; none if the folder lacks the tables of the experiments.
    pub fn of(folder: &Path) -> Result<Option<Audit>> {
        let file = |name: &str| folder.join(format!("{name}.csv"));
        if !file("ablation").exists() {
            return Ok(None);
        }
        let value = |table: &str, wanted: &[(&str, &str)], column: &str| {
            PublishedTable::read(&file(table))?.value(wanted, column)
        };
        let column = |table: &str, column: &str| -> Result<Vec<f64>> {
            Ok(PublishedTable::read(&file(table))?.numbers(column)?.into_iter().flatten().collect())
        };
        let width = |width: &str| value("width", &[("width", width)], "time_ms");
        let (t1, t4, t32, t128) = (width("1")?, width("4")?, width("32")?, width("128")?);
        let last_slope_ms = (t128 - t32) / (128.0 - 32.0);
        // 2 FLOP a parameter and token, in GFLOP a millisecond.
        let slope_tflop_s = 2.0 * 7.0 / last_slope_ms;
        let evaluated = |name: &str, column: &str| value("evaluation", &[("evaluated", name)], column);
        let (every, once) = ("every product", "once");
        let saved_ms = evaluated(every, "time_ms")? - evaluated(once, "time_ms")?;
        let saved = evaluated(every, "evaluations")? - evaluated(once, "evaluations")?;
        let product =
            |layer| value("quantized-product", &[("layer", layer), ("implementation", "quantised")], "time_us");
        let isolated = [product("attention projection")?, product("mlp gate")?, product("mlp down")?];
        let isolated = [isolated.to_vec(), column("product-bits", "time_us")?].concat();
        let (contexts, memory) = (column("context", "context")?, column("context", "peak_memory_gb")?);
        let last = contexts.len() - 1;
        let change = |context: &str| value("context", &[("context", context)], "change_percent");
        let part = |name: &str| value("bytes", &[("context", "4096"), ("part", name)], "bytes_mb");
        let (published_mb, cache_mb) = (part("weights")?, part("cache read")?);
        let rate = value("efficiency", &[("context", "4096")], "throughput_tok_per_s")?;
        let ceiling = |name: &str| value("roofline", &[("quantity", name)], "value");
        let data_sheet = ceiling("bandwidth (data sheet)")?;
        let copy = value("bandwidth", &[("operation", "copy")], "bandwidth_gb_s")?;
        let target = |column: &str| value("weights", &[("model", "Mistral 7B")], column);
        let (weights_gb, target_ms) = (target("weights_gb")?, target("time_ms")?);
        let efficiency = |mb: f64| 100.0 * mb / 1e3 * rate / data_sheet;
        // Of the embedding one row is read.
        let unread = LAYERS * (2.0 * HIDDEN * HIDDEN + 2.0 * HIDDEN * KV) + VOCABULARY * HIDDEN;
        let ablated_gb = weights_gb - unread * BYTES_PER_WEIGHT / 1e9;
        let ablated = |column: &str| value("ablation", &[("removed", "attention and cache")], column);
        let bits = |bits: &str| value("model-bits", &[("bits", bits)], "throughput_tok_per_s");
        let (four, eight) = (bits("4")?, bits("8")?);
        let draft_cost = value("weights", &[("model", "Qwen 0.8B")], "time_ms")? / t1;
        let round = LENGTH as f64 * draft_cost + t4 / t1;
        Ok(Some(Audit {
            verification_of_4: t4 / t1,
            first_slope_ms: (t4 - t1) / 3.0,
            last_slope_ms,
            slope_tflop_s,
            earlier_16_over_32: width("16")? / t32,
            evaluation_ms: saved_ms / saved,
            isolated_us: range(&isolated),
            cache_mb_per_token: 1e3 * (memory[last] - memory[0]) / (contexts[last] - contexts[0]),
            context_changes_percent: [change("547")?, change("1059")?, change("4131")?],
            efficiency_percent: [
                efficiency(published_mb + cache_mb),
                efficiency(1e3 * weights_gb + cache_mb),
                efficiency(1e3 * weights_gb + cache_mb / 2.0),
            ],
            rest_ms: (target_ms - 1e3 * weights_gb / data_sheet, target_ms - 1e3 * weights_gb / copy),
            rest_range_ms: range(&column("weights", "rest_ms")?),
            ablated_gb,
            ablated_bandwidth_gb_s: 1e3 * ablated_gb / ablated("time_ms")?,
            attention_ms: (-ablated("change_ms")?, value("step-parts", &[("part", "attention and cache")], "time_ms")?),
            slower_percent: (100.0 * (1.0 - eight / four), 100.0 * (four / eight - 1.0)),
            draft_cost,
            gain_of_3: expected_tokens(ALPHA, LENGTH) / round,
        }))
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    (least, values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}
