//! The settings of a session and their bounds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Profiler, StartError, signals};
use crate::leak::LeakReport;
use crate::snapshot::MAX_STACK_DEPTH;

/// Settings of a session, checked by [`Config::check`].
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) interval_bytes: u64,
    pub(crate) seed: Option<u64>,
    pub(crate) max_profiler_bytes: u64,
    pub(crate) max_stack_depth: usize,
    pub(crate) diff_every: Duration,
    pub(crate) dump_dir: Option<PathBuf>,
    pub(crate) dump_keep: usize,
    pub(crate) signal: Option<i32>,
    pub(crate) baseline: Option<PathBuf>,
    pub(crate) own_crates: Vec<String>,
    pub(crate) on_report: Option<ReportHook>,
}

/// What is called with each report.
#[derive(Clone)]
pub(crate) struct ReportHook(Arc<dyn Fn(&LeakReport) + Send + Sync>);

impl ReportHook {
    pub(super) fn call(&self, report: &LeakReport) {
        (self.0)(report);
    }
}

impl std::fmt::Debug for ReportHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReportHook")
    }
}

/// The largest interval: a sample every TiB. Above it no sample would ever be taken.
const MAX_INTERVAL: u64 = 1 << 40;

/// The smallest cap: the fixed tables and the unwinder take about half of it.
const MIN_PROFILER_BYTES: u64 = 1 << 20;

impl Config {
    pub(super) fn check(&self) -> Result<(), StartError> {
        check_interval(self.interval_bytes)?;
        if self.max_profiler_bytes < MIN_PROFILER_BYTES {
            return Err(StartError::bad_value(
                "max_profiler_bytes",
                self.max_profiler_bytes,
                format!("at least {MIN_PROFILER_BYTES} bytes"),
            ));
        }
        if !(1..=MAX_STACK_DEPTH).contains(&self.max_stack_depth) {
            return Err(StartError::bad_value(
                "max_stack_depth",
                self.max_stack_depth,
                format!("1 to {MAX_STACK_DEPTH} frames"),
            ));
        }
        if self.dump_keep == 0 {
            return Err(StartError::bad_value("dump_keep", 0, "at least 1 file"));
        }
        if let Some(signal) = self.signal {
            if !signals::is_catchable(signal) {
                return Err(StartError::bad_value(
                    "signal",
                    signal,
                    "a signal that can be handled",
                ));
            }
            if self.dump_dir.is_none() {
                return Err(StartError::bad_value("signal", signal, "a dump_dir along with it"));
            }
        }
        Ok(())
    }
}

pub(super) fn check_interval(interval_bytes: u64) -> Result<(), StartError> {
    if (1..=MAX_INTERVAL).contains(&interval_bytes) {
        return Ok(());
    }
    let expected = format!("1 to {MAX_INTERVAL} bytes");
    Err(StartError::bad_value("sample_interval_bytes", interval_bytes, expected))
}

/// Settings of a [`Profiler`], from [`Profiler::builder`]. Nothing is checked before
/// [`start`](Self::start).
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before start()"]
pub struct Builder {
    config: Config,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            config: Config {
                interval_bytes: 512 << 10,
                seed: None,
                max_profiler_bytes: 64 << 20,
                max_stack_depth: 128,
                diff_every: Duration::from_secs(60),
                dump_dir: None,
                dump_keep: 20,
                signal: None,
                baseline: None,
                own_crates: Vec::new(),
                on_report: None,
            },
        }
    }
}

impl Builder {
    /// Mean bytes between two samples, 1 to 2⁴⁰; default 512 KiB. 1 records every allocation, and
    /// numbers are then exact.
    ///
    /// The relative standard error of a site with `b` live bytes in objects much smaller than the
    /// interval `R` is about `√(R/b)`: 512 KiB shows 50 MiB to within 10%.
    pub fn sample_interval_bytes(mut self, bytes: u64) -> Self {
        self.config.interval_bytes = bytes;
        self
    }

