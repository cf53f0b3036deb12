//! Examines a machine: what runs, how fast it copies, and what should be mended, each with the command that does it.

use super::ceilings::{self, CopyBandwidth};
use super::device::{self, DeviceKind};
use super::environment::{Environment, MlxBuild, mlx_library};
use anyhow::{Context, Result, ensure};
use mlx_rs::{Array, ops};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What was found on a machine that can run models.
#[derive(Debug, Clone, Serialize)]
pub struct Examination {
    /// The stamp that results would carry.
    pub environment: Environment,
    /// The MLX library that runs; null where it is part of the program.
    pub mlx_library: Option<PathBuf>,
    /// Memory that is free now, in bytes.
    pub memory_available_bytes: u64,
    /// How fast MLX copies on this device.
    pub copy_bandwidth: CopyBandwidth,
    /// How fast memory is read, and what products reach of it; null where a GPU computes.
    #[cfg(target_os = "linux")]
    pub reading: Option<Reading>,
    /// What should be mended, the most important first.
    pub findings: Vec<Finding>,
}

/// Reading memory with all threads of the products, in 10^9 bytes a second.
#[cfg(target_os = "linux")]
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reading {
    /// A plain streaming read.
    pub plain_gb_s: f64,
    /// Weights that products of one row read.
    pub products_gb_s: f64,
}

/// Something that should be mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub problem: String,
    /// The command that mends it.
    pub fix: String,
}

impl Finding {
    /// A finding from two texts.
    pub fn new(problem: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { problem: problem.into(), fix: fix.into() }
    }
}

/// Selects the device, has it compute, and measures its copy bandwidth for about `budget`. A machine that cannot
/// compute is an error.
pub fn examine(choice: Option<DeviceKind>, machine: Option<&str>, budget: Duration) -> Result<Examination> {
    let device = device::select(choice)?;
    compute().with_context(|| format!("MLX cannot compute on the {device}"))?;
    let environment = Environment::detect(device, machine)?;
    let copy_bandwidth = ceilings::copy_bandwidth(device, environment.device_memory_bytes, budget)
        .with_context(|| format!("MLX cannot copy on the {device}"))?;
    #[cfg(target_os = "linux")]
    let reading = (device == DeviceKind::Cpu).then(|| reading(budget / 2)).transpose()?;
    let has_nvidia = Path::new("/proc/driver/nvidia/version").exists();
    Ok(Examination {
        mlx_library: mlx_library(),
        memory_available_bytes: super::environment::memory_available()?,
        copy_bandwidth,
        #[cfg(target_os = "linux")]
        reading,
        findings: findings(&environment, has_nvidia),
        environment,
    })
}

#[cfg(target_os = "linux")]
fn reading(budget: Duration) -> Result<Reading> {
    let threads = crate::blas::describe().threads;
    let plain_gb_s =
        super::bandwidth::streaming_read_gb_s(super::bandwidth::BEYOND_CACHES, threads, budget.as_secs_f64());
    Ok(Reading { plain_gb_s, products_gb_s: super::bandwidth::products_gb_s(budget)? })
}

/// A small product with a known result.
fn compute() -> Result<()> {
    let row = Array::from_slice(&[1.0f32, 2.0, 3.0], &[1, 3]);
    let product = ops::matmul(&row, ops::transpose(&row)?)?.try_item_exact::<f32>()?;
    ensure!(product == 14.0, "1·1 + 2·2 + 3·3 gave {product}");
    Ok(())
}

fn findings(environment: &Environment, has_nvidia: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if environment.build_profile == "debug" {
        findings.push(Finding::new("this is a debug build: its times mean nothing", "cargo build --release"));
    }
    if environment.blas.is_reference {
        findings.push(Finding::new(
            "MLX's CPU products are done by netlib's reference BLAS, about ten times slower than OpenBLAS",
            // Without the stamp the set-up looks at everything again, and links OpenBLAS in the place of the other.
            "rm -f .deps/stamp-* && scripts/setup",
        ));
    }
    match environment.mlx_build {
        MlxBuild::Cpu if has_nvidia => findings.push(Finding::new(
            "there is an NVIDIA driver, but this is MLX's CPU build",
            "scripts/setup --cuda && cargo build --release",
        )),
        MlxBuild::Cuda if environment.device == DeviceKind::Cpu && !has_nvidia => findings.push(Finding::new(
            "this is MLX's CUDA build, but there is no NVIDIA driver",
            "scripts/setup --cpu && cargo build --release",
        )),
        _ => {}
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Environment {
        let mut environment = Environment::detect(DeviceKind::Cpu, None).unwrap();
        environment.build_profile = "release";
        environment.blas.is_reference = false;
        environment.mlx_build = MlxBuild::Cpu;
        environment
    }

    #[test]
    fn a_sound_machine_has_no_findings() {
        assert_eq!(findings(&sound(), false), []);
    }

    #[test]
    fn each_fault_is_found_with_its_command() {
        type Fault = (fn(&mut Environment), bool, &'static str);
        let faults: [Fault; 4] = [
            (|environment| environment.build_profile = "debug", false, "cargo build --release"),
            (|environment| environment.blas.is_reference = true, false, "rm -f .deps/stamp-* && scripts/setup"),
            (|_| (), true, "scripts/setup --cuda && cargo build --release"),
            (
                |environment| environment.mlx_build = MlxBuild::Cuda,
                false,
                "scripts/setup --cpu && cargo build --release",
            ),
        ];
        for (break_it, has_nvidia, fix) in faults {
            let mut environment = sound();
            break_it(&mut environment);
            let fixes: Vec<String> =
                findings(&environment, has_nvidia).into_iter().map(|finding| finding.fix).collect();
            assert_eq!(fixes, [fix]);
        }
    }

    #[test]
    fn this_machine_can_be_examined() {
        let found = examine(Some(DeviceKind::Cpu), Some("here"), Duration::ZERO).unwrap();
        assert_eq!(found.environment.machine, "here");
        assert!(found.copy_bandwidth.best_gb_s > 0.0);
        assert!(found.memory_available_bytes <= found.environment.memory_bytes);
    }
}
