//! The backend that records nothing: every function is a constant or a pass-through and vanishes
//! when it is compiled.

use std::alloc::GlobalAlloc;
use std::io;
use std::time::Instant;

use super::wake::Wake;
use crate::config::Config;
use crate::error::StartError;
use crate::report::LeakReport;
use crate::{Snapshot, Stats};

#[inline(always)]
pub(super) fn is_due(_size: usize) -> bool {
    false
}

#[inline(always)]
pub(super) fn may_be_sampled(_address: usize, _size: usize) -> bool {
    false
}

// The following functions are never called, since nothing is ever due or sampled; they vanish
// together with the test.

/// Stands in for the function of the same name that records.
///
/// # Safety
/// There is nothing to guarantee: it does nothing.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn alloc(_size: usize, _align: usize, _inner: &dyn GlobalAlloc) -> *mut u8 {
    std::ptr::null_mut()
}

/// Stands in for the function of the same name that records.
///
/// # Safety
/// There is nothing to guarantee: it does nothing.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn alloc_zeroed(
    _size: usize,
    _align: usize,
    _inner: &dyn GlobalAlloc,
) -> *mut u8 {
    std::ptr::null_mut()
}

/// Stands in for the function of the same name that records.
///
/// # Safety
/// There is nothing to guarantee: it does nothing.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn dealloc(
    _block: *mut u8,
    _size: usize,
    _align: usize,
    _inner: &dyn GlobalAlloc,
) {
}

/// Stands in for the function of the same name that records.
///
/// # Safety
/// There is nothing to guarantee: it does nothing.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn realloc(
    _block: *mut u8,
    _size: usize,
    _align: usize,
    _new_size: usize,
    _inner: &dyn GlobalAlloc,
) -> *mut u8 {
    std::ptr::null_mut()
}

/// The labels in force on this thread, of which there are none.
#[derive(Debug)]
pub(super) struct LabelScope;

impl LabelScope {
    #[inline(always)]
    pub(super) fn run<R>(_labels: &[(&str, &str)], scope: impl FnOnce() -> R) -> R {
        scope()
    }

    #[inline(always)]
    pub(super) fn run_owned<R>(_labels: &[(Box<str>, Box<str>)], scope: impl FnOnce() -> R) -> R {
        scope()
    }
}

/// Stands in for the waker of a reporting thread, which does not exist.
#[derive(Debug)]
pub(super) struct Waker;

impl Waker {
    pub(super) fn new(_signal: Option<i32>) -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) fn stop(&self) {}

    pub(super) fn wait(&self, _until: Option<Instant>) -> Wake {
        Wake::Stop
    }
}

/// Analyses nothing: there is nothing to analyse.
#[derive(Debug)]
pub(super) struct Analysis;

impl Analysis {
    pub(super) fn new(_own_crates: Vec<String>) -> Self {
        Self
    }

    pub(super) fn tick(&mut self, _session: &Session) -> Option<LeakReport> {
        None
    }

    pub(super) fn tick_with_snapshot(
        &mut self,
        session: &Session,
        reason: &str,
    ) -> (Snapshot, LeakReport) {
        (session.snapshot(reason), LeakReport::default())
    }
}

/// A session in which nothing is recorded.
#[derive(Debug)]
pub(super) struct Session;

impl Session {
    /// Whether sessions record anything.
    pub(super) const RECORDS: bool = false;

    pub(super) fn start(_config: &Config) -> Result<Self, StartError> {
        // Without the feature this is what was asked for; with it, it is a surprise.
        if cfg!(feature = "profiling") {
            log::warn!(
                target: "heapdrift",
                "nothing is recorded: recording needs a Unix, and this platform is none"
            );
        }
        Ok(Self)
    }

    pub(super) fn is_active(&self) -> bool {
        false
    }

    pub(super) fn snapshot(&self, reason: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.process.id = std::process::id();
        snapshot.process.heapdrift_version = env!("CARGO_PKG_VERSION").into();
        snapshot.taken.reason = reason.into();
        snapshot.sampling.state = "off".into();
        snapshot.unwinder = "none".into();
        snapshot
    }

    pub(super) fn stats(&self) -> Stats {
        Stats::default()
    }

    pub(super) fn set_paused(&self, _paused: bool) {}

    pub(super) fn set_interval(&self, _interval_bytes: u64) {}

    pub(super) fn count_failed_dump(&self) {}

    pub(super) fn end(&self) {}
}

#[inline(always)]
pub(super) fn muted<R>(work: impl FnOnce() -> R) -> R {
    work()
}
