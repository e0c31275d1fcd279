//! Threads of the profiler itself.
//!
//! They must not be noticed by the service: they take no signal that is meant for it, no panic ends
//! the process, and nobody waits for them without a limit.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::contain::contain;
use crate::{engine, os};

/// The stack of each thread, whatever `RUST_MIN_STACK` says. Loggers and `on_report` run on it and
/// may expect the size that is usual for Rust's threads, which this is. The profiler itself needs
/// less than a sixteenth of it, also in a debug build; `tests/adverse/stack.rs` measures that.
pub(super) const STACK_BYTES: usize = 2 << 20;

/// A thread. It goes on when this value is dropped.
#[derive(Debug)]
pub(super) struct Worker {
    thread: JoinHandle<()>,
    /// Is disconnected when the thread has done its work. The lock makes this type `Sync`.
    done: Mutex<Receiver<Infallible>>,
}

impl Worker {
    /// Starts a thread that receives no signals but `signal`.
    pub(super) fn spawn(
        signal: Option<i32>,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        engine::muted(|| {
            let (alive, done) = mpsc::channel();
            let builder = thread::Builder::new().name("heapdrift".into()).stack_size(STACK_BYTES);
            let run = move || {
                let _alive = alive;
                if let Some(signal) = signal {
                    os::admit_signal(signal);
                }
                engine::muted(|| contain(work));
            };
            // The thread inherits the mask, so that not even its first instruction takes a signal.
            let thread = os::without_signals(|| builder.spawn(run))?;
            Ok(Self { thread, done: Mutex::new(done) })
        })
    }

    /// Whether this is the calling thread.
    pub(super) fn is_current(&self) -> bool {
        self.thread.thread().id() == thread::current().id()
    }

    /// Waits until the thread has ended, but no longer than `until`. Returns whether it has.
    pub(super) fn wait(self, until: Instant) -> bool {
        let done = self.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_duration_since(Instant::now());
        match done.recv_timeout(left) {
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                // Only a few instructions are left of it. Its panic was contained.
                let _ = self.thread.join();
                true
            }
            Ok(never) => match never {},
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn waiting_ends_with_the_thread_or_with_the_time() {
        let soon = || Instant::now() + Duration::from_millis(20);
        let late = || Instant::now() + Duration::from_secs(60);
        assert!(Worker::spawn(None, || ()).unwrap().wait(late()));
        assert!(Worker::spawn(None, || panic!("contained")).unwrap().wait(late()));
        let (end, ended) = mpsc::channel::<()>();
        let stuck = Worker::spawn(None, move || ended.recv().unwrap_or_default()).unwrap();
        assert!(!stuck.is_current());
        assert!(!stuck.wait(soon()));
        drop(end);
    }
}
