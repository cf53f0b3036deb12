//! The environment stamp: what has to be known about a machine and a build to judge or repeat its numbers.

use super::blas_in_use::{self, Blas};
use super::device::DeviceKind;
use super::{mlx, slug};
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use sysinfo::System;

/// Raised whenever a field of `environment.json` or a column of a CSV beside it changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// Written to `environment.json` beside every set of results.
#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// [`SCHEMA_VERSION`] of the files written.
    pub schema_version: u32,
    /// The machine's name in `results/<machine>/`: derived from what was detected, or given by `--machine`.
    pub machine: String,
    /// Where MLX computes.
    pub device: DeviceKind,
    /// The device by its maker's name.
    pub device_name: String,
    /// Memory of the device in bytes: the GPU's own, or the machine's.
    pub device_memory_bytes: u64,
    /// The processor by its maker's name.
    pub cpu_model: String,
    /// Logical cores that this process may use.
    pub cores: usize,
    /// The machine's memory, in bytes.
    pub memory_bytes: u64,
    /// Operating system, version and processor architecture.
    pub os: String,
    /// MLX's version.
    pub mlx_version: String,
    /// Which build of MLX runs.
    pub mlx_build: MlxBuild,
    /// Who provides `cblas_sgemm` to MLX's CPU backend, the one called first in front.
    pub blas: Vec<Blas>,
    /// Threads of a matrix product on the CPU: those of the BLAS where it tells, else the cores.
    pub threads: usize,
    /// Environment variables in force that change the number of threads or MLX's behaviour.
    pub variables: BTreeMap<String, String>,
    /// This program's version.
    pub ridgepoint_version: &'static str,
    /// The commit that a release build was made from, with `-dirty` if sources were changed; null if not known.
    pub git_commit: Option<&'static str>,
    /// `release` or `debug`: times of a debug build mean nothing.
    pub build_profile: &'static str,
    /// When the stamp was made, UTC, RFC 3339.
    pub time_utc: String,
    /// SHA-256 of the scenario, filled in by the caller.
    pub scenario_hash: Option<String>,
    /// SHA-256 of the prompts, filled in by the caller.
    pub prompt_hash: Option<String>,
    /// SHA-256 of each model's weights by the model's name, filled in by the caller.
    pub weights_hash: BTreeMap<String, String>,
}

/// The builds of MLX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MlxBuild {
    Cpu,
    Cuda,
    Metal,
}

impl Environment {
    /// Describes this machine with MLX computing on `device`. `machine` replaces the derived name.
    pub fn detect(device: DeviceKind, machine: Option<&str>) -> Result<Environment> {
        let mut system = System::new().context("cannot read the machine's description from the operating system")?;
        system.refresh_memory();
        system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
        let cpu_model = cpu_model(&system);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory_bytes = usable_memory(&system);
        let info = match device {
            DeviceKind::Cpu => mlx::DeviceInfo { name: Some(cpu_model.clone()), memory_bytes: Some(memory_bytes) },
            DeviceKind::Gpu => mlx::device_info(device),
        };
        let device_name = info.name.unwrap_or_else(|| String::from("unknown"));
        let blas = blas_in_use::in_use();
        Ok(Environment {
            schema_version: SCHEMA_VERSION,
            machine: machine.map_or_else(|| slug::machine(device, &device_name, cores), String::from),
            device,
            device_memory_bytes: info.memory_bytes.unwrap_or(memory_bytes),
            device_name,
            cpu_model,
            cores,
            memory_bytes,
            os: operating_system(),
            mlx_version: mlx::version(),
            mlx_build: mlx_build(),
            threads: blas.iter().find_map(|blas| blas.threads).unwrap_or(cores),
            blas,
            variables: variables(),
            ridgepoint_version: env!("CARGO_PKG_VERSION"),
            git_commit: option_env!("RIDGEPOINT_COMMIT"),
            build_profile: if cfg!(debug_assertions) { "debug" } else { "release" },
            time_utc: jiff::Timestamp::now().round(jiff::Unit::Second).expect("a second is a valid unit").to_string(),
            scenario_hash: None,
            prompt_hash: None,
            weights_hash: BTreeMap::new(),
        })
    }

