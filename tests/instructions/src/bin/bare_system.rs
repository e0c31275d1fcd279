//! The system allocator alone. It is declared because Rust's default shim costs more instructions.

#[global_allocator]
static ALLOC: std::alloc::System = std::alloc::System;

fn main() {
    instructions::main();
}
