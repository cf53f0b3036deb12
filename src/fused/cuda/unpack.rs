//! Quantised weights as 16-bit floats, for products of so many rows that multiplying costs more than reading.

use super::kernel::{Kernel, Launch};
use super::product::Weights;
use super::serves;
use anyhow::Result;
use mlx_rs::Array;
use std::sync::OnceLock;

const THREADS: i32 = 256;
/// Times that a thread writes eight values.
const UNROLL: i32 = 4;

/// `scale * value + bias` of quantised weights: `[outputs, inputs]` in the type of the scales. Nothing where bits, groups or
/// types are not served, and of dense weights. Lazy.
pub fn unpacked(weights: Weights) -> Result<Option<Array>> {
    let Some((scales, biases, group, bits)) = weights.quantized else { return Ok(None) };
    let [outputs, inputs] = [weights.weight.dim(0), weights.weight.dim(1) * 32 / bits];
    let known = matches!(bits, 4 | 8) && matches!(group, 32 | 64 | 128);
    if !(known && scales.dtype() == biases.dtype() && serves(scales)) {
        return Ok(None);
    }
    let eighths = outputs as i64 * inputs as i64 / 8;
    let launch = Launch {
        blocks: [(eighths as u64).div_ceil((THREADS * UNROLL) as u64) as i32, 1, 1],
        threads: THREADS,
        dtype: scales.dtype(),
        numbers: &[(c"BITS", bits), (c"GROUP", group), (c"U", UNROLL)],
    };
    let [y] = kernel().add(&[weights.weight, scales, biases], [(&[outputs, inputs], scales.dtype())], &launch)?;
    Ok(Some(y))
}

fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| {
        let headers = [include_str!("common.cuh"), include_str!("unpack.cuh")];
        let source = "ridgepoint::unpack<T, BITS, GROUP, U>(
            w, scales, biases, y, size_t(w_shape[0]) * w_shape[1] * 4 / BITS);";
        Kernel::new("unpack", &[c"w", c"scales", c"biases"], &[c"y"], &headers, source, true)
    })
}
