//! Processor time, which does not include the time of other processes on the machine.

use nix::time::{ClockId, clock_gettime};

/// The processor time of all threads of this process.
pub(crate) fn process_ns() -> u64 {
    let clock = ClockId::CLOCK_PROCESS_CPUTIME_ID;
    let time = clock_gettime(clock).expect("every process has this clock");
    (time.tv_sec() * 1_000_000_000 + time.tv_nsec()) as u64
}
