//! What is asked for: the scenario's TOML, the drafters' TOML and the prompt set, read, validated and resolved.
//!
//! How to add a field: one line in [`Scenario`] with its `///` line, one check in `Scenario::validate`.
//! How to add a kind of drafter: one struct and one line in [`DraftSpec`] and [`DraftSpec::read`] (`draft_file.rs`).

mod budget;
mod cost_plan;
mod draft_file;
mod json_schema;
mod load;
mod machine_file;
mod model_file;
mod precision;
mod prompts;
mod range;
mod reference_file;
mod schema;
pub mod seeds;
mod shard;
mod shares;
mod simulated;
mod stop_spec;
mod supposed;
mod sweep;
mod toml_file;

pub use budget::{format_budget, parse_budget};
pub use cost_plan::CostPlan;
pub use draft_file::{
    CombinedDraft, DistilledDraft, DraftSpec, LayerSkip, ModelDraft, PromptLookup, QuantizedSelf, Suffix,
};
pub use json_schema::{KINDS, json_schema_of};
pub use load::{Loaded, ModelSource, NamedDraft, find, load, parse, sha256_hex};
pub use machine_file::MachineFile;
pub use model_file::{ModelFile, ModelWeights};
pub use precision::{Dtype, Quantization};
pub use prompts::{Message, Prompt, PromptInput, PromptSet, load_prompts};
pub use range::Range;
pub use reference_file::{PublishedDrafter, REFERENCE_FILE, ReferenceFile};
pub use schema::{MAX_WIDTH, Scenario, Target, is_file_name};
pub use shard::Shard;
pub use shares::Shares;
pub use simulated::{Growth, Simulated, SimulatedDrafter, SimulatedTarget};
pub use stop_spec::StopSpec;
pub use supposed::Supposed;
pub use sweep::{Cell, Precision, Sweep};
pub use toml_file::parse_json;
