//! mimalloc with the sampling heap profiler that is patched into it.

use mimalloc_pprof::{MiMalloc, prof};
use workloads::{Recording, Session};

#[global_allocator]
static ALLOC: MiMalloc = MiMalloc;

fn main() {
    workloads::main(|recording| match recording {
        Recording::Off => Session::none(),
        Recording::Interval { bytes } => {
            assert!(prof::start(bytes as usize), "mimalloc-pprof does not start");
            Session::none()
        }
        other => panic!("mimalloc-pprof does not support {other:?}"),
    });
}
