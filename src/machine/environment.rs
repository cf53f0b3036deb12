//! The environment stamp: what has to be known about a machine and a build to judge or repeat its numbers. It becomes
//! one entry of `launches` in `environment.json`.

use super::device::{DeviceKind, own_defaults};
use super::{mlx, slug};
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use sysinfo::System;

/// One start of the program on one machine.
#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// The machine's name in `runs/<machine>/`: derived from what was detected, or given by `--machine`.
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
    /// Memory that this process may use, in bytes.
    pub memory_bytes: u64,
    /// Operating system, version and processor architecture.
    pub os: String,
    /// MLX's version.
    pub mlx_version: String,
    /// Which build of MLX runs.
    pub mlx_build: MlxBuild,
    /// What computes float32 products on the CPU, and 16-bit ones of few rows on an NVIDIA GPU.
    pub blas: Blas,
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
}

/// What computes float32 products on the CPU, and 16-bit ones of few rows on an NVIDIA GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blas {
    /// `ridgepoint` for this program's own products, else the library's name and version.
    pub name: String,
    /// Instruction set of our own products, `cuda` on an NVIDIA GPU; empty where a library does them all.
    pub kernel: &'static str,
    /// Threads of a product, where known.
    pub threads: Option<usize>,
    /// The library for what we do not compute ourselves; null if there is none.
    pub library: Option<String>,
    /// Whether that library is netlib's reference code, about ten times slower than the others.
    pub is_reference: bool,
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
        let mut system = describe_system()?;
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
        Ok(Environment {
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
            blas: blas(device),
            variables: variables(device),
            ridgepoint_version: env!("CARGO_PKG_VERSION"),
            git_commit: option_env!("RIDGEPOINT_COMMIT"),
            build_profile: if cfg!(debug_assertions) { "debug" } else { "release" },
            time_utc: jiff::Timestamp::now().round(jiff::Unit::Second).expect("a second is a valid unit").to_string(),
        })
    }

    /// MLX's version and build in words, for the identity of a results folder.
    pub fn mlx(&self) -> String {
        format!("{} {}", self.mlx_version, self.mlx_build)
    }
}

impl fmt::Display for MlxBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MlxBuild::Cpu => "cpu",
            MlxBuild::Cuda => "cuda",
            MlxBuild::Metal => "metal",
        })
    }
}

#[cfg(target_os = "linux")]
fn blas(device: DeviceKind) -> Blas {
    let found = crate::blas::describe();
    let kernel = if device == DeviceKind::Gpu && !found.kernel.is_empty() { "cuda" } else { found.kernel };
    // Only the file's name: its folder says nothing on another machine.
    let library = found.system_library.map(|path| file_name(Path::new(&path)).into_owned());
    Blas { name: found.name, kernel, threads: Some(found.threads), library, is_reference: found.is_reference }
}

#[cfg(not(target_os = "linux"))]
fn blas(_device: DeviceKind) -> Blas {
    let name = String::from("Accelerate");
    Blas { name: name.clone(), kernel: "", threads: None, library: Some(name), is_reference: false }
}

/// Memory that this process may use: the machine's, or less where a control group limits it.
fn usable_memory(system: &System) -> u64 {
    let limit = system.cgroup_limits().map(|limits| limits.total_memory).filter(|&bytes| bytes > 0);
    limit.map_or(system.total_memory(), |limit| limit.min(system.total_memory()))
}

/// Memory that is free for this process now, in bytes.
pub fn memory_available() -> Result<u64> {
    let mut system = describe_system()?;
    system.refresh_memory();
    let limit = system.cgroup_limits().map(|limits| limits.free_memory).filter(|&bytes| bytes > 0);
    Ok(limit.map_or(system.available_memory(), |limit| limit.min(system.available_memory())))
}

fn describe_system() -> Result<System> {
    System::new().context("cannot read the machine's description from the operating system")
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
fn variables(device: DeviceKind) -> BTreeMap<String, String> {
    let matters =
        |name: &str| name.ends_with("_NUM_THREADS") || name.starts_with("MLX_") || name == "OPENBLAS_CORETYPE";
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| matters(name) && !value.starts_with('/'))
        .filter(|(name, _)| device == DeviceKind::Gpu || !own_defaults().contains(&name.as_str()))
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
        let environment = Environment::detect(DeviceKind::Cpu, None).unwrap();
        let stamp = serde_json::to_value(&environment).unwrap();
        assert_eq!(stamp["device"], "cpu");
        assert!(stamp["memory_bytes"].as_u64().unwrap() > 1 << 28);
        assert!(stamp["mlx_version"].as_str().unwrap().starts_with("0."), "{stamp}");
        assert!(stamp["time_utc"].as_str().unwrap().ends_with('Z'));
        assert!(!stamp.to_string().contains(env!("CARGO_MANIFEST_DIR")), "{stamp}");
        let library = stamp["blas"]["library"].as_str().unwrap();
        assert!(!library.contains('/') && !library.is_empty(), "{stamp}");
    }

    #[test]
    fn a_given_name_replaces_the_derived_one() {
        assert_eq!(Environment::detect(DeviceKind::Cpu, Some("lab-7")).unwrap().machine, "lab-7");
    }
}
