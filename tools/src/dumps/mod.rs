//! Dumps as files: reading their heads, putting series in order, merging.

pub(crate) mod head;
pub mod merge;
pub(crate) mod read;
pub mod sessions;
pub(crate) mod ticks;
