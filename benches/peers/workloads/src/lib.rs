//! The workloads, and the main function of every subject: it takes a request as its argument, and
//! prints a measurement to standard output.
//!
//! Generic code is instantiated here, and nothing is inlined across crates without LTO. So a
//! workload is the same machine code under every allocator; only the code behind `__rust_alloc` and
//! the like differs.

mod churn;
mod deep;
mod format;
mod growth;
mod json;
mod larson;
mod pair;
mod random;
mod request;
mod search;
mod session;
mod sources;
mod stopwatch;
mod xmalloc;

pub use request::{Measurement, Recording, Request, Workload};
pub use session::{Session, bare};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use stopwatch::Stopwatch;

/// The whole program of a subject: starts to record as requested, runs one workload, and prints the
/// measurement.
///
/// It exits without running destructors, because what a profiler writes at the end is not part of
/// the workload.
pub fn main(start: impl FnOnce(Recording) -> Session) {
    let argument = std::env::args().nth(1).expect("a request as the only argument");
    let request: Request = serde_json::from_str(&argument).expect("a request in JSON");
    if let Some(cpu) = request.cpu {
        let mut cpus = CpuSet::new();
        cpus.set(cpu).expect("a valid processor number");
        sched_setaffinity(Pid::from_raw(0), &cpus).expect("a processor that may be used");
    }
    let session = start(request.recording);
    let mut stopwatch = Stopwatch::new();
    run(&request, &mut stopwatch);
    let measurement = stopwatch.measurement(session.losses());
    println!("{}", serde_json::to_string(&measurement).expect("numbers are JSON"));
    std::process::exit(0);
}

fn run(request: &Request, stopwatch: &mut Stopwatch) {
    let units = request.units;
    match request.workload {
        Workload::Pair => pair::run(units, stopwatch),
        Workload::Churn => churn::run(units, stopwatch),
        Workload::Larson => larson::run(units, stopwatch),
        Workload::Xmalloc => xmalloc::run(units, stopwatch),
        Workload::Growth => growth::run(units, stopwatch),
        Workload::Json => json::run(units, stopwatch),
        Workload::Deep => deep::run(units, stopwatch),
        Workload::Search => search::run(units, &request.sources, stopwatch),
        Workload::Format => format::run(units, &request.sources, stopwatch),
    }
}
