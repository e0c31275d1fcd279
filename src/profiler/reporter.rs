//! The reporting thread: ticks of the leak detector, and dumps at each and on a signal.
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
        let heard = shared.dump_dir.is_some()
            || config.on_report.is_some()
            || log::log_enabled!(target: "heapdrift", log::Level::Warn);
        let something_to_do = (periodic && heard) || config.dump_on_signal.is_some();
        if !something_to_do || !shared.session.is_active() {
            return Ok(None);
        }
        Self::start(shared, config).map(Some).map_err(StartError::Reporter)
    }

    fn start(shared: &Arc<Shared>, config: &Config) -> io::Result<Self> {
        let waker = Arc::new(Waker::new(config.dump_on_signal)?);
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
        let Some(thread) = self.thread.take() else { return };
        // A callback on the reporting thread may drop the profiler. The thread cannot join itself;
        // it ends when the callback has returned.
        if thread.thread().id() != thread::current().id() {
            // The panic hook has printed a panic of the thread already, and the service goes on.
            let _ = thread.join();
        }
    }
}

fn report(waker: &Waker, shared: &Weak<Shared>, period: Option<Duration>) {
    let mut due = period.map(|period| Instant::now() + period);
    loop {
        let wake = waker.wait(due);
        let Some(shared) = shared.upgrade() else { return };
        match (wake, period, &mut due) {
            (Wake::Stop, ..) => return,
            (Wake::Signal, ..) => shared.write_dump("signal"),
            (Wake::Timeout, Some(period), Some(due)) => {
                shared.tick();
                // Periods that went by meanwhile are skipped, not queued.
                let late = Instant::now().saturating_duration_since(*due + period);
                let skipped = late.as_nanos().div_ceil(period.as_nanos()) as u32;
                shared.leaks.skip(skipped.into());
                *due += period * (skipped + 1);
            }
            (Wake::Timeout, ..) => {}
        }
    }
}
