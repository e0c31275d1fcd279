//! What heapdrift itself shows of a heap: tables, differences, flamegraphs.

pub(crate) mod by;
pub mod diff;
pub mod flamegraph;
pub mod info;
pub mod top;
