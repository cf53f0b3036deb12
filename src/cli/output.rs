//! Standard output.

use std::fmt::Arguments;
use std::io::{Write, stdout};

/// Prints a line. Where it cannot be written nobody can be given the result: the program ends with a failure.
pub fn line(text: Arguments) {
    let mut out = stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        eprintln!("ridgepoint: standard output cannot be written ({error}); free some space or name another file");
        std::process::exit(1);
    }
}
