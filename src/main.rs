use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(unix)]
    signals();
    keep_gpu_graphs_and_plans();
    match ridgepoint::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ridgepoint: {error:#}");
            ExitCode::from(ridgepoint::error::exit_code(&error))
        }
    }
}

/// Room for more than the 400 graphs of kernels and 256 plans of attention that MLX keeps by itself on an NVIDIA GPU, and no error when
/// even more are needed, as by a sweep's many shapes or a growing cache. Whoever sets a variable is obeyed.
fn keep_gpu_graphs_and_plans() {
    for (variable, value) in [
        ("MLX_CUDA_GRAPH_CACHE_SIZE", "20000"),
        ("MLX_CUDA_SDPA_CACHE_SIZE", "4096"),
        ("MLX_ENABLE_CACHE_THRASHING_CHECK", "0"),
    ] {
        if std::env::var_os(variable).is_none() {
            // SAFETY: before any thread is started.
            unsafe { std::env::set_var(variable, value) };
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
