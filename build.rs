//! Linux: makes the program's `cblas_sgemm` (src/blas) visible to `libmlx.so`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && std::env::var_os("CARGO_FEATURE_MLX").is_some() {
        // The first keeps the linker from dropping what no Rust code calls, the second exports it.
        println!("cargo:rustc-link-arg=-Wl,--undefined=cblas_sgemm");
        println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol=cblas_sgemm");
    }
}
