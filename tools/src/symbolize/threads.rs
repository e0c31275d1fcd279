//! Threads that look names up.

use std::panic;
use std::thread::{self, ScopedJoinHandle};

/// How many threads look names up. Each has its own tables of the file.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// What a thread has found; if it panicked, so does this one.
pub(crate) fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
}
