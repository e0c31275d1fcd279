//! The `heapdrift` command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    heapdrift_tools::cli::run()
}
