//! Which BLAS MLX's CPU backend calls: found by asking the dynamic linker who provides `cblas_sgemm`, as it did.

use serde::Serialize;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

/// The implementations that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BlasKind {
    /// Few-row products of this program, in front of a library.
    Ridgepoint,
    Accelerate,
    OpenBlas,
    Blis,
    Mkl,
    /// Netlib's reference implementation: one thread, about ten times slower than the others.
    Reference,
    Unknown,
}

/// One provider of `cblas_sgemm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blas {
    /// Which implementation it is.
    pub kind: BlasKind,
    /// What the library says about itself: version, kernels chosen for this processor. Empty if it says nothing.
    pub description: String,
    /// Threads it uses, where it tells.
    pub threads: Option<usize>,
    /// The file it was loaded from. Not part of the environment stamp: paths say nothing on another machine.
    #[serde(skip)]
    pub library: PathBuf,
}

/// The BLAS libraries behind `cblas_sgemm`, the one that is called first in front. Empty where there is none.
pub fn in_use() -> Vec<Blas> {
    let mut found: Vec<Blas> = Vec::new();
    for handle in [libc::RTLD_DEFAULT, libc::RTLD_NEXT] {
        if let Some(library) = provider(handle, c"cblas_sgemm")
            && !found.iter().any(|blas| blas.library == library)
        {
            found.push(describe(library));
        }
    }
    found
}

fn describe(library: PathBuf) -> Blas {
    let is_this_program = std::env::current_exe().and_then(std::fs::canonicalize).is_ok_and(|exe| exe == library);
    let kind = if is_this_program { BlasKind::Ridgepoint } else { kind_of(&library) };
    let (description, threads) = match kind {
        BlasKind::OpenBlas => (call_text(c"openblas_get_config"), call_number(c"openblas_get_num_threads")),
        BlasKind::Blis => (call_text(c"bli_info_get_version_str"), call_number(c"bli_thread_get_num_threads")),
        BlasKind::Mkl => (String::new(), call_number(c"MKL_Get_Max_Threads")),
        BlasKind::Reference => (String::new(), Some(1)),
        BlasKind::Ridgepoint | BlasKind::Accelerate | BlasKind::Unknown => (String::new(), None),
    };
    Blas { kind, description, threads, library }
}

/// Tells the implementation from the real path of the library: distributions and wheels put OpenBLAS, BLIS or the
/// reference implementation behind the same name `libblas`, but in different folders.
fn kind_of(library: &Path) -> BlasKind {
    if library.starts_with("/System/Library") {
        return BlasKind::Accelerate;
    }
    let name = |path: Option<&Path>| path.and_then(Path::file_name).map(|name| name.to_string_lossy().to_lowercase());
    let names = [name(Some(library)), name(library.parent())];
    let contain = |part: &str| names.iter().flatten().any(|name| name.contains(part));
    match () {
        _ if contain("openblas") => BlasKind::OpenBlas,
        _ if contain("blis") => BlasKind::Blis,
        _ if contain("mkl") => BlasKind::Mkl,
        _ if contain("libblas") || contain("libcblas") => BlasKind::Reference,
        _ => BlasKind::Unknown,
    }
}

/// The real path of the object that provides a symbol, seen from `handle`.
fn provider(handle: *mut c_void, symbol: &CStr) -> Option<PathBuf> {
    let address = unsafe { libc::dlsym(handle, symbol.as_ptr()) };
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    if address.is_null() || unsafe { libc::dladdr(address, &mut info) } == 0 || info.dli_fname.is_null() {
        return None;
    }
    let path = PathBuf::from(unsafe { CStr::from_ptr(info.dli_fname) }.to_string_lossy().into_owned());
    Some(std::fs::canonicalize(&path).unwrap_or(path))
}

fn call_text(symbol: &CStr) -> String {
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) };
    if address.is_null() {
        return String::new();
    }
    let function: unsafe extern "C" fn() -> *const c_char = unsafe { std::mem::transmute(address) };
    let text = unsafe { function() };
    if text.is_null() {
        return String::new();
    }
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_string()
}

fn call_number(symbol: &CStr) -> Option<usize> {
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) };
    if address.is_null() {
        return None;
    }
    let function: unsafe extern "C" fn() -> c_int = unsafe { std::mem::transmute(address) };
    usize::try_from(unsafe { function() }).ok().filter(|&threads| threads > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_implementation_is_told_from_the_path() {
        for (path, kind) in [
            ("/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblasp-r0.3.21.so", BlasKind::OpenBlas),
            ("/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3", BlasKind::OpenBlas),
            ("/usr/lib/x86_64-linux-gnu/blis-pthread/libblis.so.4.0.0", BlasKind::Blis),
            ("/usr/lib/x86_64-linux-gnu/libmkl_rt.so", BlasKind::Mkl),
            ("/usr/lib/x86_64-linux-gnu/blas/libblas.so.3.11.0", BlasKind::Reference),
            ("/x/mlx_cpu.libs/libblas-bd8a282c.so.3.10.0", BlasKind::Reference),
            ("/System/Library/Frameworks/Accelerate.framework/vecLib/libBLAS.dylib", BlasKind::Accelerate),
            ("/home/publish/openblas-trial/mlx_cpu.libs/libblas-bd8a282c.so.3.10.0", BlasKind::Reference),
            ("/opt/vendor/libfast.so", BlasKind::Unknown),
        ] {
            assert_eq!(kind_of(Path::new(path)), kind, "{path}");
        }
    }

    #[test]
    fn the_symbol_is_traced_to_a_file_that_exists() {
        // Any libc function will do: the C library is always there.
        let library = provider(libc::RTLD_DEFAULT, c"strlen").unwrap();
        assert!(library.to_string_lossy().contains("libc") || library.exists(), "{}", library.display());
        assert_eq!(provider(libc::RTLD_DEFAULT, c"no_such_symbol_anywhere"), None);
    }
}
