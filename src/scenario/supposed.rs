//! The `[supposed]` table: acceptance that is declared, for targets whose weights are random.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rounds are run and timed on the target as always, but how many drafted tokens one accepts is drawn from declared chances: what
/// random weights would accept means nothing, what a round costs does. The texts that come out mean nothing either.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Supposed {
    /// Chances α with which a drafted token is accepted if all before it are. Every drafter is tuned once for each of them.
    #[schemars(length(min = 1, max = 20))]
    pub acceptance: Vec<f64>,
}

impl Supposed {
    /// A drafter's name in the results, which says what is supposed.
    pub fn name(draft: &str, alpha: f64) -> String {
        format!("{draft}-supposed-{alpha}")
    }

    /// Errors are (field, message).
    pub(super) fn validate(&self) -> Result<(), (&'static str, String)> {
        const FIELD: &str = "supposed.acceptance";
        if !(1..=20).contains(&self.acceptance.len()) {
            return Err((FIELD, format!("give 1 to 20 chances, got {}", self.acceptance.len())));
        }
        for (place, alpha) in self.acceptance.iter().enumerate() {
            if !(0.0..=1.0).contains(alpha) {
                return Err((FIELD, format!("must be 0 to 1, got {alpha}")));
            }
            if self.acceptance[..place].contains(alpha) {
                return Err((FIELD, format!("has {alpha} twice; give it once")));
            }
        }
        Ok(())
    }
}
