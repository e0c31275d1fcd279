//! The `heapdrift` command.
fn main() {}
