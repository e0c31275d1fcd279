//! heapdrift over the system allocator.

#[path = "../session.rs"]
mod session;

#[global_allocator]
static ALLOC: heapdrift::Alloc = heapdrift::Alloc::system();

fn main() {
    workloads::main(session::start);
}
