//! See the table of folders in the README.

pub mod stream;