    /// Makes sampling reproducible: the same allocations on the same threads, started in the same
    /// order, give the same samples. Default: another seed in every session.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
        self
    }

    /// Hard cap on the memory of the profiler itself, at least 1 MiB; default 64 MiB.
    ///
    /// When it is reached the profiler thins: it doubles the interval and keeps each live sample
    /// with the probability that the new interval would have given it. Estimates stay unbiased, and
    /// their standard errors grow. Address space of a small multiple is reserved, not used.
    ///
    /// A later session with a smaller cap has to live with what objects sampled by an earlier one
    /// still take. Where that is more than half of it, [`start`](Self::start) says so.
    pub fn max_profiler_bytes(mut self, bytes: u64) -> Self {
        self.config.max_profiler_bytes = bytes;
        self
    }

    /// Frames kept of a stack, innermost first, 1 to 512; default 128. Deeper stacks are marked
    /// truncated.
    pub fn max_stack_depth(mut self, frames: usize) -> Self {
        self.config.max_stack_depth = frames;
        self
    }

    /// Period of the reporting thread; default 60 s, [`Duration::ZERO`] for none. Each period is a
    /// tick of the leak detector, and writes a dump into [`dump_dir`](Self::dump_dir) if there is
    /// one. A period that is shorter than a tick takes is skipped and counted
    /// ([`Stats::skipped_ticks`](crate::Stats::skipped_ticks)), never queued.
    ///
    /// The thread is started where anybody would notice: with a dump folder, with
    /// [`on_report`](Self::on_report), or while the `log` crate listens to `heapdrift`.
    pub fn diff_every(mut self, period: Duration) -> Self {
        self.config.diff_every = period;
        self
    }

    /// Folder for dumps that are periodic, asked for by signal, or written at the end of the
    /// profiler's scope; made if it does not exist. Default: none are written.
    pub fn dump_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.config.dump_dir = Some(folder.into());
        self
    }

    /// How many dumps of this executable the folder keeps, at least 1; default 20. Older ones are
    /// removed, also those of earlier runs.
    pub fn dump_keep(mut self, files: usize) -> Self {
        self.config.dump_keep = files;
        self
    }

    /// Writes a dump into [`dump_dir`](Self::dump_dir) whenever the process receives this signal
    /// (its number, for example `libc::SIGUSR2`). Handlers that were installed before still run.
    pub fn dump_on_signal(mut self, signal: i32) -> Self {
        self.config.signal = Some(signal);
        self
    }

    /// Calls this with the report of every tick, on the thread that made it: the reporting thread, or
    /// that of [`Profiler::diff_now`]. A panic is caught, and logged the first time. Allocations
    /// of the call are not recorded.
    pub fn on_report(mut self, call: impl Fn(&LeakReport) + Send + Sync + 'static) -> Self {
        self.config.on_report = Some(ReportHook(Arc::new(call)));
        self
    }

    /// A dump of the release before, with which each leak candidate is compared: it is new, worse, or
    /// known. It is read at the start, and only the report of its last tick is kept.
    pub fn baseline(mut self, dump: impl Into<PathBuf>) -> Self {
        self.config.baseline = Some(dump.into());
        self
    }

    /// Crates that count as the service's own, besides those that are recognised: what was compiled
    /// in the same workspace as `main`.
    pub fn own_crates(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.config.own_crates = names.into_iter().map(Into::into).collect();
        self
    }

    /// Starts recording.
    ///
    /// On platforms where nothing can be recorded, such as Windows, the session is inert, as it is
    /// without the feature `profiling`: [`Profiler::is_active`] is false. With the feature this is
    /// a surprise, so a warning through the `log` crate says it.
    ///
    /// # Errors
    /// [`StartError::BadValue`] names a setting that cannot work, [`StartError::AlreadyRunning`]
    /// says that a session is running, [`StartError::DumpDir`] that the folder is not writable,
    /// [`StartError::Baseline`] that the baseline is no dump of this program.
    pub fn start(self) -> Result<Profiler, StartError> {
        Profiler::start(self.config)
    }
}
