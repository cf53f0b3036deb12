//! Ctrl-C as a request to end in good order.

use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The first Ctrl-C asks to stop after the work at hand; another one, a second later or more, ends the program at once.
/// Shells and `timeout` may send one interrupt twice.
pub fn stop_on_interrupt(stop: &Arc<AtomicBool>) -> Result<()> {
    let stop = Arc::clone(stop);
    let mut first: Option<Instant> = None;
    ctrlc::set_handler(move || {
        stop.store(true, Ordering::Relaxed);
        if first.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(1) {
            std::process::exit(130);
        }
    })
    .context("Ctrl-C cannot be caught here")
}
