//! Whether a model's weights fit into this machine's memory. A system that gives out more than it has kills the
//! program later, without a word; this says it before anything is read.

use super::matrix::Quantization;
use super::stored::{Catalogue, Encoding, Stored};
use super::weights::LoadOptions;
use anyhow::{Result, bail};
use mlx_rs::{Device, DeviceType, Dtype};
use std::path::Path;
use sysinfo::System;

/// Refuses a checkpoint whose weights, in the precision asked for, are larger than the memory that is free. Only for
/// the CPU: a graphics card has memory of its own.
pub fn check(catalogue: &Catalogue, options: &LoadOptions) -> Result<()> {
    if !matches!(Device::try_default()?.get_type()?, DeviceType::Cpu) {
        return Ok(());
    }
    let needed = catalogue.tensors.values().map(|tensor| loaded_bytes(tensor, options)).sum();
    free_bytes().map_or(Ok(()), |free| refuse_if_larger(&catalogue.path, needed, free))
}

fn refuse_if_larger(path: &Path, needed: u64, free: u64) -> Result<()> {
    if needed <= free {
        return Ok(());
    }
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    bail!(
        "{}: the weights take {:.1} GB of memory and {:.1} GB are free; take fewer bits (--quantize 4) or a smaller model",
        path.display(),
        gigabytes(needed),
        gigabytes(free)
    )
}

/// Memory that this process can still get, within the limit of its control group.
fn free_bytes() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let available = system.available_memory();
    let limit = system.cgroup_limits().map(|group| group.total_memory.saturating_sub(group.rss));
    Some(limit.map_or(available, |limit| limit.min(available))).filter(|bytes| *bytes > 0)
}

/// Size in memory. A little too large where `quantize` leaves scales of 16 bits, which it is for most checkpoints.
fn loaded_bytes(tensor: &Stored, options: &LoadOptions) -> u64 {
    let values: u64 = tensor.shape.iter().map(|size| *size as u64).product();
    let is_matrix = tensor.shape.len() == 2 && tensor.encoding != Encoding::U32;
    match (options.quantize, options.dtype) {
        (Some(Quantization { bits, group_size }), _) if is_matrix => {
            (values * bits as u64 / 8) + (values / group_size as u64 * 8)
        }
        // MLX's quantised checkpoints pack several values into a word; how many is not known here.
        (_, Some(_)) if tensor.encoding == Encoding::U32 => tensor.bytes,
        (_, Some(Dtype::Float32)) => values * 4,
        (_, Some(_)) => values * 2,
        (_, None) => tensor.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(encoding: Encoding, shape: &[i32], bytes: u64) -> Stored {
        let name_in_file = "a".into();
        Stored { file: 0, name_in_file, encoding, shape: shape.to_vec(), offset: 0, bytes, interleaved_heads: None }
    }

    #[test]
    fn sizes_follow_the_precision() {
        let blocks = tensor(Encoding::Q8_0, &[2, 64], 136);
        let options = |dtype, quantize| LoadOptions { dtype, quantize };
        assert_eq!(loaded_bytes(&blocks, &options(None, None)), 136);
        assert_eq!(loaded_bytes(&blocks, &options(Some(Dtype::Float32), None)), 512);
        assert_eq!(loaded_bytes(&blocks, &options(Some(Dtype::Bfloat16), None)), 256);
        let four_bits = Some(Quantization { bits: 4, group_size: 32 });
        assert_eq!(loaded_bytes(&blocks, &options(None, four_bits)), 64 + 4 * 8);
        assert_eq!(loaded_bytes(&tensor(Encoding::F32, &[64], 256), &options(None, four_bits)), 256);
    }

    #[test]
    fn too_large_a_model_is_refused_with_a_way_out() {
        assert!(refuse_if_larger(Path::new("a.gguf"), 5, 5).is_ok());
        let error = refuse_if_larger(Path::new("a.gguf"), 16_000_000_000, 2_040_000_000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a.gguf: the weights take 16.0 GB of memory and 2.0 GB are free; take fewer bits (--quantize 4) or a smaller model"
        );
        assert!(free_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
