//! The `[simulated]` table: a made-up machine, targets and drafters, on which a sweep runs without a model.

use crate::stats::simulation::Noise;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A made-up machine with what runs on it. Names of targets and drafters are those that the scenario uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Simulated {
    /// Memory bandwidth, 10^9 bytes a second: what a forward must move takes this time.
    pub bandwidth_gb_s: f64,
    /// Matrix rate, 10^12 FLOP a second; only regimes are judged by it, growth with width is declared with the target.
    pub matrix_tflop_s: f64,
    pub targets: BTreeMap<String, SimulatedTarget>,
    pub drafters: BTreeMap<String, SimulatedDrafter>,
    /// What disturbs the timings.
    #[serde(default)]
    pub noise: Noise,
}

/// A target: t(b) = `overhead_ms` + bytes / bandwidth + `growth` of the tokens in the forward, over all sequences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulatedTarget {
    /// 10^9 weights.
    pub parameters_g: f64,
    /// Bytes of cache a token and sequence.
    #[serde(default)]
    pub cache_bytes_per_token: f64,
    #[serde(default)]
    pub overhead_ms: f64,
    /// What a synchronous forward takes beyond a pipelined one.
    #[serde(default)]
    pub wait_ms: f64,
    #[serde(default)]
    pub growth: Growth,
    /// The longest text that it reads; no limit if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_context: Option<usize>,
}

/// How t(b) grows with the tokens in the forward.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "shape", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Growth {
    #[default]
    Constant,
    /// Every further token takes as long.
    Linear { token_ms: f64 },
    /// Tokens beyond `kink` take as long each, those up to it nothing.
    Kink { kink: usize, token_ms: f64 },
    /// After every `step` tokens it takes `step_ms` longer.
    Steps { step: usize, step_ms: f64 },
    /// As listed: tokens, ascending, and milliseconds beyond a forward of the first of them. Linear between, and level
    /// before the first and behind the last.
    Points { points: Vec<(usize, f64)> },
}

impl Growth {
    /// Milliseconds beyond a forward of one token.
    pub fn ms(&self, tokens: usize) -> f64 {
        match self {
            Growth::Constant => 0.0,
            Growth::Linear { token_ms } => token_ms * (tokens - 1) as f64,
            Growth::Kink { kink, token_ms } => token_ms * tokens.saturating_sub((*kink).max(1)) as f64,
            Growth::Steps { step, step_ms } => step_ms * ((tokens - 1) / (*step).max(1)) as f64,
            Growth::Points { points } => {
                let after = points.partition_point(|point| point.0 <= tokens);
                match (points.get(after.wrapping_sub(1)), points.get(after)) {
                    (Some((from, low)), Some((to, high))) => {
                        low + (high - low) * (tokens - from) as f64 / (to - from) as f64
                    }
                    (Some((_, ms)), None) | (None, Some((_, ms))) => *ms,
                    (None, None) => 0.0,
                }
            }
        }
    }
}

/// A drafter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulatedDrafter {
    /// Milliseconds a drafted token.
    pub token_ms: f64,
    /// Milliseconds that a round takes less than its proposal and its verification one after the other, as on a GPU; never less
    /// than the longer of both.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub overlap_ms: f64,
    /// Chance that a draft token is accepted given that all before it are: by place, the last one for all further places.
    pub acceptance: Vec<f64>,
    /// Chance that a draft is over after each of its tokens, as where what a lookup found ends.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ends: f64,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl SimulatedDrafter {
    /// α_j, from place 0 on.
    pub fn alpha(&self, place: usize) -> f64 {
        self.acceptance[place.min(self.acceptance.len() - 1)]
    }
}

impl Simulated {
    /// Errors are (field, message).
    pub(super) fn validate(&self) -> Result<(), (&'static str, String)> {
        let positive = |field, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err((field, format!("must be above 0, got {value}"))),
        };
        let not_negative = |field, value: f64| match value >= 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err((field, format!("must be at least 0, got {value}"))),
        };
        positive("simulated.bandwidth_gb_s", self.bandwidth_gb_s)?;
        positive("simulated.matrix_tflop_s", self.matrix_tflop_s)?;
        for target in self.targets.values() {
            positive("simulated.targets.parameters_g", target.parameters_g)?;
            not_negative("simulated.targets.cache_bytes_per_token", target.cache_bytes_per_token)?;
            not_negative("simulated.targets.overhead_ms", target.overhead_ms)?;
            not_negative("simulated.targets.wait_ms", target.wait_ms)?;
            if let Growth::Linear { token_ms } | Growth::Kink { token_ms, .. } = target.growth {
                not_negative("simulated.targets.growth.token_ms", token_ms)?;
            }
            if let Growth::Steps { step, step_ms } = target.growth {
                not_negative("simulated.targets.growth.step_ms", step_ms)?;
                positive("simulated.targets.growth.step", step as f64)?;
            }
            if let Growth::Points { points } = &target.growth {
                let field = "simulated.targets.growth.points";
                if points.is_empty() || points.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
                    return Err((field, "must list [tokens, milliseconds] by ascending tokens".into()));
                }
                points.iter().try_for_each(|point| not_negative(field, point.1))?;
            }
        }
        for drafter in self.drafters.values() {
            not_negative("simulated.drafters.token_ms", drafter.token_ms)?;
            not_negative("simulated.drafters.overlap_ms", drafter.overlap_ms)?;
            if drafter.acceptance.is_empty() {
                return Err(("simulated.drafters.acceptance", "is empty; give a chance, such as [0.7]".into()));
            }
            if !(0.0..=1.0).contains(&drafter.ends) {
                return Err(("simulated.drafters.ends", format!("must be 0 to 1, got {}", drafter.ends)));
            }
            if let Some(alpha) = drafter.acceptance.iter().find(|alpha| !(0.0..=1.0).contains(*alpha)) {
                return Err(("simulated.drafters.acceptance", format!("must be 0 to 1, got {alpha}")));
            }
        }
        self.noise.check().map_err(|error| ("simulated.noise", error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_by_hand() {
        let times = |growth: Growth| [1, 2, 4, 5, 9].map(|tokens| growth.ms(tokens));
        assert_eq!(times(Growth::Constant), [0.0; 5]);
        assert_eq!(times(Growth::Linear { token_ms: 0.5 }), [0.0, 0.5, 1.5, 2.0, 4.0]);
        assert_eq!(times(Growth::Kink { kink: 4, token_ms: 0.5 }), [0.0, 0.0, 0.0, 0.5, 2.5]);
        assert_eq!(times(Growth::Steps { step: 4, step_ms: 3.0 }), [0.0, 0.0, 0.0, 3.0, 6.0]);
        assert_eq!(times(Growth::Points { points: vec![(2, 1.0), (4, 5.0), (8, 1.0)] }), [1.0, 1.0, 5.0, 4.0, 1.0]);
    }

    #[test]
    fn acceptance_by_place_goes_on_with_the_last() {
        let drafter = SimulatedDrafter { token_ms: 0.0, overlap_ms: 0.0, acceptance: vec![0.8, 0.6], ends: 0.0 };
        assert_eq!([0, 1, 2, 9].map(|place| drafter.alpha(place)), [0.8, 0.6, 0.6, 0.6]);
    }
}
