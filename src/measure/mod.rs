//! Measurement: what is run, in which order, and what is timed. Rows come out raw, in the order taken.

pub mod cost;
pub mod model_trace;
pub mod runs;
pub mod trace;
pub mod tune;
