//! Tests of the library and the command on dumps of this very process. Its stacks are real and its
//! numbers are made up, so every result is known.

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
mod random;
mod recorded;
mod report;
mod scale;
mod symbols;
