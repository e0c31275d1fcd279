//! heapdrift over mimalloc.

#[path = "../session.rs"]
mod session;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOC: heapdrift::Alloc<MiMalloc> = heapdrift::Alloc::new(MiMalloc);

fn main() {
    workloads::main(session::start);
}
