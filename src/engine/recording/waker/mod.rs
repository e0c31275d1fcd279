//! Wakes the reporting thread: at a time, on a signal, or at the end.
//!
//! No descriptors are involved. Programs close descriptors that they did not open (when they become
//! daemons, or by `close_range`), and the number of a closed descriptor soon belongs to another
//! file: waiting for it would spin, and a signal handler would write into a file of the service.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod futex;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod park;

use std::io;
use std::sync::Arc;
use std::time::Instant;

#[cfg(any(target_os = "linux", target_os = "android"))]
use futex::Events;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
use park::Events;

use crate::engine::wake::Wake;

/// The event that ends all waiting.
const STOP: u32 = 1;
/// The event that the signal has arrived.
const SIGNAL: u32 = 2;

/// Lets one thread wait for others and for a signal.
#[derive(Debug)]
pub(crate) struct Waker {
    events: Arc<Events>,
    handler: Option<signal_hook_registry::SigId>,
}

impl Waker {
    /// Creates a waker, with a handler for `signal` if one is given.
    pub(crate) fn new(signal: Option<i32>) -> io::Result<Self> {
        let events = Arc::new(Events::new());
        let handler = signal
            .map(|signal| {
                let events = Arc::clone(&events);
                // A forked child inherits the handler with a copy of the events, in which nobody
                // waits. The parent, which was not signalled, is not woken.
                //
                // SAFETY: `raise` is async-signal-safe, and it does nothing else. The registry
                // preserves `errno`.
                unsafe { signal_hook_registry::register(signal, move || events.raise(SIGNAL)) }
            })
            .transpose()?;
        Ok(Self { events, handler })
    }

    /// Ends all waiting, for good.
    pub(crate) fn stop(&self) {
        self.events.raise(STOP);
        self.events.hurry();
    }

    /// Waits for the end, a signal or the time, whichever comes first.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Wake {
        loop {
            if self.events.contain(STOP) {
                return Wake::Stop;
            }
            // Several signals that arrived in between ask for one dump.
            if self.events.take(SIGNAL) {
                return Wake::Signal;
            }
            let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                return Wake::Timeout;
            }
            self.events.sleep(timeout);
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

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn an_event_ends_a_wait_that_has_begun_and_one_that_has_not() {
        let waker = Waker::new(None).unwrap();
        waker.events.raise(SIGNAL);
        assert_eq!(waker.wait(None), Wake::Signal);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| waker.wait(Some(Instant::now() + LONG)));
            thread::sleep(Duration::from_millis(20));
            waker.stop();
            assert_eq!(waiting.join().unwrap(), Wake::Stop);
        });
        waker.events.raise(SIGNAL);
        assert_eq!(waker.wait(None), Wake::Stop, "the end is for good");
    }

    #[test]
    fn no_event_is_lost_and_none_comes_twice() {
        let waker = Waker::new(None).unwrap();
        thread::scope(|scope| {
            let heard = scope.spawn(|| {
                (0..1000).for_each(|_| {
                    assert_eq!(waker.wait(Some(Instant::now() + LONG)), Wake::Signal);
                    // This is what the other thread waits for.
                    waker.events.raise(4);
                });
            });
            for _ in 0..1000 {
                waker.events.raise(SIGNAL);
                while !waker.events.take(4) {
                    thread::yield_now();
                }
            }
            heard.join().unwrap();
        });
        assert_eq!(waker.wait(Some(Instant::now())), Wake::Timeout);
    }

    #[test]
    fn a_wait_takes_as_long_as_it_should_and_sleeps() {
        let waker = Waker::new(None).unwrap();
        let begin = Instant::now();
        for ms in [0, 1, 30] {
            let until = Instant::now() + Duration::from_millis(ms);
            assert_eq!(waker.wait(Some(until)), Wake::Timeout);
            assert!(Instant::now() >= until);
        }
        assert!(begin.elapsed() < LONG / 2);
    }
}
