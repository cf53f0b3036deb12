//! Speculative-decoding research: verification cost measured at every width, acceptance traced once and replayed
//! exactly for every draft length, and a draft length chosen by statistics for each memory-bandwidth regime.
//!
//! Data flows one way through the modules:
//! scenario → cells → measure (machine, model, draft, decode) → raw rows (CSV) → analysis (stats, roofline) → report.
//! Everything from the CSVs on is pure and builds without MLX (`--no-default-features`).

pub mod analysis;
pub mod cli;
pub mod error;
pub mod experiment;
pub mod measure;
pub mod report;
pub mod results;
pub mod roofline;
pub mod scenario;
pub mod stats;

#[cfg(all(feature = "mlx", target_os = "linux"))]
pub mod blas;
#[cfg(feature = "mlx")]
pub mod corpus;
#[cfg(feature = "mlx")]
pub mod decode;
#[cfg(feature = "mlx")]
pub mod distill;
#[cfg(feature = "mlx")]
pub mod draft;
#[cfg(all(feature = "mlx", target_os = "linux"))]
pub mod fused;
#[cfg(feature = "mlx")]
pub mod machine;
#[cfg(feature = "mlx")]
pub mod model;
