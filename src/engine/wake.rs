//! Why the reporting thread woke up.

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(all(feature = "profiling", unix)), expect(dead_code, reason = "nothing ever waits"))]
pub(crate) enum Wake {
    /// The profiler is being dropped.
    Stop,
    /// The signal that asks for a dump has arrived.
    Signal,
    /// The time until which the thread waited has come.
    Timeout,
}
