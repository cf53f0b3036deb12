//! Few-row float32 products at memory speed, behind `cblas_sgemm` (Linux CPU).
//!
//! MLX's CPU backend hands every float32 product to `cblas_sgemm`, and no BLAS serves the shapes of decoding well: a
//! few rows against a large transposed weight matrix. The program therefore exports that symbol itself; the dynamic
//! linker prefers it to a library's, so `libmlx.so` calls [`cblas::cblas_sgemm`]. It serves row-major products with A
//! not transposed and passes everything else on to the system's BLAS.
//!
//! The result for a row does not depend on how many rows are computed with it, bit for bit: see `kernel`.

pub mod bytes;
pub mod cblas;
pub mod grouped;
mod kernel;
pub mod pages;
mod pool;
mod product;
mod system;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::available_parallelism;

pub(crate) use bytes::multiply_bytes;
pub(crate) use grouped::multiply_grouped;
pub(crate) use kernel::{BytesProduct, GROUP, GroupedProduct, Product};
use product::Engine;
pub(crate) use product::Shared;
pub(crate) use system::{file_of, lookup};

// A C symbol carries no state, so what it needs is global: these three and the engine built from them.
static SYSTEM_CHOSEN: AtomicBool = AtomicBool::new(false);
/// 0 means one per physical core.
static THREADS: AtomicUsize = AtomicUsize::new(0);
static SERVED: AtomicUsize = AtomicUsize::new(0);
static ENGINE: OnceLock<Engine> = OnceLock::new();

/// Who computes the float32 products on the CPU, and what `fused::cuda` serves on an NVIDIA GPU.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This program, and the system's library for what it does not serve.
    Ours,
    /// The system's library for everything.
    System,
}

/// Sets who computes the products and with how many threads (`None`: one per physical core). Call it before the
/// first product: the number of threads is fixed then, the choice may change later.
pub fn configure(choice: Choice, threads: Option<usize>) {
    SYSTEM_CHOSEN.store(choice == Choice::System, Relaxed);
    if let Some(threads) = threads {
        THREADS.store(threads.max(1), Relaxed);
        system::set_threads(threads.max(1));
    }
}

/// What computes the float32 products, for the environment stamp and `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `ridgepoint`, or the system library's own name and version.
    pub name: String,
    /// Instruction set of our kernel: `avx512`, `avx2`, `neon` or `portable`; empty where the system's BLAS does all.
    pub kernel: &'static str,
    /// Threads of a product, the caller's included.
    pub threads: usize,
    /// File of the system's BLAS, which gets what we do not serve; `None` if there is none.
    pub system_library: Option<String>,
    /// The system's BLAS is netlib's reference code, many times slower than any other.
    pub is_reference: bool,
}

/// Describes the BLAS in use.
pub fn describe() -> Description {
    let system = system::system();
    let ours = wants_ours();
    Description {
        name: if ours {
            "ridgepoint".to_owned()
        } else {
            system.map_or_else(|| "none".to_owned(), |system| system.name.clone())
        },
        kernel: if ours { kernel::select().name } else { "" },
        threads: threads(),
        system_library: system.map(|system| system.library.clone()),
        is_reference: system.is_some_and(|system| system.is_reference),
    }
}

/// Products served by this module since the program started.
pub fn served() -> usize {
    SERVED.load(Relaxed)
}

/// The system's `cblas_sgemm`, to compare with.
pub fn system_sgemm() -> Option<system::Sgemm> {
    system::system().map(|system| system.sgemm)
}

/// Computes a product with our kernels, whoever serves `cblas_sgemm`; `transposed` says how B is stored.
///
/// # Safety
/// The product's pointers are valid for its shape and strides, and C overlaps neither A nor B.
pub(crate) unsafe fn multiply(product: &Product, transposed: bool) {
    unsafe { engine().multiply(product, transposed) }
}

/// Calls `work` once for every part, shared out between the threads of the products.
pub(crate) fn share(parts: usize, work: &(dyn Fn(usize) + Sync)) {
    engine().pool.run(parts, work);
}

/// Whether this module computes the products.
pub(crate) fn wants_ours() -> bool {
    !SYSTEM_CHOSEN.load(Relaxed)
}

fn engine() -> &'static Engine {
    ENGINE.get_or_init(|| Engine { kernel: kernel::select(), pool: pool::Pool::new(threads()) })
}

fn threads() -> usize {
    match THREADS.load(Relaxed) {
        0 => {
            let usable = available_parallelism().map_or(1, usize::from);
            sysinfo::System::physical_core_count().map_or(usable, |physical| physical.clamp(1, usable))
        }
        threads => threads,
    }
}
