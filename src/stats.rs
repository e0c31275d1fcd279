//! The profiler's own counters.

/// Counters of one profiling session: what was sampled, what was lost, and how much memory the
/// profiler holds.
///
/// Every [`Snapshot`](crate::Snapshot) and dump contains them, and
/// [`Profiler::stats`](crate::Profiler::stats) returns them. Each `dropped_*` counter is 0 in a
/// healthy session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "read", serde(default))]
#[non_exhaustive]
pub struct Stats {
    /// Samples taken since the session started, including those that could not be kept.
    pub samples_taken: u64,
    /// Samples whose allocation is still live.
    pub samples_live: u64,
    /// Live samples that were discarded to stay below the memory cap. The remaining samples weigh
    /// more instead, so estimates stay unbiased and only their standard errors grow.
    pub samples_thinned: u64,
    /// How many times the interval was raised because the memory cap was reached.
    pub thinnings: u64,
    /// Samples lost because there was no room for their record.
    pub dropped_records: u64,
    /// Samples lost because there was no slot for the object, or its alignment exceeds 64 KiB.
    pub dropped_slots: u64,
    /// Samples kept without their stack because the stack table was full.
    pub dropped_stacks: u64,
    /// Samples kept without their stack because no unwinder was free.
    pub dropped_unwinds: u64,
    /// Samples kept without their labels because the label table was full or the labels were too
    /// many or too long; see [`with_labels`](crate::with_labels) for the limits.
    pub dropped_labels: u64,
    /// Dumps that the reporting thread could not write.
    pub dropped_dumps: u64,
    /// Ticks that were skipped because the reporting thread was still busy with an earlier tick or
    /// dump; see [`Builder::diff_every`](crate::Builder::diff_every).
    pub skipped_ticks: u64,
    /// Periodic dumps that were skipped for the same reason; see
    /// [`Builder::dump_every`](crate::Builder::dump_every).
    pub skipped_dumps: u64,
    /// Distinct stacks that were sampled so far. A stack counts once for each set of labels.
    pub stacks: u64,
    /// Stacks captured by the fast unwinder, which reads DWARF tables in place.
    pub unwound_framehop: u64,
    /// Stacks captured by the unwinder of the standard library, which is used on platforms without
    /// the fast one and on stacks that do not belong to the thread.
    pub unwound_backtrace: u64,
    /// Captured stacks that do not reach the thread's first function, because of the depth limit or
    /// missing unwind information.
    pub truncated_stacks: u64,
    /// Bytes that the profiler holds: its tables, stacks and unwinder, and the slack between
    /// sampled objects and their slots.
    pub profiler_bytes: u64,
    /// The cap on `profiler_bytes`, set by
    /// [`Builder::max_profiler_bytes`](crate::Builder::max_profiler_bytes).
    pub max_profiler_bytes: u64,
}

impl Stats {
    /// Samples that were lost wholly or in part: the sum of the `dropped_*` counters except
    /// `dropped_dumps`.
    pub fn samples_dropped(&self) -> u64 {
        // A damaged dump may contain any numbers, so the sum must not overflow.
        self.dropped_records
            .saturating_add(self.dropped_slots)
            .saturating_add(self.dropped_stacks)
            .saturating_add(self.dropped_unwinds)
            .saturating_add(self.dropped_labels)
    }
}
