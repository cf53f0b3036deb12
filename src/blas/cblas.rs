//! The C symbol: which calls are ours, which are the system's.

use std::ffi::c_int;
use std::sync::atomic::Ordering::Relaxed;

use super::kernel::Product;
use super::{SERVED, engine, system, wants_ours};

pub const ROW_MAJOR: c_int = 101;
pub const NO_TRANSPOSE: c_int = 111;
pub const TRANSPOSE: c_int = 112;

/// Rows of the products that we serve. Above, the system's BLAS is as fast, and nothing compares such rows with single
/// ones.
const MOST_ROWS: usize = 128;
/// Columns of the products with B not transposed that we serve: attention's, one column an element of a head. Weight
/// matrices come transposed.
const MOST_PLAIN_COLUMNS: usize = 256;

/// `cblas_sgemm` as the CBLAS standard has it. The dynamic linker finds the program's own before any library's, so
/// `libmlx.so` calls this one.
///
/// # Safety
/// As the standard says: the matrices are valid for the sizes and strides given, and C overlaps neither A nor B.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cblas_sgemm(
    layout: c_int,
    transpose_a: c_int,
    transpose_b: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: f32,
    a: *const f32,
    lda: c_int,
    b: *const f32,
    ldb: c_int,
    beta: f32,
    c: *mut f32,
    ldc: c_int,
) {
    let call = Call { layout, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc };
    // SAFETY: the caller's promise.
    unsafe {
        match if wants_ours() { call.ours() } else { None } {
            Some((product, transposed)) => {
                SERVED.fetch_add(1, Relaxed);
                engine().multiply(&product, transposed);
            }
            None => call.pass_on(),
        }
    }
}

/// The arguments of one call, under their names in the standard.
struct Call {
    layout: c_int,
    transpose_a: c_int,
    transpose_b: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: f32,
    a: *const f32,
    lda: c_int,
    b: *const f32,
    ldb: c_int,
    beta: f32,
    c: *mut f32,
    ldc: c_int,
}

impl Call {
    /// The product and whether B is transposed, if it is one of ours. Calls with impossible sizes are not: the
    /// system's BLAS reports those.
    fn ours(&self) -> Option<(Product, bool)> {
        let transposed = match self.transpose_b {
            // One column of B is the same memory transposed or not.
            NO_TRANSPOSE if self.n == 1 && self.ldb == 1 => true,
            NO_TRANSPOSE => false,
            TRANSPOSE => true,
            _ => return None,
        };
        let rows = usize::try_from(self.m).ok()?;
        let columns = usize::try_from(self.n).ok()?;
        let depth = usize::try_from(self.k).ok()?;
        let a_stride = usize::try_from(self.lda).ok()?;
        let b_stride = if columns == 1 && transposed { depth } else { usize::try_from(self.ldb).ok()? };
        let c_stride = usize::try_from(self.ldc).ok()?;
        // One row of A is the same memory transposed or not.
        let a_by_rows =
            self.transpose_a == NO_TRANSPOSE || (self.transpose_a == TRANSPOSE && rows == 1 && self.lda == 1);
        let a_fits = a_stride >= depth.max(1) || rows == 1;
        let b_fits = b_stride >= if transposed { depth } else { columns }.max(1);
        let fits = a_fits && b_fits && c_stride >= columns.max(1);
        let few = rows <= MOST_ROWS && (transposed || columns <= MOST_PLAIN_COLUMNS);
        let scale = self.alpha == 1.0 && (self.beta == 0.0 || self.beta == 1.0);
        (self.layout == ROW_MAJOR && a_by_rows && few && fits && scale).then_some((
            Product {
                rows,
                columns,
                depth,
                a: self.a,
                a_stride,
                b: self.b,
                b_stride,
                c: self.c,
                c_stride,
                add: self.beta == 1.0,
            },
            transposed,
        ))
    }

    unsafe fn pass_on(&self) {
        let Some(system) = system::system() else {
            eprintln!(
                "ridgepoint: no BLAS found for a {}x{}x{} product; install libopenblas0-pthread",
                self.m, self.n, self.k
            );
            std::process::abort();
        };
        unsafe {
            (system.sgemm)(
                self.layout,
                self.transpose_a,
                self.transpose_b,
                self.m,
                self.n,
                self.k,
                self.alpha,
                self.a,
                self.lda,
                self.b,
                self.ldb,
                self.beta,
                self.c,
                self.ldc,
            );
        }
    }
}
