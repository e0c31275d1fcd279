//! The system allocator, declared explicitly. Otherwise Rust's default shim adds 15 instructions
//! per pair, and every wrapper over `System` looks faster than the bare allocator.

use std::alloc::System;

#[global_allocator]
static ALLOC: System = System;

fn main() {
    workloads::main(workloads::bare);
}
