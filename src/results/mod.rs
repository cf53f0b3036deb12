//! The results folder `runs/<machine>/<scenario>/`: CSV files with frozen columns, written a row at a time and
//! resumable, and the environment stamp that says what they belong to.
//!
//! How to add a file: one row type with its key in `rows.rs` (raw), `derived.rs` or
//! `cost_derived.rs` (rebuilt by `analyze`), one line in
//! [`schema`], one table in `results/README.md`. How to change one: add columns at the end and raise [`SCHEMA_VERSION`].

mod baseline;
mod cells;
mod columns;
mod cost_derived;
mod derived;
mod environment;
mod llama_bench;
mod merge;
#[cfg(feature = "parquet")]
mod parquet;
mod policies;
mod predicted;
mod published;
mod rows;
mod store;
mod table;
mod training;
mod vllm;
mod wire;

pub use baseline::{HypothesisRow, PointRow, SampleRow};
pub use cells::{CellRow, CellState, Pending, pending};
pub use columns::{Column, ColumnKind};
pub use cost_derived::{CostChangeRow, CostCurveRow, CostModelRow, CostStretchRow, CostWidthRow};
pub use derived::{
    AcceptanceRow, ArmRow, CategoryRow, ContrastRow, DecisionRow, PredictionRow, RegimeRow, SensitivityRow,
};
pub use environment::{Design, Identity, Kind, ShardOf, Stamp, mixed};
pub use llama_bench::{llama_bench_tests, read_llama_bench};
pub use merge::merge_shards;
#[cfg(feature = "parquet")]
pub use parquet::parquet_of;
pub use policies::{CalibrationRow, DraftTokenRow, PolicyRow, StopRuleRow, StopThresholdRow};
pub use predicted::{PredictedLengthRow, PredictedWidthRow};
pub use published::PublishedTable;
pub use rows::{Control, CostRow, DraftTraceRow, LookRow, Mode, PromptRow, Role, RunRow, TraceRow};
pub use store::{ResultsDir, read, read_raw, read_raw_as, write, write_text};
pub use table::Table;
pub use training::TrainingRow;
pub use vllm::read_vllm;
pub use wire::{Derived, Raw, Wire, parse_rows, read_rows, write_atomically, write_rows};

/// The version of all CSV schemas, written to `environment.json`.
pub const SCHEMA_VERSION: u32 = 1;

/// Every file of a results folder and its columns, in order.
pub fn schema() -> Vec<(&'static str, Vec<Column>)> {
    fn entry<R: Wire>() -> (&'static str, Vec<Column>) {
        (R::FILE, columns::typed_columns::<R>())
    }
    vec![
        entry::<PromptRow>(),
        entry::<CostRow>(),
        entry::<TraceRow>(),
        entry::<DraftTraceRow>(),
        entry::<StopRuleRow>(),
        entry::<DraftTokenRow>(),
        entry::<LookRow>(),
        entry::<RunRow>(),
        entry::<CellRow>(),
        entry::<PredictionRow>(),
        entry::<AcceptanceRow>(),
        entry::<CalibrationRow>(),
        entry::<StopThresholdRow>(),
        entry::<PolicyRow>(),
        entry::<ArmRow>(),
        entry::<CategoryRow>(),
        entry::<DecisionRow>(),
        entry::<SensitivityRow>(),
        entry::<RegimeRow>(),
        entry::<ContrastRow>(),
        entry::<CostCurveRow>(),
        entry::<CostWidthRow>(),
        entry::<CostStretchRow>(),
        entry::<CostChangeRow>(),
        entry::<CostModelRow>(),
        entry::<PredictedWidthRow>(),
        entry::<PredictedLengthRow>(),
        entry::<SampleRow>(),
        entry::<PointRow>(),
        entry::<HypothesisRow>(),
    ]
}
