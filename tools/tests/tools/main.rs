//! The library and the command on dumps of this very process: its stacks are real, its numbers are
//! made up, so that every result is known.

#![forbid(unsafe_code)]

mod bad_input;
mod binaries;
mod diffs;
mod exports;
mod leaks;
mod merges;
mod mutations;
mod names;
mod numbers;
mod output;
mod recorded;
mod report;
mod scale;
mod symbols;
