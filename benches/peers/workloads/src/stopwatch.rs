//! Times, page faults and memory of this process.

use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};

use crate::Measurement;

/// Measures what runs within [`time`](Self::time), and nothing before or after.
pub(crate) struct Stopwatch {
    threads: u64,
    wall_ns: u64,
    cpu_ns: u64,
    minor_faults: u64,
}

impl Stopwatch {
    pub(crate) fn new() -> Self {
        Self { threads: status("Threads:"), wall_ns: 0, cpu_ns: 0, minor_faults: 0 }
    }

    pub(crate) fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (faults, cpu, begin) = (minor_faults(), cpu_ns(), Instant::now());
        let result = work();
        self.wall_ns += begin.elapsed().as_nanos() as u64;
        self.cpu_ns += cpu_ns() - cpu;
        self.minor_faults += minor_faults() - faults;
        result
    }

    pub(crate) fn measurement(self, losses: Option<String>) -> Measurement {
        Measurement {
            wall_ns: self.wall_ns,
            cpu_ns: self.cpu_ns,
            minor_faults: self.minor_faults,
            // Not `ru_maxrss`, which survives `exec` and so may be that of the parent.
            peak_rss_bytes: status("VmHWM:") << 10,
            threads: self.threads,
            losses,
        }
    }
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("every process has it");
    (time.tv_sec() * 1_000_000_000 + time.tv_nsec()) as u64
}

fn minor_faults() -> u64 {
    getrusage(UsageWho::RUSAGE_SELF).expect("every process has it").minor_page_faults() as u64
}

/// A number from `/proc/self/status`.
fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find(|line| line.starts_with(key)).expect("the status has this line");
    let number = line.split_whitespace().nth(1).expect("a number");
    number.parse().expect("a number")
}
