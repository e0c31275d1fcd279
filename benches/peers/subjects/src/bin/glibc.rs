//! The system's allocator, declared. Without the declaration Rust's default shim adds 15 instructions a
//! pair, and every wrapper over `System` looks faster than nothing.

use std::alloc::System;

#[global_allocator]
static ALLOC: System = System;

fn main() {
    workloads::main(workloads::bare);
}
