//! Our own kernels for NVIDIA GPUs, for what a step of few tokens is made of: products of a few rows with a weight matrix, with
//! the norm before them and what follows them, quantised weights unpacked for products of many rows, and attention with rotary
//! embedding and cache. MLX compiles them where they run, and `nvrtc` caches what comes out.
//!
//! MLX launches about 15 kernels a layer, and its few-row products reach a fraction of the memory's bandwidth; here, in
//! bfloat16 and for up to 32 rows, a layer is five kernels, and the products read their weights once, close to memory speed. Like
//! our operations on the CPU, they compute a row in an order that does not depend on the rows beside it.
//!
//! Arrays must be float16 or bfloat16; everything else is left to MLX, and so is all where the system's library was
//! chosen instead of ours. `examples/cuda_check.rs` compares them with MLX's operations on a machine with such a GPU.
//!
//! How to add one: a `.cuh` file with a function of its template arguments, and a file like `product.rs` that names its
//! inputs and says which shapes it serves.

mod attention;
mod cubin;
mod kernel;
mod nvrtc;
mod product;
mod unpack;

pub use attention::{Buffers, Heads, Position, attention};
pub use kernel::kernels_used;
pub use product::{Epilogue, Norm, Weights, product};
pub use unpack::unpacked;

use mlx_rs::{Array, Device, DeviceType, Dtype};
use std::cell::Cell;
use std::sync::OnceLock;

thread_local! {
    static OFF: Cell<bool> = const { Cell::new(false) };
    static LAZY: Cell<bool> = const { Cell::new(false) };
}

/// Whether arrays like `x` are served here: 16-bit floats, an NVIDIA GPU is where MLX computes, and ours are chosen.
pub fn serves(x: &Array) -> bool {
    matches!(x.dtype(), Dtype::Bfloat16 | Dtype::Float16)
        && !OFF.get()
        && crate::blas::wants_ours()
        && is_there()
        && matches!(Device::default().get_type(), Ok(DeviceType::Gpu))
}

/// Runs `work` on this thread with MLX's own operations only, to compare with.
pub fn without<R>(work: impl FnOnce() -> R) -> R {
    let before = OFF.replace(true);
    let result = work();
    OFF.set(before);
    result
}

/// Whether layers of a model with activations like `h` may be submitted before the rest of its graph is built.
pub fn submits_early(h: &Array) -> bool {
    serves(h) && !LAZY.get()
}

/// Runs `work` on this thread with nothing submitted before it asks for it.
pub fn lazily<R>(work: impl FnOnce() -> R) -> R {
    let before = LAZY.replace(true);
    let result = work();
    LAZY.set(before);
    result
}

fn is_there() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let mut found = false;
        // SAFETY: it writes one bool.
        unsafe { mlx_sys::mlx_cuda_is_available(&mut found) == 0 && found }
    })
}
