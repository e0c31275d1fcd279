//! The system's allocator, and eight instructions that do nothing.

#[path = "../idle.rs"]
mod idle;

use std::alloc::System;

#[global_allocator]
static ALLOC: idle::Idle<System> = idle::Idle(System);

fn main() {
    workloads::main(workloads::bare);
}
