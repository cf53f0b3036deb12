//! Keeps what NVIDIA's compiler makes of CUDA kernels for the next start of the program.
//!
//! MLX compiles custom kernels in every process, which takes a second or more each, and a model's t(1..128) has about twenty of
//! them. As with `cblas_sgemm` (see `crate::blas`), the program exports the compiler's functions itself, `libmlx.so` calls these,
//! and they pass on to the compiler what is not found in `ridgepoint/kernels` of the user's cache folder (`XDG_CACHE_HOME`, or
//! `~/.cache`). A file there is one kernel, about 60 kB; they may be removed at any time. What cannot be read or written there is
//! compiled as before.

use super::kept::{Kernel, hex};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

type Handle = *mut c_void;

const SUCCESS: c_int = 0;
/// The compiler's own code for what should not happen.
const INTERNAL_ERROR: c_int = 11;

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
    /// Source, headers and names so far.
    text: Sha256,
    names: Vec<CString>,
    /// What was kept of it. The compiler itself knows nothing of it then.
    kept: Option<Kernel>,
}

struct Kernels {
    compiler: Compiler,
    /// Which compiler it is.
    version: String,
    /// Nothing where there is no cache folder.
    folder: Option<PathBuf>,
    programs: Mutex<HashMap<usize, Program>>,
}

impl Kernels {
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
        if result == SUCCESS {
            let mut text = Sha256::new();
            unsafe {
                add(&mut text, source);
                for place in 0..count as usize {
                    add(&mut text, *headers.add(place));
                    add(&mut text, *included.add(place));
                }
                self.programs().insert(*program as usize, Program { text, names: Vec::new(), kept: None });
            }
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
        let file = unsafe { self.file(program, count, options) };
        if let Some(kept) = file.as_deref().and_then(Kernel::read)
            && let Some(known) = self.programs().get_mut(&(program as usize))
        {
            known.kept = Some(kept);
            return SUCCESS;
        }
        let result = unsafe { (self.compiler.compile)(program, count, options) };
        if let Some(file) = file.filter(|_| result == SUCCESS) {
            // Without it the next start compiles again.
            let _ = unsafe { self.compiled(program) }.map(|kernel| kernel.write(&file));
        }
        result
    }

    /// Where a program with these options is kept, if there is a folder and machine code is asked for.
    unsafe fn file(&self, program: Handle, count: c_int, options: *const *const c_char) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        let programs = self.programs();
        let known = programs.get(&(program as usize))?;
        let mut key = known.text.clone();
        key.update(&self.version);
        for name in &known.names {
            key.update(name.as_bytes_with_nul());
        }
        let mut for_a_processor = false;
        for place in 0..count as usize {
            let option = unsafe { CStr::from_ptr(*options.add(place)) };
            key.update(option.to_bytes_with_nul());
            for_a_processor |= option.to_bytes().starts_with(b"--gpu-architecture=sm_");
        }
        for_a_processor.then(|| folder.join(format!("{}.cubin", hex(key))))
    }

    /// What the compiler has just made.
    unsafe fn compiled(&self, program: Handle) -> Option<Kernel> {
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
        let mut cubin = vec![0u8; size];
        let result = unsafe { (self.compiler.cubin)(program, cubin.as_mut_ptr().cast()) };
        (result == SUCCESS && size > 0).then_some(Kernel { symbols, cubin })
    }

    unsafe fn cubin_size(&self, program: Handle, size: *mut usize) -> c_int {
        match self.programs().get(&(program as usize)).and_then(|known| known.kept.as_ref()) {
            Some(kernel) => unsafe { *size = kernel.cubin.len() },
            None => return unsafe { (self.compiler.cubin_size)(program, size) },
        }
        SUCCESS
    }

    unsafe fn cubin(&self, program: Handle, code: *mut c_char) -> c_int {
        match self.programs().get(&(program as usize)).and_then(|known| known.kept.as_ref()) {
            Some(Kernel { cubin, .. }) => unsafe { code.copy_from_nonoverlapping(cubin.as_ptr().cast(), cubin.len()) },
            None => return unsafe { (self.compiler.cubin)(program, code) },
        }
        SUCCESS
    }

    unsafe fn lowered_name(&self, program: Handle, name: *const c_char, symbol: *mut *const c_char) -> c_int {
        let programs = self.programs();
        let Some(kernel) = programs.get(&(program as usize)).and_then(|known| known.kept.as_ref()) else {
            return unsafe { (self.compiler.lowered_name)(program, name, symbol) };
        };
        let wanted = unsafe { CStr::from_ptr(name) };
        match kernel.symbols.iter().find(|(name, _)| name.as_c_str() == wanted) {
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

/// # Safety
/// A valid string.
unsafe fn add(hash: &mut Sha256, text: *const c_char) {
    hash.update(unsafe { CStr::from_ptr(text) }.to_bytes_with_nul());
}

/// Those of this process, or nothing where the compiler is not loaded.
fn kernels() -> Option<&'static Kernels> {
    static KERNELS: OnceLock<Option<Kernels>> = OnceLock::new();
    KERNELS
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
            let version = version()?;
            let folder = cache.map(|cache| cache.join("ridgepoint/kernels"));
            Some(Kernels { compiler, version, folder, programs: Mutex::default() })
        })
        .as_ref()
}

