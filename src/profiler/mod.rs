//! `Profiler`: one session of recording, from `start` to the end of its scope.

mod config;
mod dump_dir;
mod environment;
mod error;
mod leaks;
mod reporter;
mod signals;

use std::path::Path;
use std::sync::Arc;

pub use config::Builder;
pub(crate) use config::Config;
pub use error::StartError;

use crate::dump::{self, WriteError};
use crate::leak::LeakReport;
use crate::recorder::Session;
use crate::{Snapshot, Stats};
use dump_dir::DumpDir;
use leaks::{Baseline, Leaks};
use reporter::Reporter;

/// A running profiling session. Recording stops when it is dropped.
///
/// One session runs in a process at a time. Without the feature `profiling` it is inert:
/// [`is_active`](Self::is_active) is false, snapshots are empty, and nothing is written on its own.
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
    /// The process that started: a forked child inherits the value but not the reporting thread.
    process: u32,
}

/// What the profiler and its reporting thread both use.
#[derive(Debug)]
struct Shared {
    session: Session,
    leaks: Leaks,
    dump_dir: Option<DumpDir>,
}

impl Profiler {
    /// A builder with the default settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts as the environment variable `HEAPDRIFT` says; `Ok(None)` if it is not set.
    ///
    /// Its value is a comma-separated list of `key=value`, each key at most once; the empty value
    /// starts with the defaults.
    ///
    /// | key | value | as by |
    /// | --- | --- | --- |
    /// | `interval` | bytes: `65536`, `64KiB`, `1MiB` | [`Builder::sample_interval_bytes`] |
    /// | `seed` | a number | [`Builder::seed`] |
    /// | `max_bytes` | bytes | [`Builder::max_profiler_bytes`] |
    /// | `max_depth` | frames | [`Builder::max_stack_depth`] |
    /// | `diff` | time: `500ms`, `30s`, `5m`, `1h`, `0` | [`Builder::diff_every`] |
    /// | `dump_dir` | a folder | [`Builder::dump_dir`] |
    /// | `keep` | a number of files | [`Builder::dump_keep`] |
    /// | `baseline` | a dump | [`Builder::baseline`] |
    /// | `signal` | `SIGUSR1`, `SIGUSR2`, `SIGHUP` or a number | [`Builder::dump_on_signal`] |
    ///
    /// # Errors
    /// [`StartError::UnknownKey`] and [`StartError::BadValue`] name what is wrong; otherwise those
    /// of [`Builder::start`].
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
            Some(value) => environment::parse(&value)?.start().map(Some),
        }
    }

    fn start(config: Config) -> Result<Self, StartError> {
        config.check()?;
        let dump_dir =
            config.dump_dir.as_ref().map(|dir| DumpDir::open(dir, config.dump_keep)).transpose()?;
        let baseline = config.baseline.as_deref().map(Baseline::read).transpose()?;
        let session = Session::start(&config)?;
        let leaks = Session::muted(|| Leaks::new(&config, baseline));
        let shared = Arc::new(Shared { session, leaks, dump_dir });
        let reporter = Reporter::start_if_needed(&shared, &config)?;
        Ok(Self { shared, reporter, process: std::process::id() })
    }

    /// Whether allocations are being sampled: false while paused, and always without `profiling` and
    /// on platforms where nothing can be recorded.
    pub fn is_active(&self) -> bool {
        self.shared.session.is_active()
    }

    /// What is recorded at this moment.
    ///
    /// Allocating threads go on meanwhile and wait for nothing, so objects that come or go during
    /// the call may be in it or not. Time and memory are linear in stacks and live samples.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot("call")
    }

    /// Ends a tick of the leak detector by hand: compares the live set with that of the tick before,
    /// and says what leaks. The first nineteen ticks have no candidates, and the first 25 none that
    /// is confirmed: before there is no age to speak of. See [`crate::leak`].
    ///
    /// Allocating threads go on meanwhile and wait for nothing. Time and memory are linear in live
    /// samples and stacks; the names of new candidates are looked up in the debug information.
    pub fn diff_now(&self) -> LeakReport {
        if std::process::id() != self.process {
            // In a forked child the thread that was ticking may not exist, and its lock be taken.
            return LeakReport::default();
        }
        self.shared.leaks.tick(&self.shared.session)
    }

    /// Writes a dump of this moment to `path`, atomically and with mode 0600. By convention the
    /// name ends in `.heap.json.gz`.
    ///
    /// # Errors
    /// [`WriteError`] names the file and the reason; a file that was there before is intact.
    pub fn dump(&self, path: impl AsRef<Path>) -> Result<(), WriteError> {
        Session::muted(|| dump::write(&self.snapshot(), path.as_ref()))
    }

    /// The profiler's counters at this moment: samples taken and dropped, bytes held.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Stops sampling until [`resume`](Self::resume). Frees are still followed, so that estimates
    /// of what was recorded before stay true.
    pub fn pause(&self) {
        self.shared.session.set_paused(true);
    }

    /// Goes on sampling after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.shared.session.set_paused(false);
    }

    /// Changes the mean number of bytes between samples, from now on; 1 records everything.
    ///
    /// What was sampled before keeps its own probability, so that estimates stay unbiased. Threads
    /// take the new interval over within 64 KiB of their own allocations, the calling thread at once.
    ///
    /// # Errors
    /// [`StartError::BadValue`] for 0 and for more than 2⁴⁰.
    pub fn set_sample_interval_bytes(&self, interval_bytes: u64) -> Result<(), StartError> {
        config::check_interval(interval_bytes)?;
        self.shared.session.set_interval(interval_bytes);
        Ok(())
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            // A forked child: there is no thread to stop and join, and the dump is the parent's to
            // write. Stopping would reach the parent's thread: the socket is shared with it.
            std::mem::forget(self.reporter.take());
            return;
        }
        drop(self.reporter.take());
        self.shared.write_dump("end");
    }
}

impl Shared {
    fn stats(&self) -> Stats {
        Stats { skipped_ticks: self.leaks.skipped(), ..self.session.stats() }
    }

    /// What is recorded now, with the report of the last tick.
    fn snapshot(&self, reason: &str) -> Snapshot {
        let mut snapshot = self.session.snapshot(reason);
        Session::muted(|| snapshot.leaks = self.leaks.last());
        snapshot.stats.skipped_ticks = self.leaks.skipped();
        snapshot
    }

    /// Ends a tick of the leak detector, and writes it down if there is a dump folder.
    fn tick(&self) {
        match &self.dump_dir {
            None => drop(self.leaks.tick(&self.session)),
            Some(_) => {
                // Looked at by the detector and written down is one and the same live set, so that
                // the dumps have all that the verdicts rest on.
                self.keep_dump(&self.leaks.tick_with_snapshot(&self.session, "periodic"));
            }
        }
    }

    /// Writes a dump into the dump folder, if there is one and anything is recorded.
    fn write_dump(&self, reason: &str) {
        if self.dump_dir.is_some() && Session::RECORDS {
            self.keep_dump(&self.snapshot(reason));
        }
    }

    /// A failure is counted, and said once on standard error: the service must go on, and its
    /// operator know.
    fn keep_dump(&self, snapshot: &Snapshot) {
        let Some(dump_dir) = &self.dump_dir else { return };
        Session::muted(|| {
            if let Err(error) = dump_dir.write(snapshot) {
                self.session.count_failed_dump();
                dump_dir.report_once(&error);
            }
        });
    }
}
