//! From a model's shape and a machine's ceilings to the time a forward needs, from a measured cost curve and a trace to
//! the throughput of every draft length.
//!
//! How to add a predictor: one function over [`Costs`] and [`Trace`]s in `predict.rs`, one column in `predictions.csv`.

mod acceptance;
mod curve;
mod oracle;
mod predict;
mod regime;
mod replay;
mod shape;
mod transfer;

pub use acceptance::{Acceptance, PositionCount, expected_tokens};
pub use curve::{CostCurve, Gap};
pub use oracle::oracle;
pub use predict::{Costs, Prediction, predict};
pub use regime::{Ceilings, Regime, RegimePoint};
pub use replay::{Draft, Replay, Trace, replay};
pub use shape::{Forward, ModelShape, WeightFormat};
pub use transfer::{Decomposition, Floor, Rest};