/// The compiler's own function, which this program's hides.
///
/// # Safety
/// `F` is the type of a pointer to it.
unsafe fn next<F>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    (!found.is_null()).then(|| unsafe { std::mem::transmute_copy(&found) })
}

/// The compiler's version, and the size and age of its library: headers and patches come with it.
fn version() -> Option<String> {
    type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the type is that of the compiler's header; `dladdr` fills in what it is given.
    let library = unsafe {
        let version: Version = next(c"nvrtcVersion")?;
        version(&mut major, &mut minor);
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(version as *const c_void, &mut info) == 0 {
            return None;
        }
        CStr::from_ptr(info.dli_fname).to_string_lossy().into_owned()
    };
    let metadata = std::fs::metadata(library).ok()?;
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
    kernels().map_or(INTERNAL_ERROR, |all| unsafe { all.create(program, source, name, count, headers, included) })
}

/// # Safety
/// As the compiler's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcAddNameExpression(program: Handle, name: *const c_char) -> c_int {
    kernels().map_or(INTERNAL_ERROR, |all| unsafe { all.add_name(program, name) })
}

/// # Safety
/// As the compiler's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcCompileProgram(program: Handle, count: c_int, options: *const *const c_char) -> c_int {
    kernels().map_or(INTERNAL_ERROR, |all| unsafe { all.compile(program, count, options) })
}

/// # Safety
/// As the compiler's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcGetCUBINSize(program: Handle, size: *mut usize) -> c_int {
    kernels().map_or(INTERNAL_ERROR, |all| unsafe { all.cubin_size(program, size) })
}

/// # Safety
/// As the compiler's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcGetCUBIN(program: Handle, code: *mut c_char) -> c_int {
    kernels().map_or(INTERNAL_ERROR, |all| unsafe { all.cubin(program, code) })
}

/// # Safety
/// As the compiler's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcGetLoweredName(
    program: Handle,
    name: *const c_char,
    symbol: *mut *const c_char,
) -> c_int {
    kernels().map_or(INTERNAL_ERROR, |all| unsafe { all.lowered_name(program, name, symbol) })
}

