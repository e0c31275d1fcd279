//! Wakes the reporting thread: at a time, on a signal, or at the end.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::engine::wake::Wake;

/// A pair of connected sockets: a byte written to one end wakes the thread that waits at the other.
/// A signal handler may do little more than write a byte.
#[derive(Debug)]
pub(crate) struct Waker {
    sender: UnixStream,
    receiver: UnixStream,
    stop: AtomicBool,
    handler: Option<signal_hook_registry::SigId>,
}

impl Waker {
    /// Creates a waker, with a handler for `signal` if one is given.
    pub(crate) fn new(signal: Option<i32>) -> io::Result<Self> {
        let (sender, receiver) = UnixStream::pair()?;
        sender.set_nonblocking(true)?;
        receiver.set_nonblocking(true)?;
        let handler = signal
            .map(|signal| {
                let end = OwnedFd::from(sender.try_clone()?);
                let process = std::process::id();
                let write = move || {
                    // A forked child inherits the handler and the socket, but the thread that waits
                    // belongs to the parent, which was not signalled.
                    if std::process::id() != process {
                        return;
                    }
                    // SAFETY: `write` is async-signal-safe, and the descriptor and the byte live as
                    // long as the closure. An error does not matter: if the socket is full, the
                    // thread has been woken already. The registry preserves `errno`.
                    let _ = unsafe { libc::write(end.as_raw_fd(), c"s".as_ptr().cast(), 1) };
                };
                // SAFETY: the action calls only `getpid` and `write`, which are async-signal-safe.
                unsafe { signal_hook_registry::register(signal, write) }
            })
            .transpose()?;
        Ok(Self { sender, receiver, stop: AtomicBool::new(false), handler })
    }

    /// Ends all waiting, for good.
    pub(crate) fn stop(&self) {
        // Release: pairs with the Acquire in `wait`.
        self.stop.store(true, Ordering::Release);
        // If the socket is full, the thread has been woken already.
        let _ = (&self.sender).write(b"e");
    }

    /// Waits for the end, a signal or the time, whichever comes first.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Wake {
        let mut bytes = [0; 64];
        loop {
            // Several signals that arrived in between ask for one dump.
            let woken = matches!((&self.receiver).read(&mut bytes), Ok(1..));
            // Acquire: pairs with the Release in `stop`.
            if self.stop.load(Ordering::Acquire) {
                return Wake::Stop;
            }
            if woken {
                return Wake::Signal;
            }
            let timeout = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => -1,
                Some(left) if left.is_zero() => return Wake::Timeout,
                // The time is rounded up: a wait that ended early would spin.
                Some(left) => left.as_millis().saturating_add(1).min(i32::MAX as u128) as i32,
            };
            let mut poll =
                libc::pollfd { fd: self.receiver.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: `poll` is one valid descriptor, which is open as long as `self`. An
            // interruption only leads to another iteration.
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
