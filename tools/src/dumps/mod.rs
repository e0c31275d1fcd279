//! Dumps as files: reading them, putting a series in order, merging.

pub(crate) mod header;
pub mod merge;
pub(crate) mod read;
pub mod sessions;
pub(crate) mod ticks;
