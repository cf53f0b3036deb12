//! What a results folder belongs to.

use super::SCHEMA_VERSION;
use super::wire::write_atomically;
use crate::roofline::Ceilings;
use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::path::Path;

const FILE: &str = "environment.json";

/// `environment.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    /// Of all files of the folder.
    pub schema_version: u32,
    pub identity: Identity,
    /// What was declared before anything was measured: for `tune` the scenario. See [`Stamp::declared`].
    pub scenario: Value,
    /// One object for each launch: device, library versions, threads, measured ceilings, commit, time.
    pub launches: Vec<Value>,
}

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
    /// Which command measured it.
    #[serde(default, skip_serializing_if = "Kind::is_tune")]
    pub kind: Kind,
    /// When the draft lengths are compared, which decides what may be concluded.
    #[serde(default, skip_serializing_if = "Design::is_blocks")]
    pub design: Design,
    /// Which part of a sweep it is; none of a whole one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardOf>,
}

/// A part of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardOf {
    /// From 1.
    pub index: u64,
    /// Parts of the sweep.
    pub of: u64,
    /// Cells of the whole sweep.
    pub cells: u64,
}

impl fmt::Display for ShardOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// Which command measured a folder, which decides what can be derived from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    #[default]
    Tune,
    Cost,
    Baseline,
    Sweep,
}

impl Kind {
    fn is_tune(&self) -> bool {
        *self == Kind::Tune
    }

    /// As in `environment.json`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tune => "tune",
            Kind::Cost => "cost",
            Kind::Baseline => "baseline",
            Kind::Sweep => "sweep",
        }
    }
}

/// When the draft lengths are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Design {
    /// Once, after all blocks.
    #[default]
    Blocks,
    /// At looks that were declared beforehand (`looks.csv`), where lengths are dropped.
    Race,
    /// At any time, as often as one likes.
    AnyTime,
}

impl Design {
    fn is_blocks(&self) -> bool {
        *self == Design::Blocks
    }

    /// As in `environment.json`.
    fn name(self) -> String {
        match self {
            Design::Blocks => "blocks",
            Design::Race => "race",
            Design::AnyTime => "any-time",
        }
        .to_string()
    }
}

impl Identity {
    /// Refuses another identity, naming the first part that differs.
    pub(super) fn check(&self, folder: &str, other: &Identity) -> Result<()> {
        if let Some((name, there, asked)) = self.difference(other) {
            bail!(
                "{folder}: holds other results ({name} is '{there}', this run's is '{asked}'); name another folder with --results or remove this one"
            );
        }
        Ok(())
    }

    /// The first part that differs, with the values here and there.
    pub(super) fn difference(&self, other: &Identity) -> Option<(&'static str, String, String)> {
        let shard = |identity: &Identity| identity.shard.as_ref().map(ToString::to_string).unwrap_or_default();
        let parts = [
            ("scenario", &self.scenario, &other.scenario),
            ("scenario_sha256", &self.scenario_sha256, &other.scenario_sha256),
            ("prompts_sha256", &self.prompts_sha256, &other.prompts_sha256),
            ("machine", &self.machine, &other.machine),
            ("target", &self.target, &other.target),
            ("weights_sha256", &self.weights_sha256, &other.weights_sha256),
            ("mlx", &self.mlx, &other.mlx),
            ("kind", &self.kind.name().to_string(), &other.kind.name().to_string()),
            ("design", &self.design.name(), &other.design.name()),
            ("shard", &shard(self), &shard(other)),
        ];
        let differing = parts.into_iter().find(|(_, here, there)| here != there);
        differing.map(|(name, here, there)| (name, here.clone(), there.clone()))
    }
}

/// What a launch is described by that must not change within a folder, as it would change times unseen.
const FACTORS: [&str; 11] = [
    "machine",
    "device",
    "device_name",
    "cpu_model",
    "mlx_version",
    "mlx_build",
    "blas.name",
    "blas.kernel",
    "blas.threads",
    "variables",
    "ridgepoint_version",
];

/// The first factor in which two launches differ, in words; none if all are of one machine and version. What a launch does
/// not say is not compared.
pub fn mixed(launches: &[Value]) -> Option<String> {
    FACTORS.iter().find_map(|factor| {
        let pointer = format!("/{}", factor.replace('.', "/"));
        let mut values = launches.iter().filter_map(|launch| launch.pointer(&pointer));
        let first = values.next()?;
        let other = values.find(|value| *value != first)?;
        Some(format!("{factor} is {first} in one launch and {other} in another"))
    })
}

impl Stamp {
    /// A new folder's stamp, before its first launch.
    pub(super) fn new(identity: &Identity, declared: &impl Serialize) -> Result<Stamp> {
        let scenario = serde_json::to_value(declared)?;
        Ok(Stamp { schema_version: SCHEMA_VERSION, identity: identity.clone(), scenario, launches: Vec::new() })
    }

    /// What was declared before anything was measured. Errors name the file in `folder` and the field.
    pub fn declared<D: DeserializeOwned>(&self, folder: &Path) -> Result<D> {
        let declared = serde_path_to_error::deserialize(self.scenario.clone());
        let shown = folder.join(FILE);
        declared.map_err(|error| anyhow::anyhow!("{}: scenario.{}: {}", shown.display(), error.path(), error.inner()))
    }

    /// A folder's stamp, if it has one. Errors name the file and the field.
    pub fn read(folder: &Path) -> Result<Option<Stamp>> {
        let file = folder.join(FILE);
        let shown = file.display();
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        };
        let stamp: Value = serde_json::from_str(&text).with_context(|| format!("{shown}: is not JSON; mend it"))?;
        match stamp["schema_version"].as_u64() {
            Some(version) if version == u64::from(SCHEMA_VERSION) => {}
            Some(version) => bail!("{shown}: schema_version: {version} cannot be read here, only {SCHEMA_VERSION}"),
            None => bail!("{shown}: schema_version: missing; this is no results folder of ridgepoint"),
        }
        let stamp = serde_path_to_error::deserialize(stamp);
        stamp.map(Some).map_err(|error| anyhow::anyhow!("{shown}: {}: {}", error.path(), error.inner()))
    }

    /// What the machine was measured to reach: the best of all launches, as something else running beside only lowers it.
    pub fn ceilings(&self) -> Option<Ceilings> {
        let all = self.launches.iter().filter_map(|launch| launch.get("ceilings"));
        all.filter_map(|ceilings| serde_json::from_value(ceilings.clone()).ok()).reduce(Ceilings::best)
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        write_atomically(&folder.join(FILE), text.as_bytes())
    }
}
