//! Nothing is recorded: every function is a constant or a pass-through, and vanishes.

use std::alloc::GlobalAlloc;
use std::io;
use std::time::Instant;

use crate::blame::{Frame, Packages};
use crate::leak::{Names, Observation};
use crate::profiler::{Config, StartError};
use crate::snapshot::Module;
use crate::{Snapshot, Stats};

#[inline(always)]
pub(crate) fn is_due(_size: usize) -> bool {
    false
}

#[inline(always)]
pub(crate) fn may_be_sampled(_address: usize, _size: usize) -> bool {
    false
}

// What follows is never called, since nothing is ever due or sampled; it vanishes with the test.

#[inline(always)]
pub(crate) unsafe fn alloc<A: GlobalAlloc>(_size: usize, _align: usize, _inner: &A) -> *mut u8 {
    std::ptr::null_mut()
}

#[inline(always)]
pub(crate) unsafe fn alloc_zeroed<A: GlobalAlloc>(
    _size: usize,
    _align: usize,
    _inner: &A,
) -> *mut u8 {
    std::ptr::null_mut()
}

#[inline(always)]
pub(crate) unsafe fn dealloc<A: GlobalAlloc>(
    _block: *mut u8,
    _size: usize,
    _align: usize,
    _inner: &A,
) {
}

#[inline(always)]
pub(crate) unsafe fn realloc<A: GlobalAlloc>(
    _block: *mut u8,
    _size: usize,
    _align: usize,
    _new_size: usize,
    _inner: &A,
) -> *mut u8 {
    std::ptr::null_mut()
}

/// The labels in force on this thread: none can be.
#[derive(Debug)]
pub(crate) struct LabelScope;

impl LabelScope {
    #[inline(always)]
    pub(crate) fn run<R>(_labels: &[(&str, &str)], scope: impl FnOnce() -> R) -> R {
        scope()
    }

    #[inline(always)]
    pub(crate) fn run_owned<R>(_labels: &[(Box<str>, Box<str>)], scope: impl FnOnce() -> R) -> R {
        scope()
    }
}

/// Why the reporting thread woke up.
#[expect(dead_code, reason = "an inert session has no reporting thread")]
pub(crate) enum Wake {
    Stop,
    Signal,
    Timeout,
}

/// Wakes a thread that does not exist.
#[derive(Debug)]
pub(crate) struct Waker;

impl Waker {
    pub(crate) fn new(_signal: Option<i32>) -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn stop(&self) {}

    pub(crate) fn wait(&self, _until: Option<Instant>) -> Wake {
        Wake::Stop
    }
}

/// Names nothing: there is nothing to name.
#[derive(Debug)]
pub(crate) struct OwnNames(Packages);

impl OwnNames {
    pub(crate) fn new(own_crates: Vec<String>) -> Self {
        Self(Packages::new(own_crates))
    }

    pub(crate) fn prepare(&mut self, _live: &dyn Observation) {}
}

impl Names for OwnNames {
    fn resolve(&mut self, _modules: &[Module], _addresses: &[(usize, u64)]) -> Vec<Vec<Frame>> {
        Vec::new()
    }

    fn packages(&self) -> &Packages {
        &self.0
    }
}

/// A session in which nothing is recorded.
#[derive(Debug)]
pub(crate) struct Session;

impl Session {
    /// Whether sessions record anything.
    pub(crate) const RECORDS: bool = false;

    pub(crate) fn start(_config: &Config) -> Result<Self, StartError> {
        // Without the feature that is what was asked for.
        if cfg!(feature = "profiling") {
            log::warn!(
                target: "heapdrift",
                "nothing is recorded: recording is for Unix, and this platform is none"
            );
        }
        Ok(Self)
    }

    pub(crate) fn is_active(&self) -> bool {
        false
    }

    pub(crate) fn snapshot(&self, reason: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.process.id = std::process::id();
        snapshot.process.heapdrift_version = env!("CARGO_PKG_VERSION").into();
        snapshot.taken.reason = reason.into();
        snapshot.sampling.state = "off".into();
        snapshot.unwinder = "none".into();
        snapshot
    }

    pub(crate) fn end_tick(&self) -> u32 {
        0
    }

    pub(crate) fn observe<R>(
        &self,
        _tick: u32,
        _look: impl FnOnce(&dyn Observation) -> R,
    ) -> Option<R> {
        None
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats::default()
    }

    pub(crate) fn set_paused(&self, _paused: bool) {}

    pub(crate) fn set_interval(&self, _interval_bytes: u64) {}

    pub(crate) fn count_failed_dump(&self) {}

    pub(crate) fn muted<R>(scope: impl FnOnce() -> R) -> R {
        scope()
    }
}
