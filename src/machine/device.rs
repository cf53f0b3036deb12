//! The device that MLX computes on.

use super::mlx;
use crate::usage;
use anyhow::Result;
use mlx_rs::{Device, DeviceType};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::OnceLock;

/// Where MLX computes.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor
    Cpu,
    /// An NVIDIA GPU (CUDA) or Apple's (Metal)
    Gpu,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Gpu => "gpu",
        })
    }
}

/// Makes the chosen device MLX's default for the whole process and says which it is. Without a choice that is the
/// GPU if there is one, else the CPU. A GPU that is asked for and not there is a usage error. On an NVIDIA GPU it leaves room beside
/// what MLX keeps.
pub fn select(choice: Option<DeviceKind>) -> Result<DeviceKind> {
    let kind = choose(choice, mlx::is_available(DeviceKind::Gpu), cfg!(target_os = "macos"))?;
    let device_type = match kind {
        DeviceKind::Cpu => DeviceType::Cpu,
        DeviceKind::Gpu => DeviceType::Gpu,
    };
    Device::set_default(&Device::new(device_type, 0));
    #[cfg(target_os = "linux")]
    if kind == DeviceKind::Gpu {
        leave_room()?;
    }
    Ok(kind)
}

/// The variables that [`set_cuda_defaults`] set.
static OWN_DEFAULTS: OnceLock<Vec<&str>> = OnceLock::new();

/// Sets what MLX reads from the environment on an NVIDIA GPU, where nobody has. Call it before any other thread is started.
///
/// There is room for more than the 400 graphs and 256 plans of attention that MLX keeps by itself, and no error when even more
/// are needed, as by a sweep's many shapes or a growing cache.
pub fn set_cuda_defaults() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let defaults = [
        ("MLX_CUDA_GRAPH_CACHE_SIZE", "20000"),
        ("MLX_CUDA_SDPA_CACHE_SIZE", "4096"),
        ("MLX_ENABLE_CACHE_THRASHING_CHECK", "0"),
    ];
    OWN_DEFAULTS.get_or_init(|| {
        let free = defaults.into_iter().filter(|(name, _)| std::env::var_os(name).is_none());
        free.map(|(name, value)| {
            // SAFETY: before any thread is started.
            unsafe { std::env::set_var(name, value) };
            name
        })
        .collect()
    });
}

/// The variables that this program set for itself: they mean nothing on a CPU, and are not meant for other programs.
pub fn own_defaults() -> &'static [&'static str] {
    OWN_DEFAULTS.get().map_or(&[], Vec::as_slice)
}

/// Whether MLX computes on an NVIDIA GPU: on Linux, any GPU that it knows.
pub fn on_nvidia_gpu() -> bool {
    cfg!(target_os = "linux") && matches!(Device::default().get_type(), Ok(DeviceType::Gpu))
}

/// MLX would fill nearly all of a GPU's memory with what it frees, and CUDA's graphs and plans would have no room.
#[cfg(target_os = "linux")]
fn leave_room() -> Result<()> {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    let found = mlx_rs::memory::memory_limit()?;
    mlx_rs::memory::set_memory_limit(*LIMIT.get_or_init(|| found / 10 * 9))?;
    Ok(())
}

fn choose(choice: Option<DeviceKind>, has_gpu: bool, on_macos: bool) -> Result<DeviceKind> {
    match choice {
        Some(DeviceKind::Gpu) if !has_gpu && on_macos => {
            Err(usage!("--device gpu: MLX finds no Metal device here; use --device cpu"))
        }
        Some(DeviceKind::Gpu) if !has_gpu => Err(usage!(
            "--device gpu: this build of MLX finds no GPU; with an NVIDIA GPU run scripts/setup --cuda and build again, \
             else use --device cpu"
        )),
        Some(kind) => Ok(kind),
        None => Ok(if has_gpu { DeviceKind::Gpu } else { DeviceKind::Cpu }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gpu_is_the_default_where_there_is_one() {
        assert_eq!(choose(None, true, false).unwrap(), DeviceKind::Gpu);
        assert_eq!(choose(None, false, false).unwrap(), DeviceKind::Cpu);
        assert_eq!(choose(Some(DeviceKind::Cpu), true, false).unwrap(), DeviceKind::Cpu);
        assert_eq!(choose(Some(DeviceKind::Gpu), true, true).unwrap(), DeviceKind::Gpu);
    }

    #[test]
    fn a_missing_gpu_is_a_usage_error_that_says_what_to_run() {
        let error = choose(Some(DeviceKind::Gpu), false, false).unwrap_err();
        assert_eq!(crate::error::exit_code(&error), 2);
        assert!(error.to_string().contains("scripts/setup --cuda"), "{error}");
        let error = choose(Some(DeviceKind::Gpu), false, true).unwrap_err();
        assert!(!error.to_string().contains("--cuda"), "{error}");
    }

    #[test]
    fn selecting_the_cpu_makes_it_the_default_device() {
        assert_eq!(select(Some(DeviceKind::Cpu)).unwrap(), DeviceKind::Cpu);
        assert!(matches!(Device::default().get_type().unwrap(), DeviceType::Cpu));
        assert!(!on_nvidia_gpu());
    }
}
