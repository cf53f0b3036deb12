//! How GGUF says that rotary positions are scaled, and `rope_scaling` in the hub's words.

use super::config::Keys;
use anyhow::{Result, bail};
use serde_json::{Value, json};

/// Contexts of the models that were scaled in Llama 3's way.
const LLAMA3_CONTEXT: f64 = 8192.0;
const LLAMA3_LOW: f64 = 1.0;
const LLAMA3_HIGH: f64 = 4.0;

/// `rope_scaling` for `config.json`, null where positions are not scaled.
pub(super) fn scaling(keys: &Keys, theta: f64, head_dim: u64, factors: Option<&[f32]>) -> Result<Value> {
    let kind = keys.optional_str("rope.scaling.type")?.unwrap_or("none");
    if let Some(factors) = factors {
        if kind != "none" {
            bail!("both the tensor 'rope_freqs.weight' and '{}' scale the positions", keys.name("rope.scaling.type"));
        }
        return llama3(theta, head_dim, factors);
    }
    let factor = match kind {
        // Files from before 'rope.scaling' have the linear factor alone.
        "none" => keys.positive_or("rope.scale_linear", 1.0)?,
        "linear" => keys.positive("rope.scaling.factor")?,
        other => bail!(
            "metadata key '{}' = \"{}\" is not supported (none and linear are)",
            keys.name("rope.scaling.type"),
            other.escape_debug()
        ),
    };
    Ok(if factor == 1.0 { Value::Null } else { json!({ "rope_type": "linear", "type": "linear", "factor": factor }) })
}

/// Llama 3's scaling comes as one factor for each rotary period, which its four parameters made. The stretch of the
/// longest period is the factor; the other three are the same in all published models. The factors they make must be
/// the file's.
fn llama3(theta: f64, head_dim: u64, factors: &[f32]) -> Result<Value> {
    let factor = f64::from(factors.iter().copied().fold(1.0f32, f32::max));
    let matches = factors.len() as u64 == head_dim / 2
        && factors.iter().enumerate().all(|(i, found)| {
            let period = theta.powf(2.0 * i as f64 / head_dim as f64);
            let expected = llama3_stretch(period, factor);
            (f64::from(*found) - expected).abs() <= 1e-3 * expected
        });
    if !matches {
        bail!(
            "tensor 'rope_freqs.weight' does not hold Llama 3's scaling of rotary positions; others are not supported"
        );
    }
    Ok(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": LLAMA3_LOW,
        "high_freq_factor": LLAMA3_HIGH,
        "original_max_position_embeddings": LLAMA3_CONTEXT as u64,
    }))
}

/// What a period is multiplied with, as `rope_scaling` of type `llama3` is defined in transformers.
fn llama3_stretch(period: f64, factor: f64) -> f64 {
    let turns = LLAMA3_CONTEXT / (2.0 * std::f64::consts::PI * period);
    let smooth = ((turns - LLAMA3_LOW) / (LLAMA3_HIGH - LLAMA3_LOW)).clamp(0.0, 1.0);
    1.0 / ((1.0 - smooth) / factor + smooth)
}
