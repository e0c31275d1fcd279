//! `Profiler`: one session of recording, from `start` until it is dropped.

mod builder;
mod contain;
mod dump_dir;
mod environment;
mod leaks;
mod reporter;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use builder::Builder;

use crate::config::{self, Config};
use crate::dump::{self, WriteError};
use crate::engine::{self, Session};
use crate::error::{SettingError, StartError};
use crate::report::LeakReport;
use crate::{Snapshot, Stats, os};
use contain::contain;
use dump_dir::DumpDir;
use leaks::{Baseline, Leaks};
use reporter::Reporter;
use worker::Worker;

/// How long a drop waits for the reporting thread and for the last dump. Both take milliseconds,
/// unless a disk does not answer. Ending the session may take 2 seconds more, where the thread
/// hangs in the middle of a look at its tables.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running profiling session. Recording stops when it is dropped.
///
/// With a [`dump_dir`](Builder::dump_dir) the drop writes a last dump. It waits for that, and for a
/// tick or a call of [`on_report`](Builder::on_report) that is under way, but no longer than 7
/// seconds. After that, as when a disk does not answer, it says so on standard error, ends the
/// session and leaves the work to its thread. A drop never panics.
///
/// Only one session runs in a process at a time. Without the feature `profiling` a session is
/// inert: [`is_active`](Self::is_active) is false, snapshots are empty, and no dumps are written
/// by themselves.
///
/// All methods may be called from any thread, also from a `log` logger and from
/// [`on_report`](Builder::on_report).
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let profiler = heapdrift::Profiler::builder()
///     .sample_interval_bytes(512 << 10)
///     .dump_dir("heapdrift-out")
///     .start()?;
/// // … the service …
/// profiler.dump("now.heap.json.gz")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "recording stops when the profiler is dropped"]
pub struct Profiler {
    shared: Arc<Shared>,
    reporter: Option<Reporter>,
}

/// What the profiler and its reporting thread both use.
///
/// Fields are dropped in this order: the session has ended when the destructors of what `on_report`
/// captured run, and they may start the next one.
#[derive(Debug)]
struct Shared {
    session: Session,
    leaks: Leaks,
    /// Shared with the thread that writes a dump, which does not hold the session meanwhile.
    dump_dir: Option<Arc<DumpDir>>,
    /// Periods that went by while the reporting thread was still at work.
    skipped_ticks: AtomicU64,
    skipped_dumps: AtomicU64,
    /// The process that started the session. A forked child inherits this value, but neither the
    /// reporting thread nor any other thread that may hold a lock.
    process: u32,
}

