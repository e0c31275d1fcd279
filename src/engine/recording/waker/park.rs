//! Events that a thread polls for, on systems where nothing that wakes a thread without a
//! descriptor is documented as safe in a signal handler.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// The time after which a signal is noticed. Ten wake-ups a second cost nothing that shows.
const POLL: Duration = Duration::from_millis(100);

/// A set of events for one waiting thread.
#[derive(Debug)]
pub(super) struct Events {
    events: AtomicU32,
    sleeper: OnceLock<Thread>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { events: AtomicU32::new(0), sleeper: OnceLock::new() }
    }

    /// Adds an event, which the thread that waits will see. It is async-signal-safe.
    pub(super) fn raise(&self, event: u32) {
        // Release: pairs with the Acquire in `take` and `contain`.
        self.events.fetch_or(event, Ordering::Release);
    }

    /// Whether an event is there.
    pub(super) fn contain(&self, event: u32) -> bool {
        // Acquire: pairs with the Release in `raise`.
        self.events.load(Ordering::Acquire) & event != 0
    }

    /// Removes an event; `false` if it was not there.
    pub(super) fn take(&self, event: u32) -> bool {
        // Acquire: as in `contain`.
        self.events.fetch_and(!event, Ordering::Acquire) & event != 0
    }

    /// Wakes the thread that waits. It is not for signal handlers.
    pub(super) fn hurry(&self) {
        if let Some(sleeper) = self.sleeper.get() {
            sleeper.unpark();
        }
    }

    /// Sleeps until there may be an event or the time is over. It may return early.
    pub(super) fn sleep(&self, timeout: Option<Duration>) {
        self.sleeper.get_or_init(thread::current);
        thread::park_timeout(timeout.map_or(POLL, |timeout| timeout.min(POLL)));
    }
}
