//! What heapdrift itself shows of a heap: tables and pictures.

pub(crate) mod by;
pub mod diff;
pub mod flamegraph;
pub mod info;
pub mod top;
