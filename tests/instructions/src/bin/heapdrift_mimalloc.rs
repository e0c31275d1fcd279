//! heapdrift over mimalloc.

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOC: heapdrift::Alloc<MiMalloc> = heapdrift::Alloc::new(MiMalloc);

fn main() {
    instructions::main();
}
