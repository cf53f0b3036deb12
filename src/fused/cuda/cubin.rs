//! A compiled kernel in a file of the kernel cache: the hash of the rest, a line for each name and its symbol, an empty line, and
//! the code.

use crate::scenario::sha256_hex;
use std::ffi::CString;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Characters of a hash in hexadecimal.
const HASH: usize = 64;

/// What the compiler makes of a program: each name that was asked for with its symbol, and the code for one GPU architecture.
pub struct Cubin {
    pub symbols: Vec<(CString, CString)>,
    pub code: Vec<u8>,
}

impl Cubin {
    /// Nothing where there is no such file or it is not whole.
    pub fn read(file: &Path) -> Option<Cubin> {
        let bytes = std::fs::read(file).ok()?;
        let (hash, rest) = bytes.split_at_checked(HASH)?;
        if hash != sha256_hex(rest).as_bytes() {
            return None;
        }
        let end = rest.windows(2).position(|pair| pair == b"\n\n")?;
        let (lines, code) = (&rest[1..=end], rest[end + 2..].to_vec());
        let symbols = lines.split_inclusive(|byte| *byte == b'\n').map(|line| {
            let mut parts = line.strip_suffix(b"\n")?.split(|byte| *byte == b'\t');
            let mut part = || CString::new(parts.next()?).ok();
            Some((part()?, part()?))
        });
        Some(Cubin { symbols: symbols.collect::<Option<_>>()?, code })
    }

    /// Whole or not at all.
    pub fn write(&self, file: &Path) -> std::io::Result<()> {
        let mut rest = b"\n".to_vec();
        for (name, symbol) in &self.symbols {
            rest.extend([name.to_bytes(), b"\t", symbol.to_bytes(), b"\n"].concat());
        }
        rest.extend([b"\n", self.code.as_slice()].concat());
        let folder = file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        // Another process may write the same.
        let own = file.with_extension(format!("{}.part", std::process::id()));
        let whole = [sha256_hex(&rest).as_bytes(), &rest].concat();
        let mut part = std::fs::File::create(&own)?;
        part.write_all(&whole).and_then(|()| std::fs::rename(&own, file)).inspect_err(|_| {
            let _ = std::fs::remove_file(&own);
        })
    }
}

/// Removes what was written longer ago than `age`: of an earlier program, or compiled again soon.
pub fn remove_old(folder: &Path, age: Duration) {
    let Ok(files) = std::fs::read_dir(folder) else { return };
    let ours = |path: &Path| path.extension().is_some_and(|ending| ending == "cubin" || ending == "part");
    for file in files.flatten().filter(|file| ours(&file.path())) {
        let written = file.metadata().and_then(|metadata| metadata.modified());
        if written.is_ok_and(|written| SystemTime::now().duration_since(written).is_ok_and(|since| since > age)) {
            let _ = std::fs::remove_file(file.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_kernels_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let day = Duration::from_secs(24 * 60 * 60);
        for (name, days) in [("a.cubin", 10), ("b.cubin", 8), ("c.1.part", 10), ("notes.txt", 10)] {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - day * days).unwrap();
        }
        remove_old(folder.path(), 9 * day);
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["b.cubin", "notes.txt"]);
        remove_old(&folder.path().join("none"), day);
    }
}
