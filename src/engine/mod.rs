//! The seam between the public face of the crate and recording.
//!
//! The layers above call these items unconditionally. The contract of each item is written here
//! once, for both backends: [`recording`] with the feature `profiling`, and [`inert`] without it.
//! An inert item is a constant or a pass-through, which vanishes when it is compiled.
//!
//! The choice between the two is made only here. Recording needs the `mmap` and the thread-local
//! stacks of a Unix; on other systems the feature compiles and is inert.

use std::alloc::GlobalAlloc;
use std::io;
use std::time::Instant;

#[cfg(not(all(feature = "profiling", unix)))]
mod inert;
#[cfg(all(feature = "profiling", unix))]
mod recording;
mod wake;

#[cfg(not(all(feature = "profiling", unix)))]
use inert as backend;
#[cfg(all(feature = "profiling", unix))]
use recording as backend;
pub(crate) use wake::Wake;

use crate::config::Config;
use crate::error::StartError;
use crate::report::LeakReport;
use crate::{Snapshot, Stats};

// The allocation path.

/// Counts an allocation of `size` bytes on this thread. If it returns `true`, the allocation must
/// be made by [`alloc`], [`alloc_zeroed`] or [`realloc`] instead of the inner allocator.
#[inline(always)]
pub(crate) fn is_due(size: usize) -> bool {
    backend::is_due(size)
}

/// Whether a block of `size` bytes at `address` may have been sampled. If it returns `true`, the
/// block must be freed by [`dealloc`] or resized by [`realloc`]; otherwise the block is the inner
/// allocator's. It is never `false` for a sampled block, and rarely `true` for another.
#[inline(always)]
pub(crate) fn may_be_sampled(address: usize, size: usize) -> bool {
    backend::may_be_sampled(address, size)
}

/// [`GlobalAlloc::alloc`] for an allocation that [`is_due`]: decides whether to sample it.
///
/// # Safety
/// The caller must uphold the contract of `GlobalAlloc::alloc`, with `size` and `align` from one
/// valid `Layout`.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) unsafe fn alloc<A: GlobalAlloc>(size: usize, align: usize, inner: &A) -> *mut u8 {
    // SAFETY: the caller upholds the contract, which is the same for the backend.
    unsafe { backend::alloc(size, align, inner) }
}

/// [`GlobalAlloc::alloc_zeroed`] for an allocation that [`is_due`].
///
/// # Safety
/// The caller must uphold the contract of `GlobalAlloc::alloc_zeroed`, with `size` and `align` from
/// one valid `Layout`.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) unsafe fn alloc_zeroed<A: GlobalAlloc>(size: usize, align: usize, inner: &A) -> *mut u8 {
    // SAFETY: the caller upholds the contract, which is the same for the backend.
    unsafe { backend::alloc_zeroed(size, align, inner) }
}

/// [`GlobalAlloc::dealloc`] for a block that [`may_be_sampled`].
///
/// # Safety
/// The caller must uphold the contract of `GlobalAlloc::dealloc`, with `size` and `align` from the
/// block's `Layout`, and the block must have been allocated through this module or by `inner`.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) unsafe fn dealloc<A: GlobalAlloc>(block: *mut u8, size: usize, align: usize, inner: &A) {
    // SAFETY: the caller upholds the contract, which is the same for the backend.
    unsafe { backend::dealloc(block, size, align, inner) }
}

/// [`GlobalAlloc::realloc`] for a block that [`may_be_sampled`], or for a new size that [`is_due`].
///
/// # Safety
/// The caller must uphold the contract of `GlobalAlloc::realloc`, with `size` and `align` from the
/// block's `Layout`, and the block must have been allocated through this module or by `inner`.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) unsafe fn realloc<A: GlobalAlloc>(
    block: *mut u8,
    size: usize,
    align: usize,
    new_size: usize,
    inner: &A,
) -> *mut u8 {
    // SAFETY: the caller upholds the contract, which is the same for the backend.
    unsafe { backend::realloc(block, size, align, new_size, inner) }
}

// Labels.