impl Profiler {
    /// A builder with the default settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts with the settings in the environment variable `HEAPDRIFT`; `Ok(None)` if it is not
    /// set.
    ///
    /// Its value is a comma-separated list of `key=value`. A key has the name of the builder method
    /// that it stands for; some have a short form as well. Each setting is given at most once. The
    /// empty value starts with the defaults.
    ///
    /// | key | short form | value |
    /// | --- | --- | --- |
    /// | [`sample_interval_bytes`] | `interval` | a number of bytes like 65536, 64KiB or 1MiB |
    /// | [`seed`] | | a whole number |
    /// | [`max_profiler_bytes`] | | a number of bytes like 65536, 64KiB or 1MiB |
    /// | [`max_stack_depth`] | | a number of frames |
    /// | [`diff_every`] | `diff` | a time like 500ms, 30s, 5m or 1h, or 0 |
    /// | [`dump_every`] | | a time like 500ms, 30s, 5m or 1h, or 0 |
    /// | [`dump_dir`] | | a folder |
    /// | [`dump_keep`] | `keep` | a number of files |
    /// | [`dump_on_signal`] | `signal` | SIGUSR1, SIGUSR2, SIGHUP or the number of a signal |
    /// | [`baseline`] | | a dump |
    /// | [`own_crates`] | | names of crates, separated by colons |
    ///
    /// [`sample_interval_bytes`]: Builder::sample_interval_bytes
    /// [`seed`]: Builder::seed
    /// [`max_profiler_bytes`]: Builder::max_profiler_bytes
    /// [`max_stack_depth`]: Builder::max_stack_depth
    /// [`diff_every`]: Builder::diff_every
    /// [`dump_every`]: Builder::dump_every
    /// [`dump_dir`]: Builder::dump_dir
    /// [`dump_keep`]: Builder::dump_keep
    /// [`dump_on_signal`]: Builder::dump_on_signal
    /// [`baseline`]: Builder::baseline
    /// [`own_crates`]: Builder::own_crates
    ///
    /// # Errors
    /// [`StartError::UnknownKey`], [`StartError::RepeatedKey`] and [`StartError::BadValue`] name
    /// the key and what was expected; otherwise those of [`Builder::start`].
    ///
    /// # Examples
    /// ```no_run
    /// // HEAPDRIFT="interval=64KiB,diff=30s,dump_dir=/var/tmp/heap,keep=20,signal=SIGUSR2"
    /// # fn main() -> Result<(), heapdrift::StartError> {
    /// let _profiler = heapdrift::Profiler::from_env()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_env() -> Result<Option<Self>, StartError> {
        match std::env::var_os(environment::VARIABLE) {
            None => Ok(None),
            Some(value) => {
                if cfg!(not(feature = "profiling")) {
                    log::warn!(
                        target: "heapdrift",
                        "{} is set, but nothing is recorded: built without the feature \"profiling\"",
                        environment::VARIABLE
                    );
                }
                environment::parse(&value)?.start().map(Some)
            }
        }
    }

    fn start(config: Config) -> Result<Self, StartError> {
        config.check()?;
        let dump_dir =
            config.dump_dir.as_ref().map(|dir| DumpDir::open(dir, config.dump_keep)).transpose()?;
        let dump_dir = dump_dir.map(Arc::new);
        // Without recording there is nothing to be compared with it.
        let baseline = config.baseline.as_deref().filter(|_| Session::RECORDS);
        let baseline = baseline.map(Baseline::read).transpose()?;
        let session = Session::start(&config)?;
        let leaks = engine::muted(|| Leaks::new(&config, baseline));
        let shared = Arc::new(Shared {
            session,
            leaks,
            dump_dir,
            skipped_ticks: AtomicU64::new(0),
            skipped_dumps: AtomicU64::new(0),
            process: std::process::id(),
        });
        let reporter = Reporter::start_if_needed(&shared, &config)?;
        Ok(Self { shared, reporter })
    }

    /// Whether this process is being recorded. This is false while paused, and always false without
    /// `profiling` and on platforms where nothing can be recorded.
    ///
    /// It is also false in a forked child, as which a program continues when it becomes a daemon:
    /// the session belongs to the parent, no thread writes reports or dumps in the child, and
    /// dropping the profiler writes none. The child may [`start`](Builder::start) a session of its
    /// own, before or after it drops the one that it has inherited.
    pub fn is_active(&self) -> bool {
        self.shared.session.is_active()
    }

    /// The recorded state of the process at this moment, with the report of the last tick.
    ///
    /// Allocating threads are not stopped and wait for nothing, so objects that come or go during
    /// the call may be included or not. Time and memory are linear in stacks and live samples.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot("call")
    }

    /// Ends a tick of the leak detector by hand: compares the live set with that of the tick
    /// before, and reports what leaks.
    ///
    /// A report has no candidates before tick 20. A leak is confirmed at tick 24 at the earliest, a
    /// container that only grows at tick 22: before, objects are not old enough to tell. See
    /// [`crate::leak`].
    ///
    /// Allocating threads are not stopped and wait for nothing. Time and memory are linear in live
    /// samples and stacks; names of new candidates are read from the debug information.
    ///
    /// During a tick, that is in [`on_report`](Builder::on_report) and in what a `log` logger or a
    /// panic hook does on that thread, this ends no further tick and returns the last report. In a
    /// forked child it ends no tick either and returns an empty report.
    pub fn diff_now(&self) -> LeakReport {
        if self.shared.is_in_child() {
            // The thread that was ticking may not exist here, and its lock never be released.
            return LeakReport::default();
        }
        self.shared.leaks.tick(&self.shared.session)
    }

    /// Writes a dump of this moment to `path`, atomically and with mode 0600, and waits for the
    /// disk. By convention the name ends in `.heap.json.gz`.
    ///
    /// # Errors
    /// [`WriteError`] names the file and the reason; a file that was there before is intact. A dump
    /// replaces regular files only, no symbolic links or devices.
    pub fn dump(&self, path: impl AsRef<Path>) -> Result<(), WriteError> {
        engine::muted(|| dump::write(&self.snapshot(), path.as_ref()))
    }

    /// The profiler's counters at this moment: samples taken and dropped, bytes held.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Stops sampling until [`resume`](Self::resume). Frees are still followed, so estimates of
    /// what was recorded before stay correct.
    pub fn pause(&self) {
        self.shared.session.set_paused(true);
    }

    /// Continues sampling after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.shared.session.set_paused(false);
    }

    /// Changes the mean number of bytes between samples from now on; 1 records every allocation.
    ///
    /// Earlier samples keep the probability that they were taken with, so estimates stay unbiased.
    /// The calling thread adopts the new interval at once, other threads within 64 KiB of their own
    /// allocations.
    ///
    /// # Errors
    /// [`SettingError`] for 0 and for more than 2⁴⁰.
    pub fn set_sample_interval_bytes(&self, interval_bytes: u64) -> Result<(), SettingError> {
        config::check_interval(interval_bytes)?;
        self.shared.session.set_interval(interval_bytes);
        Ok(())
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        if self.shared.is_in_child() {
            // There is no thread to stop here, and the last dump is for the parent to write.
            std::mem::forget(self.reporter.take());
            return;
        }
        if contain(|| self.end()) == Some(false) {
            os::say_unless_to_file(&format!(
                "heapdrift: the last dump or report has not been finished for {PATIENCE:?}; no \
                 longer waiting for it"
            ));
            // The thread that is stuck may keep the session from being dropped.
            contain(|| self.shared.session.end());
        }
    }
}

