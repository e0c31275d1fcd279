//! The system allocator with eight instructions per pair that do nothing.

#[path = "../idle.rs"]
mod idle;

use std::alloc::System;

#[global_allocator]
static ALLOC: idle::Idle<System> = idle::Idle(System);

fn main() {
    workloads::main(workloads::bare);
}