    /// Writes `environment.json` into `folder`, complete or not at all.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join("environment.json");
        let temporary = folder.join(".environment.json.tmp");
        let mut text = serde_json::to_string_pretty(self).context("environment.json")?;
        text.push('\n');
        std::fs::write(&temporary, text).with_context(|| format!("cannot write {}", temporary.display()))?;
        std::fs::rename(&temporary, &path).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Memory that this process may use: the machine's, or less where a control group limits it.
fn usable_memory(system: &System) -> u64 {
    let limit = system.cgroup_limits().map(|limits| limits.total_memory).filter(|&bytes| bytes > 0);
    limit.map_or(system.total_memory(), |limit| limit.min(system.total_memory()))
}

fn cpu_model(system: &System) -> String {
    let brand = system.cpus().first().map(|cpu| cpu.brand().trim().to_string()).unwrap_or_default();
    if brand.is_empty() { System::cpu_arch() } else { brand }
}

fn operating_system() -> String {
    let name = System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_string());
    format!("{name}, {}", std::env::consts::ARCH)
}

/// Only settings: a value that is a path says nothing on another machine.
fn variables() -> BTreeMap<String, String> {
    let matters =
        |name: &str| name.ends_with("_NUM_THREADS") || name.starts_with("MLX_") || name == "OPENBLAS_CORETYPE";
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| matters(name) && !value.starts_with('/'))
        .collect()
}

/// Metal is linked in statically; the other two builds are told apart by the CUDA libraries that one of them loads.
fn mlx_build() -> MlxBuild {
    if mlx::metal_is_available() {
        MlxBuild::Metal
    } else if loaded_libraries().iter().any(|path| file_name(path).starts_with("libcublasLt.so")) {
        MlxBuild::Cuda
    } else {
        MlxBuild::Cpu
    }
}

/// The `libmlx` that this process runs; none where MLX is linked in statically.
pub fn mlx_library() -> Option<PathBuf> {
    loaded_libraries().into_iter().find(|path| file_name(path).starts_with("libmlx.so"))
}

/// The shared libraries of this process, on Linux; empty elsewhere.
fn loaded_libraries() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    libraries_in(&maps)
}

fn libraries_in(maps: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        maps.lines().filter_map(|line| line.find('/').map(|start| PathBuf::from(&line[start..]))).collect();
    paths.retain(|path| file_name(path).contains(".so"));
    paths.dedup();
    paths
}

fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_the_process_map() {
        let maps = "\
55d0-55d1 r--p 00000000 08:01 12 /opt/my app/target/ridgepoint
7f10-7f11 r--p 00000000 08:01 13 /opt/my app/.deps/mlx/lib/libmlx.so
7f11-7f12 r-xp 00001000 08:01 13 /opt/my app/.deps/mlx/lib/libmlx.so
7f20-7f21 rw-p 00000000 00:00 0
7f30-7f31 r--p 00000000 08:01 14 /usr/lib/libcublasLt.so.13.1
7ffd-7ffe rw-p 00000000 00:00 0 [stack]";
        assert_eq!(
            libraries_in(maps),
            [PathBuf::from("/opt/my app/.deps/mlx/lib/libmlx.so"), PathBuf::from("/usr/lib/libcublasLt.so.13.1")]
        );
    }

    #[test]
    fn the_stamp_is_complete_and_names_no_path() {
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment::detect(DeviceKind::Cpu, None).unwrap();
        environment.write(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("environment.json")).unwrap();
        let stamp: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(stamp["schema_version"], 1);
        assert_eq!(stamp["device"], "cpu");
        assert!(stamp["memory_bytes"].as_u64().unwrap() > 1 << 28);
        assert!(stamp["mlx_version"].as_str().unwrap().starts_with("0."), "{text}");
        assert!(stamp["time_utc"].as_str().unwrap().ends_with('Z'));
        assert!(!text.contains(env!("CARGO_MANIFEST_DIR")), "{text}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-written is left");
    }

    #[test]
    fn a_given_name_replaces_the_derived_one() {
        assert_eq!(Environment::detect(DeviceKind::Cpu, Some("lab-7")).unwrap().machine, "lab-7");
    }
}
