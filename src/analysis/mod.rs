//! From raw rows to the derived ones: what throughput was predicted, what the timed blocks say, which draft length is chosen.
//!
//! How to add a derived file: one row type in `src/results/derived.rs`, one function from raw rows to its rows here, one
//! field in [`Derived`].

mod audit;
mod categories;
mod choice;
mod comparison;
pub mod cost;
mod derive;
mod equivalence;
mod gather;
mod minimal;
pub mod page;
mod plan;
mod policies;
pub mod predict;
mod predictions;
mod race;
mod reference;
mod regimes;
mod sensitivity;

pub use audit::Audit;
pub use choice::{ArmResult, Choice, Confirmation, Neighbour, Rules, choose, confirm};
pub use comparison::RoundTime;
pub use derive::{Derived, RegimeChoice, Why, derive};
pub use equivalence::Equivalent;
pub use gather::{Arm, Complete, Counts, complete_blocks};
pub use minimal::read_minimal;
pub use plan::{Goal, Need, Spread, pilot_spreads, plan};
pub use policies::{Policy, source_name};
pub use predictions::{Timing, Traced, acceptance, gather_traces, predictions};
pub use race::{RaceSoFar, race};
pub use reference::{Bounds, Outlook, PublishedPoint, Reference, Ridge, Scatter, Verdict, reference};
pub use regimes::{RegimeMap, map_derived, regime_map, sweep_folders};
