//! Calibration by simulation: does the decision keep its promises on data whose truth is known?
//!
//! Timings are made in the order in which they would be taken, so that drift and autocorrelation hit the arms as they do
//! in a real run; then the real decision answers, and the answers are counted.
//!
//! How to add a situation: one line in `catalogue.rs`.

mod catalogue;
mod machine;
mod race;
mod study;

pub use catalogue::{Plan, races, studies};
pub use machine::{Bench, Disturbances, Noise, Order, timings};
pub use race::{RaceOutcome, run_race};
pub use study::{Outcome, Simulated, Study, run};
