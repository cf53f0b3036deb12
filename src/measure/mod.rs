//! Measurement: what is run, in which order, and what is timed. Rows come out raw, in the order taken.
//!
//! How to add a way to run things: one file with an [`executor::Executor`].

#[cfg(feature = "mlx")]
pub mod cost;
#[cfg(feature = "mlx")]
pub mod cost_job;
pub mod executor;
#[cfg(feature = "mlx")]
pub mod job;
#[cfg(feature = "mlx")]
pub mod model_executor;
#[cfg(feature = "mlx")]
pub mod model_trace;
mod order;
pub mod passes;
mod plan;
mod progress;
#[cfg(feature = "mlx")]
pub mod runs;
#[cfg(feature = "mlx")]
pub mod samples;
pub mod simulated_executor;
#[cfg(feature = "mlx")]
pub mod supposed_executor;
pub mod sweep;
mod timing;
#[cfg(feature = "mlx")]
pub mod trace;
pub mod tune;

pub use progress::Progress;
