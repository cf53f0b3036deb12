//! The compiler is a stand-in that counts.

use super::*;
use std::cell::Cell;

thread_local! {
    static COMPILED: Cell<u32> = const { Cell::new(0) };
}

/// A handle says whether its program was compiled.
unsafe extern "C" fn create(
    program: *mut Handle,
    _: *const c_char,
    _: *const c_char,
    _: c_int,
    _: *const *const c_char,
    _: *const *const c_char,
) -> c_int {
    unsafe { *program = Box::into_raw(Box::new(false)).cast() };
    SUCCESS
}
unsafe extern "C" fn add_name(_: Handle, _: *const c_char) -> c_int {
    SUCCESS
}
/// Fails where the first option says so.
unsafe extern "C" fn compile(program: Handle, _: c_int, options: *const *const c_char) -> c_int {
    COMPILED.set(COMPILED.get() + 1);
    let fails = unsafe { CStr::from_ptr(*options) } == FAILS;
    unsafe { *program.cast::<bool>() = !fails };
    if fails { 6 } else { SUCCESS }
}
fn told(program: Handle) -> c_int {
    if unsafe { *program.cast::<bool>() } { SUCCESS } else { INTERNAL_ERROR }
}
unsafe extern "C" fn cubin_size(program: Handle, size: *mut usize) -> c_int {
    unsafe { *size = CODE.len() };
    told(program)
}
unsafe extern "C" fn cubin(program: Handle, code: *mut c_char) -> c_int {
    unsafe { code.copy_from_nonoverlapping(CODE.as_ptr().cast(), CODE.len()) };
    told(program)
}
unsafe extern "C" fn lowered_name(program: Handle, _: *const c_char, symbol: *mut *const c_char) -> c_int {
    unsafe { *symbol = c"_Z1kv".as_ptr() };
    told(program)
}
unsafe extern "C" fn destroy(program: *mut Handle) -> c_int {
    drop(unsafe { Box::from_raw((*program).cast::<bool>()) });
    SUCCESS
}

const CODE: &[u8] = b"\x7fE\n\n\0F";
const SM: &CStr = c"--gpu-architecture=sm_90";
const FAILS: &CStr = c"--gpu-architecture=sm_1";

fn start(folder: Option<&Path>, version: &str) -> Nvrtc {
    let compiler = Compiler { create, add_name, compile, cubin_size, cubin, lowered_name, destroy };
    Nvrtc { compiler, cache: folder.map(|folder| (folder.into(), version.into())), programs: Mutex::default() }
}

/// A program as MLX has it.
struct Asked<'a> {
    file: &'a CStr,
    source: &'a CStr,
    header: &'a CStr,
    names: &'a [&'a CStr],
    options: &'a [&'a CStr],
}

const ASKED: Asked =
    Asked { file: c"custom_kernel_k.cu", source: c"source", header: c"header", names: &[c"k"], options: &[SM] };

/// What compiling gives, with the symbol of each name and the machine code where it went well, and how often the compiler was
/// called.
fn make(all: &Nvrtc, asked: &Asked) -> (c_int, Vec<CString>, Vec<u8>, u32) {
    let before = COMPILED.get();
    let (mut program, mut size) = (std::ptr::null_mut(), 0);
    let (mut symbols, mut code) = (Vec::new(), Vec::new());
    let options: Vec<*const c_char> = asked.options.iter().map(|option| option.as_ptr()).collect();
    unsafe {
        let (headers, included) = ([asked.header.as_ptr()], [c"h.h".as_ptr()]);
        let (source, file) = (asked.source.as_ptr(), asked.file.as_ptr());
        assert_eq!(all.create(&mut program, source, file, 1, headers.as_ptr(), included.as_ptr()), SUCCESS);
        for name in asked.names {
            assert_eq!(all.add_name(program, name.as_ptr()), SUCCESS);
        }
        let result = all.compile(program, options.len() as c_int, options.as_ptr());
        if result == SUCCESS {
            for name in asked.names {
                let mut symbol = std::ptr::null();
                assert_eq!(all.lowered_name(program, name.as_ptr(), &mut symbol), SUCCESS);
                symbols.push(CStr::from_ptr(symbol).to_owned());
            }
            assert_eq!(all.cubin_size(program, &mut size), SUCCESS);
            code.resize(size, 0);
            assert_eq!(all.cubin(program, code.as_mut_ptr().cast()), SUCCESS);
        }
        assert_eq!(all.destroy(&mut program), SUCCESS);
        assert!(all.programs().is_empty());
        (result, symbols, code, COMPILED.get() - before)
    }
}

fn compiled(all: &Nvrtc, asked: &Asked) -> u32 {
    make(all, asked).3
}

#[test]
fn mlx_calls_these_functions() {
    for (name, ours) in [
        (c"nvrtcCreateProgram", nvrtcCreateProgram as *mut c_void),
        (c"nvrtcAddNameExpression", nvrtcAddNameExpression as *mut c_void),
        (c"nvrtcCompileProgram", nvrtcCompileProgram as *mut c_void),
        (c"nvrtcGetCUBINSize", nvrtcGetCUBINSize as *mut c_void),
        (c"nvrtcGetCUBIN", nvrtcGetCUBIN as *mut c_void),
        (c"nvrtcGetLoweredName", nvrtcGetLoweredName as *mut c_void),
        (c"nvrtcDestroyProgram", nvrtcDestroyProgram as *mut c_void),
    ] {
        assert_eq!(lookup(libc::RTLD_DEFAULT, name), Some(ours), "{name:?}");
    }
}

