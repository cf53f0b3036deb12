//! The kernel cache: what NVIDIA's run-time compiler makes of CUDA kernels, for the next start of the program.
//!
//! MLX caches its own kernels, and compiles custom ones in every process, which takes a second or more each; a model's t(1..128)
//! has about twenty of them. As with `cblas_sgemm` (see `crate::blas`), the program exports the compiler's functions itself,
//! `libmlx.so` calls these, and they pass on to the compiler what is not found in `ridgepoint/kernels` of the user's cache folder
//! (`XDG_CACHE_HOME`, or `~/.cache`). A file there is one kernel, about 250 kB; they may be removed at any time, and are
//! after 90 days. What cannot be read or written there is compiled as before.
//!
//! Exported is what MLX asks about a kernel that was compiled for a GPU architecture (`sm_90`): nothing else is cached.

use super::cubin::{Cubin, remove_old};
use crate::blas::{file_of, lookup};
use crate::scenario::sha256_hex;
use libc::RTLD_NEXT;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

type Handle = *mut c_void;

const SUCCESS: c_int = 0;
/// The compiler's own code for what should not happen.
const INTERNAL_ERROR: c_int = 11;

/// What an earlier program left is removed after this time; what is in use is compiled again.
const AGE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// What MLX calls a program that it does not cache itself.
const CUSTOM: &[u8] = b"custom_kernel_";
/// Headers that stand for all in a folder: what kernels use is in them, or its version is.
const HEADERS: [&str; 4] = ["cuda_fp16.hpp", "cuda_bf16.hpp", "cooperative_groups.h", "cuda/std/__cccl/version.h"];

/// The compiler's functions, as its header declares them.
#[derive(Clone, Copy)]
struct Compiler {
    create: unsafe extern "C" fn(
        *mut Handle,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int,
    add_name: unsafe extern "C" fn(Handle, *const c_char) -> c_int,
    compile: unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> c_int,
    cubin_size: unsafe extern "C" fn(Handle, *mut usize) -> c_int,
    cubin: unsafe extern "C" fn(Handle, *mut c_char) -> c_int,
    lowered_name: unsafe extern "C" fn(Handle, *const c_char, *mut *const c_char) -> c_int,
    destroy: unsafe extern "C" fn(*mut Handle) -> c_int,
}

/// A program between its creation and its end.
struct Program {
    /// Its source and the headers that it came with.
    text: Vec<u8>,
    names: Vec<CString>,
    /// What the cache has of it. The compiler itself knows nothing of it then.
    cached: Option<Cubin>,
}

/// The compiler with a cache before it.
struct Nvrtc {
    compiler: Compiler,
    /// The kernel cache, and which compiler it is. Nothing where there is no cache folder, or the compiler cannot be told.
    cache: Option<(PathBuf, String)>,
    /// By handle.
    programs: Mutex<HashMap<usize, Program>>,
}

impl Nvrtc {
    fn programs(&self) -> MutexGuard<'_, HashMap<usize, Program>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Safety
    /// As for the compiler's function, here and below.
    unsafe fn create(
        &self,
        program: *mut Handle,
        source: *const c_char,
        name: *const c_char,
        count: c_int,
        headers: *const *const c_char,
        included: *const *const c_char,
    ) -> c_int {
        let result = unsafe { (self.compiler.create)(program, source, name, count, headers, included) };
        let custom = !name.is_null() && unsafe { CStr::from_ptr(name) }.to_bytes().starts_with(CUSTOM);
        if result == SUCCESS && custom {
            let mut text = Vec::new();
            let mut add = |part| text.extend(unsafe { CStr::from_ptr(part) }.to_bytes_with_nul());
            add(source);
            for place in 0..count as usize {
                unsafe { [*included.add(place), *headers.add(place)] }.into_iter().for_each(&mut add);
            }
            let handle = unsafe { *program } as usize;
            self.programs().insert(handle, Program { text, names: Vec::new(), cached: None });
        }
        result
    }

    unsafe fn add_name(&self, program: Handle, name: *const c_char) -> c_int {
        let result = unsafe { (self.compiler.add_name)(program, name) };
        if let Some(known) = self.programs().get_mut(&(program as usize)) {
            known.names.push(unsafe { CStr::from_ptr(name) }.to_owned());
        }
        result
    }

