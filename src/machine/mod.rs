//! The machine: device choice, measured ceilings (copy bandwidth, matrix rate) and the environment stamp.

#[cfg(not(target_os = "macos"))]
mod mach_time;
