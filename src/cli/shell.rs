//! `ridgepoint completions` and `ridgepoint man`: from the same definition as the program's own help.

use anyhow::{Context, Result};
use clap_complete::Shell;
use std::path::{Path, PathBuf};

/// Print completions for a shell: source <(ridgepoint completions bash), or save them where the shell looks
#[derive(clap::Args, Debug)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write a manual page for the program and for each command into a folder
#[derive(clap::Args, Debug)]
pub struct Man {
    /// The folder, such as ~/.local/share/man/man1
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub fn completions(args: &Completions, mut program: clap::Command) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut program, "ridgepoint", &mut text);
    println!("{}", String::from_utf8(text)?.trim_end());
    Ok(())
}

pub fn man(args: &Man, mut program: clap::Command) -> Result<()> {
    std::fs::create_dir_all(&args.folder).with_context(|| format!("cannot create {}", args.folder.display()))?;
    program.build();
    page(&args.folder, "ridgepoint".to_string(), &program)?;
    for command in program.get_subcommands().filter(|command| command.get_name() != "help") {
        page(&args.folder, format!("ridgepoint-{}", command.get_name()), command)?;
    }
    Ok(())
}

fn page(folder: &Path, name: String, command: &clap::Command) -> Result<()> {
    let file = folder.join(format!("{name}.1"));
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name.to_uppercase()).render(&mut text)?;
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}