/// Runs `scope` with `labels` in force on this thread, in addition to those of the enclosing
/// scopes.
#[inline(always)]
pub(crate) fn with_labels<R>(labels: &[(&str, &str)], scope: impl FnOnce() -> R) -> R {
    backend::LabelScope::run(labels, scope)
}

/// Like [`with_labels`], for labels that a future owns.
#[inline(always)]
pub(crate) fn with_owned_labels<R>(
    labels: &[(Box<str>, Box<str>)],
    scope: impl FnOnce() -> R,
) -> R {
    backend::LabelScope::run_owned(labels, scope)
}

// Sessions.

/// Runs the profiler's own work: allocations of `work` on this thread are neither sampled nor
/// counted toward the next sample.
#[inline(always)]
pub(crate) fn muted<R>(work: impl FnOnce() -> R) -> R {
    backend::muted(work)
}

/// The only session of the process. Recording ends when it is dropped. A forked child that starts a
/// session ends the one that it has inherited.
#[derive(Debug)]
pub(crate) struct Session(backend::Session);

impl Session {
    /// Whether sessions record anything at all.
    pub(crate) const RECORDS: bool = backend::Session::RECORDS;

    /// Starts recording. The configuration must have been checked.
    pub(crate) fn start(config: &Config) -> Result<Self, StartError> {
        backend::Session::start(config).map(Self)
    }

    /// Whether allocations of this process are being sampled for this session. A forked child has
    /// only inherited its session, so this is false there.
    pub(crate) fn is_active(&self) -> bool {
        self.0.is_active()
    }

    /// Takes a snapshot, without a leak report. Other threads go on recording meanwhile.
    pub(crate) fn snapshot(&self, reason: &str) -> Snapshot {
        self.0.snapshot(reason)
    }

    /// The current counters.
    pub(crate) fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Pauses or resumes sampling. Frees of sampled objects are recorded all the time.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.0.set_paused(paused);
    }

    /// Changes the mean number of bytes between samples, which must be at least 1, for future
    /// samples.
    pub(crate) fn set_interval(&self, interval_bytes: u64) {
        self.0.set_interval(interval_bytes);
    }

    /// Counts a dump that could not be written.
    pub(crate) fn count_failed_dump(&self) {
        self.0.count_failed_dump();
    }

    /// Ends the session before it is dropped. From then on nothing is recorded in it, and another
    /// session may start.
    pub(crate) fn end(&self) {
        self.0.end();
    }
}

/// Wakes the reporting thread: at a time, on a signal, or at the end.
#[derive(Debug)]
pub(crate) struct Waker(backend::Waker);

impl Waker {
    /// Creates a waker, with a handler for `signal` if one is given. Earlier handlers still run.
    pub(crate) fn new(signal: Option<i32>) -> io::Result<Self> {
        backend::Waker::new(signal).map(Self)
    }

    /// Ends all waiting, for good.
    pub(crate) fn stop(&self) {
        self.0.stop();
    }

    /// Waits for the end, a signal or the time, whichever comes first.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Wake {
        self.0.wait(until)
    }
}

/// The leak detector of a session, with names from this process's own binaries.
#[derive(Debug)]
pub(crate) struct Analysis(backend::Analysis);

impl Analysis {
    /// Creates a detector that has seen nothing. `own_crates` count as the service's own, in
    /// addition to those that are recognised.
    pub(crate) fn new(own_crates: Vec<String>) -> Self {
        Self(backend::Analysis::new(own_crates))
    }

    /// Ends the running tick and analyses the live set in place. `None` when nothing is recorded.
    pub(crate) fn tick(&mut self, session: &Session) -> Option<LeakReport> {
        self.0.tick(&session.0)
    }

    /// Ends the running tick and analyses a snapshot of the live set. The snapshot contains no
    /// report.
    pub(crate) fn tick_with_snapshot(
        &mut self,
        session: &Session,
        reason: &str,
    ) -> (Snapshot, LeakReport) {
        self.0.tick_with_snapshot(&session.0, reason)
    }
}
