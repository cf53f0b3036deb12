//! mlx-rs seeds its default random state from a clock that only Apple's kernel has; elsewhere we provide it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds that differ from one process start to the next, which is all that a seed needs.
#[unsafe(no_mangle)]
extern "C" fn mach_approximate_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as u64)
}
