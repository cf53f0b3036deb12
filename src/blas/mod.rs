//! See the table of folders in the README.
