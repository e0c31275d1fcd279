//! mimalloc with eight instructions per pair that do nothing.

#[path = "../idle.rs"]
mod idle;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOC: idle::Idle<MiMalloc> = idle::Idle(MiMalloc);

fn main() {
    workloads::main(workloads::bare);
}
