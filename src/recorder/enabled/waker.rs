//! Waking the reporting thread: by time, by signal, at the end.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Why the reporting thread woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Stop,
    Signal,
    Timeout,
}

/// A pair of connected sockets: a byte in one end wakes the thread that waits at the other. Writing
/// a byte is all that a signal handler may do.
#[derive(Debug)]
pub(crate) struct Waker {
    sender: UnixStream,
    receiver: UnixStream,
    stop: AtomicBool,
    handler: Option<signal_hook_registry::SigId>,
}

impl Waker {
    /// With a handler for `signal`, if there is one.
    pub(crate) fn new(signal: Option<i32>) -> io::Result<Self> {
        let (sender, receiver) = UnixStream::pair()?;
        sender.set_nonblocking(true)?;
        receiver.set_nonblocking(true)?;
        let handler = signal
            .map(|signal| {
                let end = OwnedFd::from(sender.try_clone()?);
                let process = std::process::id();
                let write = move || {
                    // A forked child inherits the handler and the socket; the thread that waits is
                    // its parent's, which was not signalled.
                    if std::process::id() != process {
                        return;
                    }
                    // SAFETY: `write` is async-signal-safe; a full socket has woken the thread
                    // already, so its error is of no interest. `errno` is kept by the registry.
                    let _ = unsafe { libc::write(end.as_raw_fd(), c"s".as_ptr().cast(), 1) };
                };
                // SAFETY: the action only writes a byte.
                unsafe { signal_hook_registry::register(signal, write) }
            })
            .transpose()?;
        Ok(Self { sender, receiver, stop: AtomicBool::new(false), handler })
    }

    /// Ends the waiting for good.
    pub(crate) fn stop(&self) {
        // Release: pairs with the load in `wait`.
        self.stop.store(true, Ordering::Release);
        // A full socket has woken the thread already.
        let _ = (&self.sender).write(b"e");
    }

    /// Waits for the end, a signal, or the time.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Wake {
        let mut bytes = [0; 64];
        loop {
            // Several signals that came in between ask for one dump.
            let woken = matches!((&self.receiver).read(&mut bytes), Ok(1..));
            // Acquire: pairs with the release in `stop`.
            if self.stop.load(Ordering::Acquire) {
                return Wake::Stop;
            }
            if woken {
                return Wake::Signal;
            }
            let timeout = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => -1,
                Some(left) if left.is_zero() => return Wake::Timeout,
                // Rounded up: a wait that ends early would spin.
                Some(left) => left.as_millis().saturating_add(1).min(i32::MAX as u128) as i32,
            };
            let mut poll =
                libc::pollfd { fd: self.receiver.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor, open as long as `self`. An interruption only means another turn.
            let _ = unsafe { libc::poll(&raw mut poll, 1, timeout) };
        }
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        if let Some(handler) = self.handler {
            signal_hook_registry::unregister(handler);
        }
    }
}
