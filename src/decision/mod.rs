//! From raw rows to the derived ones: what throughput was predicted, what the timed blocks say, which draft length is chosen.
//!
//! How to add a derived file: one function from raw rows to its rows here, one row type in `src/results/derived.rs`, one line
//! in [`derive`].

mod choice;
mod gather;
mod predictions;

pub use choice::{ArmResult, Choice, Confirmation};
pub use gather::{Arm, Complete, complete_blocks};
pub use predictions::{Timing, predictions};
