//! The two ways a command ends badly: the request was wrong (exit code 2), or the work failed (exit code 1).

use std::fmt;

/// A request that cannot be carried out as it was put: a bad flag, scenario, draft file or model configuration.
/// The message names the file and the field and says what to do.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Returns a [`Usage`] error built from a format string.
#[macro_export]
macro_rules! usage {
    ($($arg:tt)*) => { ::anyhow::Error::new($crate::error::Usage(format!($($arg)*))) };
}

/// Whether a results folder cannot be written to: more work would be lost as well.
pub fn cannot_write(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let stops = [FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull];
    error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(|cause| stops.contains(&cause.kind()))
}

/// 2 if a [`Usage`] error is anywhere in the chain, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<Usage>()) { 2 } else { 1 }
}
