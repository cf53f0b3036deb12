//! Our own kernels for NVIDIA GPUs, for what a step of few tokens is made of: products of a few rows with a weight matrix,
//! with what follows them, and attention with rotary embedding and cache. MLX compiles them where they run.
//!
//! MLX launches about 15 kernels a layer, and its few-row products reach a fraction of the memory's bandwidth; here a layer
//! is seven kernels, and the products read their weights once, close to memory speed. Like our operations on the CPU, they
//! compute a row in an order that does not depend on the rows beside it.
//!
//! Off unless the environment variable [`WANTED`] is set: `examples/cuda_check.rs` has not yet passed as a whole.
//!
//! Arrays must be float16 or bfloat16; everything else is left to MLX.
//!
//! How to add one: a `.cuh` file with a function of its template arguments, and a file like `product.rs` that names its
//! inputs and says which shapes it serves.

mod attention;
mod kernel;
mod product;

pub use attention::{Buffers, Heads, Position, attention};
pub use product::{Epilogue, Weights, product};

use mlx_rs::{Array, Device, DeviceType, Dtype};
use std::cell::Cell;
use std::sync::OnceLock;

/// Set to anything, it lets these kernels serve.
pub const WANTED: &str = "RIDGEPOINT_CUDA_KERNELS";

thread_local! {
    static OFF: Cell<bool> = const { Cell::new(false) };
}

/// Whether arrays like `x` are served here: 16-bit floats, an NVIDIA GPU is where MLX computes, and the kernels are wanted.
pub fn serves(x: &Array) -> bool {
    matches!(x.dtype(), Dtype::Bfloat16 | Dtype::Float16)
        && !OFF.get()
        && wanted()
        && matches!(Device::default().get_type(), Ok(DeviceType::Gpu))
}

/// Runs `work` on this thread with MLX's own operations only, to compare with.
pub fn without<R>(work: impl FnOnce() -> R) -> R {
    let before = OFF.replace(true);
    let result = work();
    OFF.set(before);
    result
}

fn wanted() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let mut found = false;
        // SAFETY: it writes one bool.
        std::env::var_os(WANTED).is_some() && unsafe { mlx_sys::mlx_cuda_is_available(&mut found) == 0 && found }
    })
}