    unsafe fn compile(&self, program: Handle, count: c_int, options: *const *const c_char) -> c_int {
        let options_read = (0..count as usize).map(|place| unsafe { CStr::from_ptr(*options.add(place)) });
        let file = self.file(program, &options_read.collect::<Vec<_>>());
        if let Some(known) = self.programs().get_mut(&(program as usize)) {
            let names = |cubin: &Cubin| cubin.symbols.iter().map(|(name, _)| name).eq(&known.names);
            known.cached = file.as_deref().and_then(Cubin::read).filter(names);
            if known.cached.is_some() {
                return SUCCESS;
            }
        }
        let result = unsafe { (self.compiler.compile)(program, count, options) };
        if let Some(file) = file.filter(|_| result == SUCCESS) {
            // Without it the next start compiles again.
            let _ = unsafe { self.compiled(program) }.map(|cubin| cubin.write(&file));
        }
        result
    }

    /// The cache's file for a program with these options, where code for a GPU architecture is asked for.
    fn file(&self, program: Handle, options: &[&CStr]) -> Option<PathBuf> {
        let (folder, compiler) = self.cache.as_ref()?;
        let programs = self.programs();
        let Program { text, names, .. } = programs.get(&(program as usize))?;
        let mut key = [text, compiler.as_bytes()].concat();
        names.iter().for_each(|name| key.extend(name.as_bytes_with_nul()));
        for option in options {
            // Not where headers lie, but what they are.
            match option.to_str().ok().and_then(|option| option.strip_prefix("--include-path=")).map(headers) {
                Some(headers) if !headers.is_empty() => key.extend(headers),
                _ => key.extend(option.to_bytes_with_nul()),
            }
        }
        let for_an_architecture = options.iter().any(|option| option.to_bytes().starts_with(b"--gpu-architecture=sm_"));
        for_an_architecture.then(|| folder.join(format!("{}.cubin", sha256_hex(&key))))
    }

    /// What the compiler has just made.
    unsafe fn compiled(&self, program: Handle) -> Option<Cubin> {
        let names = self.programs().get(&(program as usize))?.names.clone();
        let mut symbols = Vec::new();
        for name in names {
            let mut symbol = std::ptr::null();
            if unsafe { (self.compiler.lowered_name)(program, name.as_ptr(), &mut symbol) } != SUCCESS {
                return None;
            }
            symbols.push((name, unsafe { CStr::from_ptr(symbol) }.to_owned()));
        }
        let mut size = 0;
        if unsafe { (self.compiler.cubin_size)(program, &mut size) } != SUCCESS {
            return None;
        }
        let mut code = vec![0u8; size];
        let result = unsafe { (self.compiler.cubin)(program, code.as_mut_ptr().cast()) };
        (result == SUCCESS && size > 0).then_some(Cubin { symbols, code })
    }

    unsafe fn cubin_size(&self, program: Handle, size: *mut usize) -> c_int {
        match self.programs().get(&(program as usize)).and_then(|known| known.cached.as_ref()) {
            Some(cubin) => unsafe { *size = cubin.code.len() },
            None => return unsafe { (self.compiler.cubin_size)(program, size) },
        }
        SUCCESS
    }

    unsafe fn cubin(&self, program: Handle, to: *mut c_char) -> c_int {
        match self.programs().get(&(program as usize)).and_then(|known| known.cached.as_ref()) {
            Some(Cubin { code, .. }) => unsafe { to.copy_from_nonoverlapping(code.as_ptr().cast(), code.len()) },
            None => return unsafe { (self.compiler.cubin)(program, to) },
        }
        SUCCESS
    }

    unsafe fn lowered_name(&self, program: Handle, name: *const c_char, symbol: *mut *const c_char) -> c_int {
        let programs = self.programs();
        let Some(cubin) = programs.get(&(program as usize)).and_then(|known| known.cached.as_ref()) else {
            return unsafe { (self.compiler.lowered_name)(program, name, symbol) };
        };
        let wanted = unsafe { CStr::from_ptr(name) };
        match cubin.symbols.iter().find(|(name, _)| name.as_c_str() == wanted) {
            // Valid until the program is destroyed, as the compiler's own.
            Some((_, found)) => unsafe { *symbol = found.as_ptr() },
            None => return INTERNAL_ERROR,
        }
        SUCCESS
    }

