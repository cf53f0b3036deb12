//! What MLX's CPU backend composes of many small operations, done in one each (Linux, float32): the norm with the
//! residual before it, attention with rotary embedding and cache, and the gated activation.
//!
//! MLX has fused kernels for these on GPUs only. On the CPU a layer falls apart into about a hundred operations of a
//! few microseconds, and a step of a small model spends as long on them as on reading its weights.
//!
//! Like our products (`src/blas`), every operation computes a token's row in an order that does not depend on how many
//! rows are computed with it.
//!
//! [`cuda`] holds what serves NVIDIA GPUs.
//!
//! How to add one: a file with a `#[repr(C)]` parameter block, the kernel, and the function that adds it to the graph
//! through [`host_op::add`].

mod activation;
mod again;
mod attention;
pub mod bytes;
pub mod cuda;
pub mod grouped;
mod host_op;
mod linear;
mod norm;
#[cfg(test)]
mod tests;
mod vector;

pub use activation::swiglu;
pub use attention::{Buffers, Heads, Rotation, attention};
pub use linear::linear;
pub use norm::{add_rms_norm, rms_norm};

use mlx_rs::{Array, Device, DeviceType, Dtype};

/// Whether operations on arrays like `x` can be fused: float32, and the CPU is where MLX computes.
pub fn serves(x: &Array) -> bool {
    x.dtype() == Dtype::Float32 && matches!(Device::default().get_type(), Ok(DeviceType::Cpu))
}