/// # Safety
/// As the compiler's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcDestroyProgram(program: *mut Handle) -> c_int {
    kernels().map_or(INTERNAL_ERROR, |all| unsafe { all.destroy(program) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::ptr::null;

    thread_local! {
        static COMPILED: Cell<u32> = const { Cell::new(0) };
    }

    unsafe extern "C" fn create(
        program: *mut Handle,
        _: *const c_char,
        _: *const c_char,
        _: c_int,
        _: *const *const c_char,
        _: *const *const c_char,
    ) -> c_int {
        unsafe { *program = Box::into_raw(Box::new(0u8)).cast() };
        SUCCESS
    }
    unsafe extern "C" fn add_name(_: Handle, _: *const c_char) -> c_int {
        SUCCESS
    }
    unsafe extern "C" fn compile(_: Handle, _: c_int, _: *const *const c_char) -> c_int {
        COMPILED.set(COMPILED.get() + 1);
        SUCCESS
    }
    unsafe extern "C" fn cubin_size(_: Handle, size: *mut usize) -> c_int {
        unsafe { *size = 6 };
        SUCCESS
    }
    unsafe extern "C" fn cubin(_: Handle, code: *mut c_char) -> c_int {
        unsafe { code.copy_from_nonoverlapping(b"\x7fE\n\n\0F".as_ptr().cast(), 6) };
        SUCCESS
    }
    unsafe extern "C" fn lowered_name(_: Handle, _: *const c_char, symbol: *mut *const c_char) -> c_int {
        unsafe { *symbol = c"_Z1kv".as_ptr() };
        SUCCESS
    }
    unsafe extern "C" fn destroy(program: *mut Handle) -> c_int {
        drop(unsafe { Box::from_raw((*program).cast::<u8>()) });
        SUCCESS
    }

    fn start(folder: Option<PathBuf>, version: &str) -> Kernels {
        let compiler = Compiler { create, add_name, compile, cubin_size, cubin, lowered_name, destroy };
        Kernels { compiler, version: version.into(), folder, programs: Mutex::default() }
    }

    /// Symbol, machine code, and how often the compiler was called.
    fn make(all: &Kernels, source: &CStr, header: &CStr, name: &CStr, option: &CStr) -> (CString, Vec<u8>, u32) {
        let before = COMPILED.get();
        let (mut program, mut symbol, mut size) = (std::ptr::null_mut(), null(), 0);
        unsafe {
            let (headers, included) = ([header.as_ptr()], [c"h.h".as_ptr()]);
            let (source, file) = (source.as_ptr(), c"k.cu".as_ptr());
            assert_eq!(all.create(&mut program, source, file, 1, headers.as_ptr(), included.as_ptr()), SUCCESS);
            assert_eq!(all.add_name(program, name.as_ptr()), SUCCESS);
            assert_eq!(all.compile(program, 1, [option.as_ptr()].as_ptr()), SUCCESS);
            assert_eq!(all.lowered_name(program, name.as_ptr(), &mut symbol), SUCCESS);
            assert_eq!(all.cubin_size(program, &mut size), SUCCESS);
            let mut code = vec![0u8; size];
            assert_eq!(all.cubin(program, code.as_mut_ptr().cast()), SUCCESS);
            let symbol = CStr::from_ptr(symbol).to_owned();
            assert_eq!(all.destroy(&mut program), SUCCESS);
            assert!(all.programs().is_empty());
            (symbol, code, COMPILED.get() - before)
        }
    }

    const SM: &CStr = c"--gpu-architecture=sm_90";

    #[test]
    fn a_kernel_is_compiled_once_and_the_next_start_finds_it() {
        let cache = tempfile::tempdir().unwrap();
        let folder = Some(cache.path().join("kernels"));
        let first = make(&start(folder.clone(), "1"), c"source", c"header", c"k", SM);
        assert_eq!(first, (c"_Z1kv".to_owned(), b"\x7fE\n\n\0F".to_vec(), 1));
        let second = make(&start(folder, "1"), c"source", c"header", c"k", SM);
        assert_eq!((second.0, second.1, second.2), (first.0, first.1, 0));
    }

    #[test]
    fn whatever_the_code_depends_on_tells_kernels_apart() {
        let cache = tempfile::tempdir().unwrap();
        let of = |version: &str| start(Some(cache.path().into()), version);
        assert_eq!(make(&of("1"), c"source", c"header", c"k", SM).2, 1);
        assert_eq!(make(&of("2"), c"source", c"header", c"k", SM).2, 1, "compiler");
        assert_eq!(make(&of("1"), c"other", c"header", c"k", SM).2, 1, "source");
        assert_eq!(make(&of("1"), c"source", c"other", c"k", SM).2, 1, "header");
        assert_eq!(make(&of("1"), c"source", c"header", c"other", SM).2, 1, "name");
        assert_eq!(make(&of("1"), c"source", c"header", c"k", c"--gpu-architecture=sm_80").2, 1, "option");
        assert_eq!(make(&of("1"), c"source", c"header", c"k", SM).2, 0);
    }

    #[test]
    fn what_is_no_machine_code_or_has_no_folder_is_compiled_every_time() {
        let cache = tempfile::tempdir().unwrap();
        let file = cache.path().join("a file");
        std::fs::write(&file, "").unwrap();
        for (folder, option) in
            [(Some(cache.path().into()), c"--gpu-architecture=compute_90"), (None, SM), (Some(file), SM)]
        {
            for _ in 0..2 {
                assert_eq!(make(&start(folder.clone(), "1"), c"source", c"header", c"k", option).2, 1);
            }
        }
    }

    #[test]
    fn a_damaged_file_is_compiled_again() {
        let cache = tempfile::tempdir().unwrap();
        let run = || make(&start(Some(cache.path().into()), "1"), c"source", c"header", c"k", SM);
        let (_, code, _) = run();
        let file = std::fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
        let whole = std::fs::read(&file).unwrap();
        for cut in [0, 10, 64, 70, whole.len() - 1] {
            std::fs::write(&file, &whole[..cut]).unwrap();
            let (_, again, compiled) = run();
            assert_eq!((again, compiled), (code.clone(), 1), "cut at {cut}");
        }
        assert_eq!(run().2, 0);
    }
}
