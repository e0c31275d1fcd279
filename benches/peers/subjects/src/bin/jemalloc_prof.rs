//! jemalloc with its own profiler. The interval comes from `_RJEM_MALLOC_CONF`, which jemalloc reads
//! before `main`.

#[global_allocator]
static ALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    workloads::main(workloads::bare);
}
