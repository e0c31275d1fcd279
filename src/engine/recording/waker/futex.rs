//! Events that a thread waits for by the futex calls of Linux. They need no descriptor, and waking
//! is two instructions and a system call, which a signal handler may do.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A set of events for one waiting thread.
#[derive(Debug)]
pub(super) struct Events(AtomicU32);

impl Events {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Adds an event and wakes the thread that waits. It is async-signal-safe.
    pub(super) fn raise(&self, event: u32) {
        // Release: pairs with the Acquire in `take` and `contain`.
        self.0.fetch_or(event, Ordering::Release);
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the call reads nothing but the address of the word, which is this value's own.
        let _ = unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), operation, 1) };
    }

    /// Whether an event is there.
    pub(super) fn contain(&self, event: u32) -> bool {
        // Acquire: pairs with the Release in `raise`.
        self.0.load(Ordering::Acquire) & event != 0
    }

    /// Removes an event; `false` if it was not there.
    pub(super) fn take(&self, event: u32) -> bool {
        // Acquire: as in `contain`.
        self.0.fetch_and(!event, Ordering::Acquire) & event != 0
    }

    /// Does nothing: `raise` has woken the thread.
    pub(super) fn hurry(&self) {}

    /// Sleeps until there is an event or the time is over. It may return early.
    pub(super) fn sleep(&self, timeout: Option<Duration>) {
        /// The longest sleep: the seconds of a year fit any `time_t`.
        const LONGEST: Duration = Duration::from_secs(365 * 86400);

        let timeout = to_timespec(timeout.unwrap_or(LONGEST).min(LONGEST));
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // The kernel sleeps only if the word is still 0, so no event is missed.
        //
        // SAFETY: the word is this value's own, and the time outlives the call.
        let result = unsafe {
            libc::syscall(libc::SYS_futex, self.0.as_ptr(), operation, 0, &raw const timeout)
        };
        if result != -1 {
            return;
        }
        let errno = std::io::Error::last_os_error().raw_os_error();
        if !matches!(errno, Some(libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT)) {
            // A sandbox forbids the call. Polling is better than spinning.
            let pause = to_timespec(Duration::from_millis(100));
            // SAFETY: the time outlives the call, and a null pointer asks for no remainder.
            let _ = unsafe { libc::nanosleep(&raw const pause, std::ptr::null_mut()) };
        }
    }
}

fn to_timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: time.subsec_nanos() as libc::c_long,
    }
}
