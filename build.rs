//! Linux: makes the program's `cblas_sgemm` (src/blas) and NVRTC's functions (src/fused/cuda/nvrtc.rs) visible to `libmlx.so`.
//! Release builds: records the commit, so that results can name it wherever the binary is copied. Debug builds record
//! nothing: they are never measured, and are rebuilt too often to look each time.

use std::process::Command;

/// C functions of the program that stand before a library's.
const EXPORTED: [&str; 8] = [
    "cblas_sgemm",
    "nvrtcCreateProgram",
    "nvrtcAddNameExpression",
    "nvrtcCompileProgram",
    "nvrtcGetCUBINSize",
    "nvrtcGetCUBIN",
    "nvrtcGetLoweredName",
    "nvrtcDestroyProgram",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && std::env::var_os("CARGO_FEATURE_MLX").is_some() {
        // The first keeps the linker from dropping what no Rust code calls, the second exports it.
        for name in EXPORTED {
            println!("cargo:rustc-link-arg=-Wl,--undefined={name}");
            println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol={name}");
        }
    }
    if is("PROFILE", "release") {
        record_commit();
    }
}

fn record_commit() {
    // Sources unpacked inside somebody else's checkout have no commit of their own.
    if git(&["ls-files", "--error-unmatch", "src/main.rs"]).is_none() {
        return;
    }
    for path in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={path}");
    }
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    if let Some(commit) = git(&["rev-parse", "HEAD"]) {
        let clean = git(&["diff-index", "--quiet", "HEAD", "--", "src", "Cargo.toml", "Cargo.lock", "build.rs"]);
        println!("cargo:rustc-env=RIDGEPOINT_COMMIT={commit}{}", if clean.is_some() { "" } else { "-dirty" });
    }
}

/// What git prints, or nothing where it fails: no git, or sources outside a checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
