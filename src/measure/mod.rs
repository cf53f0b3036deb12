//! Measurement: what is run, in which order, and what is timed. Rows come out raw, in the order taken.

pub mod cost;
pub mod cost_job;
pub mod model_trace;
mod plan;
mod progress;
pub mod runs;
pub mod samples;
mod timing;
pub mod trace;
pub mod tune;

pub use progress::Progress;
