//! Records which commit a release build was made from, so that results can name it wherever the binary is copied.
//! Debug builds record nothing: they are never measured, and are rebuilt too often to look each time.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=scripts/build.rs");
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    for path in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
    // Sources unpacked inside somebody else's checkout have no commit of their own.
    if git(&["ls-files", "--error-unmatch", "src/main.rs"]).is_none() {
        return;
    }
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    if let Some(commit) = git(&["rev-parse", "HEAD"]) {
        let clean = git(&["diff-index", "--quiet", "HEAD", "--", "src", "Cargo.toml", "Cargo.lock"]).is_some();
        println!("cargo::rustc-env=RIDGEPOINT_COMMIT={commit}{}", if clean { "" } else { "-dirty" });
    }
}

/// What git prints, or nothing where it fails: no git, or sources outside a checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
