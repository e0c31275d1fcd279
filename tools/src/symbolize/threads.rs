//! The threads that look up names.

use std::panic;
use std::thread::{self, ScopedJoinHandle};

/// How many threads look up names. There are few, because each parses the file on its own.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// Waits for a thread and returns its result. If it panicked, so does the caller.
pub(crate) fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
}
