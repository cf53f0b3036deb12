//! A compiled kernel in a file: the hash of the rest, a line for each name and its symbol, an empty line, and the machine code.

use crate::scenario::sha256_hex;
use std::ffi::CString;
use std::io::Write;
use std::path::Path;

/// Characters of a hash in hexadecimal.
const HASH: usize = 64;

/// What the compiler makes of a program: each name that was asked for with its symbol, and machine code.
pub struct Kernel {
    pub symbols: Vec<(CString, CString)>,
    pub cubin: Vec<u8>,
}

impl Kernel {
    /// Nothing where there is no such file or it is not whole.
    pub fn read(file: &Path) -> Option<Kernel> {
        let bytes = std::fs::read(file).ok()?;
        let (hash, rest) = bytes.split_at_checked(HASH)?;
        if hash != sha256_hex(rest).as_bytes() {
            return None;
        }
        let end = rest.windows(2).position(|pair| pair == b"\n\n")?;
        let (lines, cubin) = (&rest[1..=end], rest[end + 2..].to_vec());
        let symbols = lines.split_inclusive(|byte| *byte == b'\n').map(|line| {
            let mut parts = line.strip_suffix(b"\n")?.split(|byte| *byte == b'\t');
            let mut part = || CString::new(parts.next()?).ok();
            Some((part()?, part()?))
        });
        Some(Kernel { symbols: symbols.collect::<Option<_>>()?, cubin })
    }

    /// Whole or not at all.
    pub fn write(&self, file: &Path) -> std::io::Result<()> {
        let mut rest = b"\n".to_vec();
        for (name, symbol) in &self.symbols {
            rest.extend([name.to_bytes(), b"\t", symbol.to_bytes(), b"\n"].concat());
        }
        rest.extend([b"\n", self.cubin.as_slice()].concat());
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