    unsafe fn destroy(&self, program: *mut Handle) -> c_int {
        unsafe {
            self.programs().remove(&(*program as usize));
            (self.compiler.destroy)(program)
        }
    }
}

/// The contents of those of [`HEADERS`] that a folder has.
fn headers(folder: &str) -> Vec<u8> {
    let contents = HEADERS.iter().filter_map(|header| std::fs::read(Path::new(folder).join(header)).ok());
    contents.collect::<Vec<_>>().concat()
}

/// That of this process, or nothing where the compiler is not loaded.
fn nvrtc() -> Option<&'static Nvrtc> {
    static NVRTC: OnceLock<Option<Nvrtc>> = OnceLock::new();
    NVRTC
        .get_or_init(|| {
            // SAFETY: the types are those of the compiler's header.
            let compiler = unsafe {
                Compiler {
                    create: next(c"nvrtcCreateProgram")?,
                    add_name: next(c"nvrtcAddNameExpression")?,
                    compile: next(c"nvrtcCompileProgram")?,
                    cubin_size: next(c"nvrtcGetCUBINSize")?,
                    cubin: next(c"nvrtcGetCUBIN")?,
                    lowered_name: next(c"nvrtcGetLoweredName")?,
                    destroy: next(c"nvrtcDestroyProgram")?,
                }
            };
            let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            let cache = variable("XDG_CACHE_HOME").or_else(|| Some(std::env::home_dir()?.join(".cache")));
            let cache = cache.map(|cache| cache.join("ridgepoint/kernels")).zip(version());
            if let Some((folder, _)) = &cache {
                remove_old(folder, AGE);
            }
            Some(Nvrtc { compiler, cache, programs: Mutex::default() })
        })
        .as_ref()
}

/// The compiler's own function, which this program's hides.
///
/// # Safety
/// `F` is the type of a pointer to it.
unsafe fn next<F>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    lookup(RTLD_NEXT, name).map(|found| unsafe { std::mem::transmute_copy(&found) })
}

/// The compiler's version, and the size and age of its library.
fn version() -> Option<String> {
    type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the type is that of the compiler's header.
    let version: Version = unsafe { next(c"nvrtcVersion") }?;
    unsafe { version(&mut major, &mut minor) };
    let metadata = std::fs::metadata(file_of(version as *mut c_void)?).ok()?;
    Some(format!("{major}.{minor} {} {:?}\n", metadata.len(), metadata.modified().ok()?))
}

/// # Safety
/// As the compiler's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcCreateProgram(
    program: *mut Handle,
    source: *const c_char,
    name: *const c_char,
    count: c_int,
    headers: *const *const c_char,
    included: *const *const c_char,
) -> c_int {
    nvrtc().map_or(INTERNAL_ERROR, |all| unsafe { all.create(program, source, name, count, headers, included) })
}

/// # Safety
/// As the compiler's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcAddNameExpression(program: Handle, name: *const c_char) -> c_int {
    nvrtc().map_or(INTERNAL_ERROR, |all| unsafe { all.add_name(program, name) })
}

/// # Safety
/// As the compiler's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcCompileProgram(program: Handle, count: c_int, options: *const *const c_char) -> c_int {
    nvrtc().map_or(INTERNAL_ERROR, |all| unsafe { all.compile(program, count, options) })
}

/// # Safety
/// As the compiler's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcGetCUBINSize(program: Handle, size: *mut usize) -> c_int {
    nvrtc().map_or(INTERNAL_ERROR, |all| unsafe { all.cubin_size(program, size) })
}

/// # Safety
/// As the compiler's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcGetCUBIN(program: Handle, code: *mut c_char) -> c_int {
    nvrtc().map_or(INTERNAL_ERROR, |all| unsafe { all.cubin(program, code) })
}

/// # Safety
/// As the compiler's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcGetLoweredName(
    program: Handle,
    name: *const c_char,
    symbol: *mut *const c_char,
) -> c_int {
    nvrtc().map_or(INTERNAL_ERROR, |all| unsafe { all.lowered_name(program, name, symbol) })
}

/// # Safety
/// As the compiler's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcDestroyProgram(program: *mut Handle) -> c_int {
    nvrtc().map_or(INTERNAL_ERROR, |all| unsafe { all.destroy(program) })
}

#[cfg(test)]
mod tests;
