//! Whether a model fits into this machine's memory. A system that gives out more than it has kills the program later,
//! without a word; this says it before anything is read.

use super::config::Config;
use super::stored::{Catalogue, Encoding, Stored};
use super::transformer::Transformer;
use super::weights::LoadOptions;
use crate::scenario::Quantization;
use anyhow::{Result, bail};
use mlx_rs::{Device, DeviceType, Dtype};
use std::path::Path;
use sysinfo::System;

/// Refuses a checkpoint whose weights, in the precision asked for, are larger than the memory that is free. Only for
/// the CPU: a graphics card has memory of its own.
pub fn check(catalogue: &Catalogue, options: &LoadOptions) -> Result<()> {
    let needed = bytes(catalogue, options);
    check_bytes(&catalogue.path, "the weights", needed, "take fewer bits (--quantize 4) or a smaller model")
}

/// Bytes of a checkpoint's weights in the precision asked for.
fn bytes(catalogue: &Catalogue, options: &LoadOptions) -> u64 {
    catalogue.tensors.values().map(|tensor| loaded_bytes(tensor, options)).fold(0, u64::saturating_add)
}

/// The same, and what is taken at most while they are loaded: one of them as values, as an array, and in the order that
/// products read as well.
#[cfg(target_os = "linux")]
pub fn while_loading(catalogue: &Catalogue, options: &LoadOptions) -> (u64, u64) {
    let all = bytes(catalogue, options);
    let sizes = catalogue.tensors.values().map(|tensor| loaded_bytes(tensor, options));
    (all, all.saturating_add(sizes.max().unwrap_or(0).saturating_mul(3)))
}

/// The same where tensors are held one at a time, behind `pending` bytes at most of others.
pub fn check_one_by_one(catalogue: &Catalogue, options: &LoadOptions, pending: u64) -> Result<()> {
    let sizes = || catalogue.tensors.values().map(|tensor| loaded_bytes(tensor, options));
    let all = sizes().fold(0, u64::saturating_add);
    let needed = all.min(sizes().max().unwrap_or(0).saturating_add(pending));
    check_bytes(&catalogue.path, "the tensors held at a time", needed, "close other programs or use a larger machine")
}

/// The same for the keys and values of `tokens` tokens, held in `dtype`.
pub fn check_cache(path: &Path, config: &Config, dtype: Dtype, tokens: usize) -> Result<()> {
    let values = [config.num_layers, config.num_kv_heads, config.head_dim].map(|size| size as u64);
    let token_bytes = 2 * values.iter().product::<u64>() * if dtype == Dtype::Float32 { 4 } else { 2 };
    let what = format!("the keys and values of {tokens} tokens");
    check_bytes(path, &what, token_bytes.saturating_mul(tokens as u64), "lower the number of tokens")
}

/// Refuses a text that would outgrow the context that a model was made for, or the memory that is free.
pub fn check_room(path: &Path, model: &Transformer, tokens: usize) -> Result<()> {
    let most = model.config.max_context as usize;
    if tokens <= most {
        return check_cache(path, &model.config, model.dtype(), tokens);
    }
    Err(crate::usage!(
        "{}: {tokens} tokens of prompt, text and draft exceed its context of {most}; shorten the prompt or lower the number of tokens",
        path.display()
    ))
}

/// Refuses `what` at `path` if it needs more than the memory that is free.
pub fn check_bytes(path: &Path, what: &str, needed: u64, way_out: &str) -> Result<()> {
    if !matches!(Device::try_default()?.get_type()?, DeviceType::Cpu) {
        return Ok(());
    }
    free_bytes().map_or(Ok(()), |free| refuse_if_larger(path, what, needed, free, way_out))
}

fn refuse_if_larger(path: &Path, what: &str, needed: u64, free: u64, way_out: &str) -> Result<()> {
    if needed <= free {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
    bail!(
        "{}: {what} take {:.2} GiB of memory and {:.2} GiB are free; {way_out}",
        path.display(),
        gib(needed),
        gib(free)
    )
}

/// Memory that this process can still get, within the limit of its control group and its own (`ulimit -v`).
fn free_bytes() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let group = system.cgroup_limits().map(|group| group.total_memory.saturating_sub(group.rss));
    let limits = [Some(system.available_memory()).filter(|bytes| *bytes > 0), group, address_space()];
    limits.into_iter().flatten().min()
}

/// What of this process's limit on addresses is left, less what threads and buffers need beside the arrays.
#[cfg(target_os = "linux")]
fn address_space() -> Option<u64> {
    const RESERVE: u64 = 256 << 20;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills the struct that it is given.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    if !known || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let used: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(limit.rlim_cur.saturating_sub(used * 1024 + RESERVE))
}

#[cfg(not(target_os = "linux"))]
fn address_space() -> Option<u64> {
    None
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
    fn what_does_not_fit_is_refused_with_a_way_out() {
        let refuse =
            |needed, free| refuse_if_larger(Path::new("a.gguf"), "the weights", needed, free, "take fewer bits");
        assert!(refuse(5, 5).is_ok());
        assert_eq!(
            refuse(16 << 30, 2190433321).unwrap_err().to_string(),
            "a.gguf: the weights take 16.00 GiB of memory and 2.04 GiB are free; take fewer bits"
        );
        assert!(free_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
