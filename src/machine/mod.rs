//! The machine: device choice, measured ceilings (copy bandwidth, matrix rate) and the environment stamp.
//!
//! How to add one more field to the environment stamp: add it to [`environment::Environment`] with a `///` line and
//! fill it in `detect`. How to add a check to `ridgepoint doctor`: add one `Finding` in [doctor].

pub mod bandwidth;
pub mod ceilings;
pub mod device;
pub mod doctor;
pub mod environment;
pub mod launch;
#[cfg(not(target_os = "macos"))]
mod mach_time;
mod mlx;
mod slug;
