//! heapscope; needs frame pointers.

use heapscope::Profiler;
use workloads::{Recording, Session};

#[global_allocator]
static ALLOC: heapscope::Alloc = heapscope::Alloc::system();

fn main() {
    workloads::main(|recording| {
        let builder = match recording {
            Recording::Off => return Session::none(),
            Recording::Interval { bytes: 1 } => Profiler::builder(),
            Recording::Interval { bytes } => Profiler::builder().sampling(bytes),
            other => panic!("heapscope does not support {other:?}"),
        };
        Session::holding(builder.no_output().build().expect("the profiler starts"), |_| None)
    });
}
