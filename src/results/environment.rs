//! What a results folder belongs to.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// What every row of a folder has in common. A folder is refused for another identity.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Identity {
    pub scenario: String,
    pub scenario_sha256: String,
    pub prompts_sha256: String,
    pub machine: String,
    pub target: String,
    pub weights_sha256: String,
    /// MLX's version and build; a row of another version is another experiment.
    pub mlx: String,
}

impl Identity {
    /// Refuses another identity, naming the first part that differs.
    pub(super) fn check(&self, folder: &str, other: &Identity) -> Result<()> {
        let parts = [
            ("scenario", &self.scenario, &other.scenario),
            ("scenario_sha256", &self.scenario_sha256, &other.scenario_sha256),
            ("prompts_sha256", &self.prompts_sha256, &other.prompts_sha256),
            ("machine", &self.machine, &other.machine),
            ("target", &self.target, &other.target),
            ("weights_sha256", &self.weights_sha256, &other.weights_sha256),
            ("mlx", &self.mlx, &other.mlx),
        ];
        for (name, there, asked) in parts {
            if there != asked {
                bail!(
                    "{folder}: holds other results ({name} is '{there}', this run's is '{asked}'); name another folder with --results or remove this one"
                );
            }
        }
        Ok(())
    }
}
