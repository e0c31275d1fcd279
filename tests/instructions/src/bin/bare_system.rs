//! The system's allocator. Declared: Rust's default shim costs more.

#[global_allocator]
static ALLOC: std::alloc::System = std::alloc::System;

fn main() {
    instructions::main();
}
