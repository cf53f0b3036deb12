use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(unix)]
    end_with_the_reader();
    match ridgepoint::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ridgepoint: {error:#}");
            ExitCode::from(ridgepoint::error::exit_code(&error))
        }
    }
}

/// Ends the program when whoever reads its output does (`| head`), as other programs do: Rust would panic instead.
#[cfg(unix)]
fn end_with_the_reader() {
    // SAFETY: restores the system's own handling, before any thread is started.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
