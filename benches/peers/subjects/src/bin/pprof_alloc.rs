//! pprof-alloc; needs frame pointers. It reads the interval from the environment at the first
//! allocation.

use pprof_alloc::PprofAlloc;

#[global_allocator]
static ALLOC: PprofAlloc = PprofAlloc::new().with_pprof_sample_rate_from_env(0);

fn main() {
    workloads::main(workloads::bare);
}
