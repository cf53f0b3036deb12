//! Statistics: summaries, bootstrap, tests, selection, power. Pure: no MLX, no command line, no printing; every
//! random step takes a seed and means the same on every machine.
//!
//! How to add a test: one file with its functions (the docstring names the paper), a `pub mod` line here, a case in
//! `scripts/oracle/stats.py` that writes `tests/golden/stats/NAME.json` from independent software, and the comparison
//! in `tests/stats_golden.rs`, of cost curves in `tests/curves_golden.rs`.

pub mod anytime;
pub mod blocks;
pub mod bootstrap;
pub mod change_points;
pub mod cost_model;
pub mod decision;
pub mod equivalence;
pub mod error;
pub mod friedman;
pub mod iid;
pub mod max_t;
pub mod mcs;
pub mod moderated;
pub mod multiple;
pub mod paired;
pub mod parallel;
pub mod power;
pub mod regimes;
mod rows;
pub mod selection;
pub mod sensitivity;
pub mod sequential;
pub mod sign_flip;
pub mod simulation;
pub mod summary;
pub mod validity;

pub use error::{Result, StatsError};
