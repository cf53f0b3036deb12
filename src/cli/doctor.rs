//! `ridgepoint doctor`: what this machine has, and the command that mends what is missing.

use super::Global;
use crate::machine::doctor::{Examination, Finding, examine};
use crate::model::hub::{self, CachedModel};
use anyhow::Result;
use indicatif::DecimalBytes;
use serde::Serialize;
use std::time::Duration;

/// Show what this machine has, and the command that mends what is missing
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    examination: Examination,
    /// Those that can be loaded: caches also hold repositories that other programs left incomplete.
    models: Vec<CachedModel>,
}

/// Examines and prints; an error only if no model could run here.
pub fn run(args: &Args, global: &Global) -> Result<()> {
    let mut examination = examine(global.device, None, Duration::from_secs(2))?;
    let mut models = hub::available()?;
    models.retain(|model| model.missing.is_none());
    if models.is_empty() {
        examination.findings.push(Finding::new("there is no model yet", "scripts/fetch-model"));
    }
    let report = Report { examination, models };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

fn print(report: &Report) {
    let found = &report.examination;
    let environment = &found.environment;
    let library = found.mlx_library.as_ref().map_or(String::new(), |path| format!(" ({})", path.display()));
    let bytes = |count: u64| DecimalBytes(count).to_string();
    let commit = environment.git_commit.map_or(String::new(), |commit| format!(", commit {commit}"));
    line("device", &format!("{}: {}", environment.device, environment.device_name));
    line("machine", &environment.machine);
    line("cpu", &format!("{}, {} cores", environment.cpu_model, environment.cores));
    line("memory", &format!("{}, {} free", bytes(environment.memory_bytes), bytes(found.memory_available_bytes)));
    line("system", &environment.os);
    line("MLX", &format!("{} build{library}", environment.mlx()));
    line("BLAS", &blas(report));
    line("threads", &environment.blas.threads.map_or(String::from("chosen by the BLAS"), |count| count.to_string()));
    let copy = &found.copy_bandwidth;
    let side_by_side = if copy.streams == 1 { String::new() } else { format!(", {} side by side", copy.streams) };
    line("copy", &format!("{:.1} GB/s read + write{side_by_side}", copy.best_gb_s));
    #[cfg(target_os = "linux")]
    if let Some(reading) = found.reading {
        let share = 100.0 * reading.products_gb_s / reading.plain_gb_s;
        let (plain, products) = (reading.plain_gb_s, reading.products_gb_s);
        line("read", &format!("{plain:.1} GB/s, of which products of one row reach {products:.1} ({share:.0} %)"));
    }
    line("ridgepoint", &format!("{} ({}{commit})", environment.ridgepoint_version, environment.build_profile));
    let mut title = "models";
    for model in &report.models {
        line(std::mem::take(&mut title), &format!("{} ({})", model.model, bytes(model.size_bytes)));
    }
    for Finding { problem, fix } in &found.findings {
        println!("\n! {problem}\n  run: {fix}");
    }
    if found.findings.is_empty() {
        println!("\nready");
    }
}

fn blas(report: &Report) -> String {
    let blas = &report.examination.environment.blas;
    let kernel = if blas.kernel.is_empty() { String::new() } else { format!(" ({})", blas.kernel) };
    match &blas.library {
        Some(library) if library != &blas.name => format!("{}{kernel}, before {library}", blas.name),
        _ => format!("{}{kernel}", blas.name),
    }
}

fn line(title: &str, text: &str) {
    println!("{title:<11} {text}");
}
