//! Argument parsing, one file a subcommand, no logic.
//!
//! How to add a subcommand: write `src/cli/NAME.rs` with an `Args` struct and `pub fn run(args, &Global)`, add one
//! variant to [`Command`] and one line to [`run`].

// In the place of the standard one, which panics where output cannot be written: on a full disk, say.
macro_rules! println {
    ($($text:tt)*) => { $crate::cli::output::line(format_args!($($text)*)) };
}

/// Where commands measure into: not `results`, where a checkout has what others measured, which would pass for this machine's
/// if it has the same name.
const RUNS: &str = "runs";

mod analyze;
#[cfg(feature = "mlx")]
mod baseline;
#[cfg(feature = "mlx")]
mod convert;
#[cfg(feature = "mlx")]
mod corpus;
#[cfg(feature = "mlx")]
mod cost;
mod cost_report;
#[cfg(feature = "mlx")]
mod distill;
#[cfg(feature = "mlx")]
mod doctor;
mod explain;
mod export;
#[cfg(feature = "mlx")]
mod fetch;
#[cfg(feature = "mlx")]
mod generate;
mod init;
#[cfg(feature = "mlx")]
mod interrupt;
mod merge;
mod output;
mod plan;
mod predict;
mod report;
mod schema;
mod screen;
mod shell;
mod simulate;
mod sweep;
#[cfg(feature = "mlx")]
mod tune;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

/// Options that mean the same for every subcommand.
#[derive(clap::Args, Debug, Clone)]
pub struct Global {
    /// Where models run: the GPU if there is one, unless this says otherwise
    #[cfg(feature = "mlx")]
    #[arg(long, global = true, value_name = "cpu|gpu")]
    pub device: Option<crate::machine::device::DeviceKind>,
    /// Who computes float32 products on the CPU, and 16-bit forwards of few tokens on an NVIDIA GPU: this program, or the
    /// system's BLAS and MLX
    #[cfg(all(feature = "mlx", target_os = "linux"))]
    #[arg(long, global = true, value_name = "ours|system", default_value = "ours")]
    pub blas: crate::blas::Choice,
    /// Threads of a float32 product on the CPU; one a core if not given
    #[cfg(all(feature = "mlx", target_os = "linux"))]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

#[derive(Parser, Debug)]
#[command(name = "ridgepoint", version, about, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

// In the order in which the help lists them: measure, analyse, models, start here.
#[derive(Subcommand, Debug)]
enum Command {
    #[cfg(feature = "mlx")]
    Tune(tune::Args),
    Sweep(sweep::Args),
    #[cfg(feature = "mlx")]
    Cost(cost::Args),
    #[cfg(feature = "mlx")]
    Baseline(baseline::Args),
    Analyze(analyze::Args),
    Report(report::Args),
    Predict(predict::Args),
    Plan(plan::Args),
    Simulate(simulate::Args),
    Merge(merge::Args),
    Explain(explain::Args),
    Export(export::Args),
    #[cfg(feature = "mlx")]
    Fetch(fetch::Args),
    #[cfg(feature = "mlx")]
    Convert(convert::Args),
    #[cfg(feature = "mlx")]
    Generate(generate::Args),
    #[cfg(feature = "mlx")]
    Corpus(corpus::Args),
    #[cfg(feature = "mlx")]
    Distill(distill::Args),
    #[cfg(feature = "mlx")]
    Doctor(doctor::Args),
    Init(init::Args),
    Schema(schema::Args),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// Parses the command line and runs what it asks for.
pub fn run() -> Result<()> {
    let cli = Cli::try_parse().or_else(usage_error)?;
    #[cfg(all(feature = "mlx", target_os = "linux"))]
    crate::blas::configure(cli.global.blas, cli.global.threads.map(usize::from));
    match &cli.command {
        #[cfg(feature = "mlx")]
        Command::Tune(args) => tune::run(args, &cli.global),
        Command::Sweep(args) => sweep::run(args, &cli.global),
        #[cfg(feature = "mlx")]
        Command::Cost(args) => cost::run(args, &cli.global),
        #[cfg(feature = "mlx")]
        Command::Baseline(args) => baseline::run(args, &cli.global),
        Command::Analyze(args) => analyze::run(args, &cli.global),
        Command::Predict(args) => predict::run(args, &cli.global),
        Command::Explain(args) => explain::run(args, &cli.global),
        Command::Export(args) => export::run(args, &cli.global),
        Command::Report(args) => report::run(args, &cli.global),
        Command::Plan(args) => plan::run(args, &cli.global),
        Command::Simulate(args) => simulate::run(args, &cli.global),
        Command::Merge(args) => merge::run(args, &cli.global),
        #[cfg(feature = "mlx")]
        Command::Fetch(args) => fetch::run(args, &cli.global),
        #[cfg(feature = "mlx")]
        Command::Generate(args) => generate::run(args, &cli.global),
        #[cfg(feature = "mlx")]
        Command::Convert(args) => convert::run(args, &cli.global),
        #[cfg(feature = "mlx")]
        Command::Corpus(args) => corpus::run(args, &cli.global),
        #[cfg(feature = "mlx")]
        Command::Distill(args) => distill::run(args, &cli.global),
        #[cfg(feature = "mlx")]
        Command::Doctor(args) => doctor::run(args, &cli.global),
        Command::Init(args) => init::run(args, &cli.global),
        Command::Schema(args) => schema::run(args, &cli.global),
        Command::Completions(args) => shell::completions(args, Cli::command()),
        Command::Man(args) => shell::man(args, Cli::command()),
    }
}

/// What is wrong with the command line, in one line. Help and the version, which come the same way, are printed whole.
fn usage_error(error: clap::Error) -> Result<Cli> {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    if matches!(error.kind(), DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand) {
        error.exit();
    }
    let text = error.render().to_string();
    let end = ["\nUsage:", "\nFor more information"].iter().filter_map(|start| text.find(start)).min();
    let words: Vec<&str> = text[..end.unwrap_or(text.len())].split_whitespace().collect();
    let message = words.join(" ").replace(" tip: ", "; ");
    Err(crate::usage!("{}; --help lists what there is", message.trim_start_matches("error: ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(arguments: &[&str]) -> String {
        let words = ["ridgepoint"].iter().chain(arguments);
        let error = Cli::try_parse_from(words).or_else(usage_error).unwrap_err();
        assert_eq!(crate::error::exit_code(&error), 2);
        error.to_string()
    }

    #[test]
    fn a_wrong_command_line_is_one_line() {
        for (arguments, expected) in [
            (&["analize"][..], "unrecognized subcommand 'analize'; a similar subcommand exists: 'analyze'"),
            (&["analyze"], "the following required arguments were not provided: <DIR|FILE>..."),
            (&["analyze", "x", "--margin", "y"], "invalid value 'y' for '--margin <SHARE>': invalid float literal"),
        ] {
            assert_eq!(message(arguments), format!("{expected}; --help lists what there is"));
        }
    }
}
