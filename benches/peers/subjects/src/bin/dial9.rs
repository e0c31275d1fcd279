//! dial9-perf-self-profile with its live set; needs frame pointers.

use dial9_core::buffer::MemoryBuffer;
use dial9_core::recorder::recorder;
use dial9_perf_self_profile::memory_profiling::{
    Dial9Allocator, MemoryProfiler, MemoryProfilingConfig,
};
use workloads::{Recording, Session};

#[global_allocator]
static ALLOC: Dial9Allocator = Dial9Allocator::system();

fn main() {
    workloads::main(|recording| {
        let bytes = match recording {
            Recording::Off => return Session::none(),
            Recording::Interval { bytes } => bytes,
            other => panic!("dial9 does not support {other:?}"),
        };
        let config =
            MemoryProfilingConfig::builder().sample_rate_bytes(bytes).track_liveset(true).build();
        let buffer = MemoryBuffer::new(64 << 20).expect("a buffer");
        let recorder = recorder(buffer).build();
        let guard = MemoryProfiler::from_config(config)
            .install(recorder.handle().clone())
            .expect("an installed profiler");
        Session::holding((recorder, guard), |_| None)
    });
}
