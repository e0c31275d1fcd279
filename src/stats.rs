//! What the profiler says about itself.

/// Counters of one profiling session: what was sampled, what was lost, what the profiler holds.
///
/// In every [`Snapshot`](crate::Snapshot) and dump, and from [`Profiler::stats`](crate::Profiler::stats).
/// Each `dropped_*` counter is a sample whose information was lost in that way; all of them are 0
/// in a healthy session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[cfg_attr(feature = "analysis", serde(default))]
#[non_exhaustive]
pub struct Stats {
    /// Samples taken since the session started, whether or not they could be kept.
    pub samples_taken: u64,
    /// Samples whose allocation is still live.
    pub samples_live: u64,
    /// Live samples given up to stay below the memory cap, their weight handed to the survivors.
    /// Estimates stay unbiased; this is no loss, only a coarser picture.
    pub samples_thinned: u64,
    /// Times the interval was raised because the memory cap was reached.
    pub thinnings: u64,
    /// Samples lost because no record was free and none could be made.
    pub dropped_records: u64,
    /// Samples lost because no slot was free for the sampled object, or its alignment is above 64 KiB.
    pub dropped_slots: u64,
    /// Samples kept without their stack because the stack table was full.
    pub dropped_stacks: u64,
    /// Samples kept without their stack because no unwinder was free.
    pub dropped_unwinds: u64,
    /// Samples kept without their labels because the label table was full or a label was too long.
    pub dropped_labels: u64,
    /// Dumps that could not be written by the reporting thread.
    pub dropped_dumps: u64,
    /// Ticks that were skipped because the reporting thread was still busy with an earlier tick or
    /// dump; see [`Builder::diff_every`](crate::Builder::diff_every).
    pub skipped_ticks: u64,
    /// Periodic dumps that were skipped for the same reason; see
    /// [`Builder::dump_every`](crate::Builder::dump_every).
    pub skipped_dumps: u64,
    /// Distinct stacks (with their labels) seen so far.
    pub stacks: u64,
    /// Stacks captured by the fast unwinder, which reads DWARF tables in place.
    pub unwound_framehop: u64,
    /// Stacks captured by the standard library's unwinder: on other platforms, and on foreign stacks.
    pub unwound_backtrace: u64,
    /// Stacks that end before the thread's first function: depth limit, or no unwind information.
    pub truncated_stacks: u64,
    /// Bytes the profiler holds: tables, stacks, unwinder, and the slack of sampled objects' slots.
    pub profiler_bytes: u64,
    /// The cap on `profiler_bytes`, from [`Builder::max_profiler_bytes`](crate::Builder::max_profiler_bytes).
    pub max_profiler_bytes: u64,
}

impl Stats {
    /// All samples of which something was lost: the sum of the `dropped_*` counters but for dumps.
    pub fn samples_dropped(&self) -> u64 {
        // A damaged dump may have any numbers.
        self.dropped_records
            .saturating_add(self.dropped_slots)
            .saturating_add(self.dropped_stacks)
            .saturating_add(self.dropped_unwinds)
            .saturating_add(self.dropped_labels)
    }
}
