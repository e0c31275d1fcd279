//! jemalloc with eight instructions per pair that do nothing.

#[path = "../idle.rs"]
mod idle;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOC: idle::Idle<Jemalloc> = idle::Idle(Jemalloc);

fn main() {
    workloads::main(workloads::bare);
}
