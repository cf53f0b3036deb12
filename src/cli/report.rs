//! `ridgepoint report`: what results folders say, as a page, with figures and LaTeX for papers.

use super::Global;
use crate::report::{Material, Page, Width, booktabs, html, macros, markdown, page, tables};
use crate::usage;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Write what results folders say, of one or several machines, as one HTML file that needs no network, the same as Markdown,
/// figures as SVG, PDF and PNG with their data as CSV, and LaTeX tables and macros. Everything comes from the raw files
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Results folders of tune, cost, baseline or sweep, or folders that hold such; files are left out
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// The folder that the report is written into
    #[arg(long, value_name = "DIR", default_value = "report")]
    out: PathBuf,
    /// Width of the figures on paper: 3.25in for one column, 6.75in for two
    #[arg(long, value_name = "WIDTH", default_value = "3.25in", value_parser = Width::parse)]
    width: Width,
    /// Take folders although they mix machines or versions, and say so
    #[arg(long)]
    allow_mixed: bool,
}

pub fn run(args: &Args, _global: &Global) -> Result<()> {
    let material = Material::gather(&args.folders, args.allow_mixed)?;
    material.skipped.iter().for_each(|skipped| eprintln!("ridgepoint: note: {skipped}"));
    if material.is_empty() {
        return Err(usage!("no results folder was named; name such as results/linux-cpu-2core/quickstart"));
    }
    let page = page(&material, args.width, &command(args));
    let out = &args.out;
    make(out)?;
    write(&out.join("report.html"), &html(&page.document))?;
    write(&out.join("report.md"), &markdown(&page.document))?;
    let latex = out.join("latex");
    make(&latex)?;
    write(&latex.join("numbers.tex"), &macros(&material).text())?;
    for (name, table) in tables(&material) {
        write(&latex.join(format!("{name}.tex")), &booktabs(&table))?;
    }
    figures(&page, &out.join("figures"))?;
    println!("{}", out.join("report.html").display());
    Ok(())
}

#[cfg(feature = "plot")]
fn figures(page: &Page, folder: &Path) -> Result<()> {
    make(folder)?;
    page.figures.iter().try_for_each(|figure| figure.write(folder))
}

#[cfg(not(feature = "plot"))]
fn figures(_page: &Page, _folder: &Path) -> Result<()> {
    eprintln!("ridgepoint: note: this program was built without the feature plot; there are no figures");
    Ok(())
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("--out: cannot make {}", folder.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("--out: cannot write {}", file.display()))
}

/// What rebuilds the report, as typed in a shell.
fn command(args: &Args) -> String {
    let mut words = vec!["ridgepoint".to_string(), "report".to_string()];
    words.extend(args.folders.iter().map(|folder| quoted(folder)));
    words.extend(["--out".to_string(), quoted(&args.out), "--width".to_string(), format!("{}in", args.width.inches())]);
    words.extend(args.allow_mixed.then(|| "--allow-mixed".to_string()));
    words.join(" ")
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_alphanumeric() || "./_-+=:@%,".contains(letter);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_typed() {
        let args = Args {
            folders: vec!["results/h100/quickstart".into(), "it's here".into()],
            out: "report".into(),
            width: Width::parse("6.75in").unwrap(),
            allow_mixed: true,
        };
        assert_eq!(
            command(&args),
            "ridgepoint report results/h100/quickstart 'it'\\''s here' --out report --width 6.75in --allow-mixed"
        );
    }
}