#[test]
fn a_kernel_is_compiled_once_and_the_next_start_finds_it() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("kernels");
    let asked = Asked { names: &[c"k<1>", c"k<2>"], ..ASKED };
    let first = make(&start(Some(&folder), "1"), &asked);
    assert_eq!(first, (SUCCESS, vec![c"_Z1kv".to_owned(); 2], CODE.to_vec(), 1));
    assert_eq!(make(&start(Some(&folder), "1"), &asked), (first.0, first.1, first.2, 0));
}

#[test]
fn whatever_the_code_depends_on_tells_kernels_apart() {
    let cache = tempfile::tempdir().unwrap();
    let of = |version: &str| start(Some(cache.path()), version);
    assert_eq!(compiled(&of("1"), &ASKED), 1);
    assert_eq!(compiled(&of("2"), &ASKED), 1, "compiler");
    assert_eq!(compiled(&of("1"), &Asked { source: c"other", ..ASKED }), 1, "source");
    assert_eq!(compiled(&of("1"), &Asked { header: c"other", ..ASKED }), 1, "header");
    assert_eq!(compiled(&of("1"), &Asked { names: &[c"other"], ..ASKED }), 1, "name");
    assert_eq!(compiled(&of("1"), &Asked { options: &[c"--gpu-architecture=sm_80"], ..ASKED }), 1, "option");
    assert_eq!(compiled(&of("1"), &ASKED), 0);
}

#[test]
fn headers_count_by_what_they_are_and_not_by_where() {
    let cache = tempfile::tempdir().unwrap();
    let with = |folder: &str, header: &str| {
        let included = cache.path().join(folder);
        std::fs::create_dir_all(&included).unwrap();
        std::fs::write(included.join(HEADERS[1]), header).unwrap();
        let option = CString::new(format!("--include-path={}", included.display())).unwrap();
        compiled(&start(Some(cache.path()), "1"), &Asked { options: &[SM, &option], ..ASKED })
    };
    assert_eq!(with("a", "one"), 1);
    assert_eq!(with("b", "one"), 0);
    assert_eq!(with("a", "two"), 1);
}

#[test]
fn what_cannot_be_kept_is_compiled_every_time() {
    let cache = tempfile::tempdir().unwrap();
    let file = cache.path().join("a file");
    std::fs::write(&file, "").unwrap();
    for (folder, asked) in [
        (Some(cache.path()), Asked { options: &[c"--gpu-architecture=compute_90"], ..ASKED }),
        (Some(cache.path()), Asked { file: c"gather.cu", ..ASKED }),
        (Some(cache.path()), Asked { options: &[FAILS], ..ASKED }),
        (Some(cache.path()), Asked { names: &[c"k\tk"], ..ASKED }),
        (None, ASKED),
        (Some(file.as_path()), ASKED),
    ] {
        for _ in 0..2 {
            let (result, .., compiled) = make(&start(folder, "1"), &asked);
            assert_eq!((result == SUCCESS, compiled), (asked.options[0] != FAILS, 1), "{:?}", asked.options);
        }
    }
}

#[test]
fn a_damaged_file_is_compiled_again() {
    let cache = tempfile::tempdir().unwrap();
    let run = || make(&start(Some(cache.path()), "1"), &ASKED);
    run();
    let file = std::fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&file).unwrap();
    let mut other = whole.clone();
    *other.last_mut().unwrap() ^= 1;
    for damaged in [&whole[..0], &whole[..10], &whole[..64], &whole[..70], &whole[..whole.len() - 1], &other] {
        std::fs::write(&file, damaged).unwrap();
        let (_, _, code, compiled) = run();
        assert_eq!((code.as_slice(), compiled), (CODE, 1), "{} bytes", damaged.len());
    }
    assert_eq!(run().3, 0);
}

#[test]
fn a_program_that_is_compiled_again_with_other_options_is_not_what_it_was() {
    let cache = tempfile::tempdir().unwrap();
    let all = start(Some(cache.path()), "1");
    make(&all, &ASKED);
    let (mut program, mut size) = (std::ptr::null_mut(), 0);
    unsafe {
        let (headers, included) = ([ASKED.header.as_ptr()], [c"h.h".as_ptr()]);
        let (source, file) = (ASKED.source.as_ptr(), ASKED.file.as_ptr());
        all.create(&mut program, source, file, 1, headers.as_ptr(), included.as_ptr());
        all.add_name(program, c"k".as_ptr());
        let before = COMPILED.get();
        assert_eq!((all.compile(program, 1, [SM.as_ptr()].as_ptr()), COMPILED.get()), (SUCCESS, before), "kept");
        assert_eq!(all.compile(program, 1, [FAILS.as_ptr()].as_ptr()), 6);
        assert_eq!(all.cubin_size(program, &mut size), INTERNAL_ERROR);
        all.destroy(&mut program);
    }
}
