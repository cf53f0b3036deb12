//! Argument parsing, one file a subcommand, no logic.
//!
//! How to add a subcommand: write `src/cli/NAME.rs` with an `Args` struct and `pub fn run(args, &Global)`, add one
//! variant to [`Command`] and one line to [`run`].

mod analyze;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Options that mean the same for every subcommand.
#[derive(clap::Args, Debug, Clone)]
pub struct Global {}

#[derive(Parser, Debug)]
#[command(name = "ridgepoint", version, about, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Analyze(analyze::Args),
}

/// Parses the command line and runs what it asks for.
pub fn run() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Command::Analyze(args) => analyze::run(&args, &cli.global),
    }
}
