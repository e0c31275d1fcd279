//! Pins a thread to a processor.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Pins this thread to the last processor that it may use, because the first one serves most
/// interrupts.
pub(crate) fn pin_to_last() {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("every thread may run somewhere");
    let may_use = |cpu: &usize| allowed.is_set(*cpu).unwrap_or(false);
    if let Some(last) = (0..CpuSet::count()).rev().find(may_use) {
        let mut cpus = CpuSet::new();
        cpus.set(last).expect("the processor is in the allowed set");
        sched_setaffinity(this, &cpus).expect("the processor is allowed");
    }
}
