//! Drafters: whatever proposes tokens.

pub mod lookup;
