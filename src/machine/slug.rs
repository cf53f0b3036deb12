//! A machine's short name for `runs/<machine>/`, derived from what was detected.

use super::device::DeviceKind;

/// `linux-cpu-2core` for a CPU, the model of the GPU (`h100`, `rtx-4090`, `m3-ultra`) otherwise.
pub fn machine(device: DeviceKind, device_name: &str, cores: usize) -> String {
    match device {
        DeviceKind::Cpu => format!("{}-cpu-{cores}core", std::env::consts::OS),
        DeviceKind::Gpu => gpu(device_name),
    }
}

/// The words of a GPU's name that tell its model: neither its maker nor its memory and form factor.
fn gpu(name: &str) -> String {
    const MAKERS: [&str; 7] = ["nvidia", "geforce", "tesla", "quadro", "apple", "graphics", "device"];
    let lower = name.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let model: Vec<&str> =
        words.filter(|word| !MAKERS.contains(word)).take_while(|word| !is_form_factor(word)).collect();
    if model.is_empty() { String::from("gpu") } else { model.join("-") }
}

fn is_form_factor(word: &str) -> bool {
    let is_memory_size = word.strip_suffix("gb").is_some_and(|size| size.chars().all(|c| c.is_ascii_digit()));
    is_memory_size || ["sxm", "pcie", "hbm", "nvl"].iter().any(|start| word.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_named_by_their_model() {
        for (name, slug) in [
            ("NVIDIA H100 80GB HBM3", "h100"),
            ("NVIDIA H200", "h200"),
            ("NVIDIA A100-SXM4-80GB", "a100"),
            ("NVIDIA H100 PCIe", "h100"),
            ("NVIDIA GeForce RTX 4090", "rtx-4090"),
            ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada-generation"),
            ("Tesla T4", "t4"),
            ("NVIDIA L40S", "l40s"),
            ("Apple M3 Ultra", "m3-ultra"),
            ("", "gpu"),
        ] {
            assert_eq!(machine(DeviceKind::Gpu, name, 8), slug, "{name}");
        }
    }

    #[test]
    fn a_cpu_is_named_by_system_and_cores() {
        assert_eq!(machine(DeviceKind::Cpu, "AMD EPYC", 2), format!("{}-cpu-2core", std::env::consts::OS));
    }
}
