//! The commands: each file has the arguments of one command and what it does with them.

mod candidates;
pub(crate) mod completions;
pub(crate) mod diff;
pub(crate) mod export;
pub(crate) mod flamegraph;
pub(crate) mod info;
pub(crate) mod leaks;
pub(crate) mod merge;
mod options;
pub(crate) mod report;
pub(crate) mod symbolize;
pub(crate) mod top;
