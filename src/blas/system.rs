//! The system's BLAS: what `libmlx.so` would call if the program did not export `cblas_sgemm` itself.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::{MaybeUninit, transmute};
use std::sync::OnceLock;

use libc::{Dl_info, RTLD_DEFAULT, RTLD_LAZY, RTLD_NEXT, RTLD_NOLOAD, dladdr, dlopen, dlsym};

/// The signature of `cblas_sgemm`.
pub type Sgemm = unsafe extern "C" fn(
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
);

pub(super) struct System {
    pub sgemm: Sgemm,
    /// File that holds it.
    pub library: String,
    /// Its own name and version where it tells, else the file's name.
    pub name: String,
    /// None of the known fast libraries: netlib's reference code, many times slower.
    pub is_reference: bool,
}

/// The system's BLAS, or `None` where there is none (then only the products that we serve ourselves can be done).
pub(super) fn system() -> Option<&'static System> {
    static SYSTEM: OnceLock<Option<System>> = OnceLock::new();
    SYSTEM.get_or_init(find).as_ref()
}

fn find() -> Option<System> {
    // The definition that follows the program's own in the order of the dynamic linker.
    let sgemm = lookup(RTLD_NEXT, c"cblas_sgemm").or_else(|| {
        // SAFETY: loading the library runs its initialisers, which is what linking to it would do.
        let library = unsafe { dlopen(c"libopenblas.so.0".as_ptr(), RTLD_LAZY) };
        if library.is_null() { None } else { lookup(library, c"cblas_sgemm") }
    })?;
    let library = file_of(sgemm)?;
    let name = own_name(&library);
    Some(System {
        // SAFETY: the CBLAS standard gives the function of this name this signature.
        sgemm: unsafe { transmute::<*mut c_void, Sgemm>(sgemm) },
        is_reference: name.is_none(),
        name: name.unwrap_or_else(|| library.rsplit('/').next().unwrap_or_default().to_owned()),
        library,
    })
}

/// What the library says about itself; netlib's reference BLAS has nothing to ask.
fn own_name(library: &str) -> Option<String> {
    let handle = loaded(library);
    let tell = |symbol| {
        let function = lookup(handle, symbol)?;
        // SAFETY: both functions asked take nothing and return a string that lives as long as the library.
        let text =
            unsafe { CStr::from_ptr(transmute::<*mut c_void, unsafe extern "C" fn() -> *const c_char>(function)()) };
        Some(text.to_string_lossy().trim().to_owned())
    };
    let knows = |symbol, name: &str| lookup(handle, symbol).map(|_| name.to_owned());
    tell(c"openblas_get_config")
        .or_else(|| tell(c"bli_info_get_version_str").map(|version| format!("BLIS {version}")))
        .or_else(|| knows(c"MKL_Get_Version", "MKL"))
        .or_else(|| knows(c"ATL_buildinfo", "ATLAS"))
        .or_else(|| knows(c"armpl_get_version", "Arm Performance Libraries"))
}

/// Tells the library how many threads to use, if it can be told.
pub(super) fn set_threads(threads: usize) {
    let Some(system) = system() else { return };
    let threads = c_int::try_from(threads).unwrap_or(c_int::MAX);
    for symbol in [c"openblas_set_num_threads", c"MKL_Set_Num_Threads"] {
        if let Some(function) = lookup(loaded(&system.library), symbol) {
            // SAFETY: both take one int by value.
            unsafe { transmute::<*mut c_void, unsafe extern "C" fn(c_int)>(function)(threads) };
        }
    }
}

/// The handle of a library that is loaded already; else the one that stands for the whole program.
fn loaded(library: &str) -> *mut c_void {
    let handle = CString::new(library).map_or(RTLD_DEFAULT, |path| {
        // SAFETY: nothing is loaded anew, so no initialiser runs.
        unsafe { dlopen(path.as_ptr(), RTLD_LAZY | RTLD_NOLOAD) }
    });
    if handle.is_null() { RTLD_DEFAULT } else { handle }
}

/// Where a symbol lies, in a library or as `RTLD_DEFAULT` and `RTLD_NEXT` say.
pub(crate) fn lookup(library: *mut c_void, symbol: &CStr) -> Option<*mut c_void> {
    // SAFETY: dlsym only reads the name.
    let address = unsafe { dlsym(library, symbol.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// The file that holds what lies at an address.
pub(crate) fn file_of(address: *mut c_void) -> Option<String> {
    let mut info = MaybeUninit::<Dl_info>::zeroed();
    // SAFETY: dladdr fills `info` and returns nonzero, or leaves it zeroed; the name lives as long as the library.
    unsafe {
        let found = dladdr(address, info.as_mut_ptr()) != 0;
        let name = info.assume_init().dli_fname;
        let path = (found && !name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())?;
        Some(std::fs::canonicalize(&path).map_or(path, |real| real.to_string_lossy().into_owned()))
    }
}
