use std::process::ExitCode;

fn main() -> ExitCode {
    match ridgepoint::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ridgepoint: {error:#}");
            ExitCode::from(ridgepoint::error::exit_code(&error))
        }
    }
}
