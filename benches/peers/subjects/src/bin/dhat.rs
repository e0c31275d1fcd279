//! dhat, which records every allocation.

use workloads::{Recording, Session};

#[global_allocator]
static ALLOC: dhat::Alloc = dhat::Alloc;

fn main() {
    workloads::main(|recording| match recording {
        Recording::Off => Session::none(),
        Recording::Interval { bytes: 1 } => Session::holding(dhat::Profiler::new_heap(), |_| None),
        other => panic!("dhat does not support {other:?}"),
    });
}
