//! jemalloc with its own profiler. jemalloc reads the interval from `_RJEM_MALLOC_CONF` before
//! `main`.

#[global_allocator]
static ALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    workloads::main(workloads::bare);
}
