//! The reporting thread: writes dumps every period and on a signal.
//!
//! It is started only where periodic work or a signal was asked for: one idle second thread alone
//! takes glibc's allocator out of its single-threaded mode, which costs a program 8% to 15%.

use std::io;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Config, Shared, StartError};
use crate::recorder::{Session, Wake, Waker};

/// A running reporting thread; dropping it stops and joins it.
#[derive(Debug)]
pub(super) struct Reporter {
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Reporter {
    pub(super) fn start_if_needed(
        shared: &Arc<Shared>,
        config: &Config,
    ) -> Result<Option<Self>, StartError> {
        let periodic = !config.diff_every.is_zero();
        let nothing_to_do = shared.dump_dir.is_none() || !(periodic || config.signal.is_some());
        if nothing_to_do || !shared.session.is_active() {
            return Ok(None);
        }
        Self::start(shared, config).map(Some).map_err(StartError::Reporter)
    }

    fn start(shared: &Arc<Shared>, config: &Config) -> io::Result<Self> {
        let waker = Arc::new(Waker::new(config.signal)?);
        let period = (!config.diff_every.is_zero()).then_some(config.diff_every);
        let thread = thread::Builder::new().name("heapdrift".into()).spawn({
            // Weak: in a forked child this thread does not exist, and would keep the session.
            let (waker, shared) = (Arc::clone(&waker), Arc::downgrade(shared));
            move || Session::muted(|| report(&waker, &shared, period))
        })?;
        Ok(Self { waker, thread: Some(thread) })
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.waker.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed by the panic hook; the service goes on.
            let _ = thread.join();
        }
    }
}

fn report(waker: &Waker, shared: &Weak<Shared>, period: Option<Duration>) {
    let write_dump = |reason| {
        if let Some(shared) = shared.upgrade() {
            shared.write_dump(reason);
        }
    };
    let mut due = period.map(|period| Instant::now() + period);
    loop {
        match waker.wait(due) {
            Wake::Stop => return,
            Wake::Signal => write_dump("signal"),
            Wake::Timeout => {
                write_dump("periodic");
                // Periods that passed while the dump was written are skipped, not queued.
                due = period.map(|period| Instant::now() + period);
            }
        }
    }
}
