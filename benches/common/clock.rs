//! Processor time: it counts nothing of what others run meanwhile.

use nix::time::{ClockId, clock_gettime};

/// Of all threads of the process.
pub(crate) fn process_ns() -> u64 {
    let clock = ClockId::CLOCK_PROCESS_CPUTIME_ID;
    let time = clock_gettime(clock).expect("a clock that every process has");
    (time.tv_sec() * 1_000_000_000 + time.tv_nsec()) as u64
}