impl Profiler {
    /// Ends the reporting thread and writes the last dump. Returns whether both are done.
    fn end(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        let shared = Arc::downgrade(&self.shared);
        let write_last_dump = move || reporter::write_last_dump(&shared);
        match self.reporter.take() {
            // In a callback. The thread cannot wait for itself; it ends when the callback has
            // returned.
            Some(reporter) if reporter.is_current() => {
                write_last_dump();
                true
            }
            Some(reporter) => reporter.end(until),
            None if self.shared.dump_dir.is_none() || !Session::RECORDS => true,
            // The disk is waited for by another thread, because this one would wait for ever.
            None => match Worker::spawn(None, write_last_dump.clone()) {
                Ok(worker) => worker.wait(until),
                Err(_) => {
                    engine::muted(write_last_dump);
                    true
                }
            },
        }
    }
}

impl Shared {
    /// Whether this process is a forked child of the one that started the session.
    fn is_in_child(&self) -> bool {
        std::process::id() != self.process
    }

    fn stats(&self) -> Stats {
        self.with_skipped(self.session.stats())
    }

    /// Adds the counters that the session does not know.
    fn with_skipped(&self, stats: Stats) -> Stats {
        Stats {
            // Relaxed: counters that publish nothing else.
            skipped_ticks: self.skipped_ticks.load(Ordering::Relaxed),
            skipped_dumps: self.skipped_dumps.load(Ordering::Relaxed),
            ..stats
        }
    }

    /// What is recorded now, with the report of the last tick.
    fn snapshot(&self, reason: &str) -> Snapshot {
        engine::muted(|| {
            let mut snapshot = self.session.snapshot(reason);
            let last =
                if self.is_in_child() { self.leaks.last_in_child() } else { self.leaks.last() };
            snapshot.leaks = last.map(Arc::unwrap_or_clone);
            snapshot.stats = self.with_skipped(snapshot.stats);
            snapshot
        })
    }

    /// Ends a tick of the leak detector and returns the very live set that it analysed, so that the
    /// dumps hold all that the verdicts rest on.
    fn tick_with_snapshot(&self, reason: &str) -> Snapshot {
        let mut snapshot = self.leaks.tick_with_snapshot(&self.session, reason);
        snapshot.stats = self.with_skipped(snapshot.stats);
        snapshot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_types_may_be_sent_to_and_shared_with_other_threads() {
        fn is_send_and_sync<T: Send + Sync + 'static>() {}
        is_send_and_sync::<Profiler>();
        is_send_and_sync::<Builder>();
        is_send_and_sync::<Snapshot>();
        is_send_and_sync::<Stats>();
        is_send_and_sync::<LeakReport>();
        is_send_and_sync::<StartError>();
        is_send_and_sync::<SettingError>();
        is_send_and_sync::<WriteError>();
        #[cfg(feature = "read")]
        is_send_and_sync::<crate::dump::ReadError>();
    }
}
