//! heapdrift over the system's allocator.

#[path = "../session.rs"]
mod session;

#[global_allocator]
static ALLOC: heapdrift::Alloc = heapdrift::Alloc::system();

fn main() {
    workloads::main(session::start);
}
