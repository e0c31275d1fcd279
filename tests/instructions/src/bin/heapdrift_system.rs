//! heapdrift over the system allocator.

#[global_allocator]
static ALLOC: heapdrift::Alloc = heapdrift::Alloc::system();

fn main() {
    instructions::main();
}
