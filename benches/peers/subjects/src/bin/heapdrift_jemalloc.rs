//! heapdrift over jemalloc.

#[path = "../session.rs"]
mod session;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOC: heapdrift::Alloc<Jemalloc> = heapdrift::Alloc::new(Jemalloc);

fn main() {
    workloads::main(session::start);
}
