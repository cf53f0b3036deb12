//! From a model's shape and a machine's ceilings to the time a forward needs, from a measured cost curve and a trace to
//! the throughput of every draft length.
//!
//! How to add a predictor: one function over [`Costs`] and [`Trace`]s in `predict.rs`, one column in `predictions.csv`.

mod acceptance;
mod calibration;
mod cost_aware;
mod curve;
mod oracle;
mod padding;
mod predict;
mod regime;
mod replay;
mod ruled;
mod shape;
mod stop;
mod transfer;

pub use acceptance::{Acceptance, PositionCount, expected_tokens};
pub use calibration::{Bin, Calibration, Outcome};
pub use cost_aware::CostAware;
pub use curve::{CostCurve, Gap};
pub use oracle::oracle;
pub use padding::Padding;
pub use predict::{Costs, Prediction, predict};
pub use regime::{Ceilings, Regime, RegimePoint};
pub use replay::{Draft, Replay, Trace, acceptance_chance, replay};
pub use ruled::{
    RuledReplay, RuledRound, TokenDraft, TokenTrace, fit_rule, oracle_ruled, replay_all, replay_ruled, rounds_ruled,
};
pub use shape::{Forward, ModelShape, WeightFormat};
pub use stop::{Seen, Source, StopRule, Stopper};
pub use transfer::{Decomposition, Floor, Rest};
