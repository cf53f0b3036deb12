use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(unix)]
    signals();
    #[cfg(feature = "mlx")]
    ridgepoint::machine::device::set_cuda_defaults();
    match ridgepoint::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ridgepoint: {error:#}");
            ExitCode::from(ridgepoint::error::exit_code(&error))
        }
    }
}

/// Ends the program when whoever reads its output does (`| head`), as other programs do: Rust would panic instead. A limit on
/// file sizes makes a write fail, which is told and undone, in the place of an end in the middle of a row.
#[cfg(unix)]
fn signals() {
    // SAFETY: known dispositions for known signals, before any thread is started.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
