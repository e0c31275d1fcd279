//! `Builder`: the settings of a session, one method each.

use std::path::PathBuf;
use std::time::Duration;

use super::Profiler;
use crate::config::{Config, ReportHook};
use crate::error::StartError;
use crate::report::LeakReport;

/// Settings of a [`Profiler`], from [`Profiler::builder`]. Values are checked by
/// [`start`](Self::start).
///
/// [`Profiler::from_env`] reads the same settings, by the same names, from the environment.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing before start()"]
pub struct Builder {
    config: Config,
}

impl Builder {
    /// Mean bytes between two samples, 1 to 2⁴⁰; default 512 KiB. An interval of 1 records every
    /// allocation, and numbers are then exact.
    ///
    /// A call site with `b` live bytes in objects much smaller than the interval `R` has a relative
    /// standard error of about `√(R/b)`: 10% for 50 MiB at 512 KiB.
    pub fn sample_interval_bytes(mut self, bytes: u64) -> Self {
        self.config.sample_interval_bytes = bytes;
        self
    }

    /// Makes sampling reproducible: the same allocations, on the same threads, started in the same
    /// order, give the same samples. Default: a random seed in every session.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
        self
    }

    /// Hard cap on the memory of the profiler itself, at least 1 MiB; default 64 MiB.
    ///
    /// When the cap is reached, the profiler doubles the interval and keeps each live sample with
    /// the probability that the new interval would have given it. Estimates stay unbiased; their
    /// standard errors grow. A small multiple of the cap is reserved as address space, without
    /// memory behind it.
    ///
    /// Live objects that an earlier session sampled count toward the cap of a later one. If they
    /// take more than half of it, [`start`](Self::start) returns an error.
    pub fn max_profiler_bytes(mut self, bytes: u64) -> Self {
        self.config.max_profiler_bytes = bytes;
        self
    }

    /// Frames recorded of each stack, innermost first, 1 to 512; default 128. Deeper stacks are
    /// marked as truncated.
    pub fn max_stack_depth(mut self, frames: usize) -> Self {
        self.config.max_stack_depth = frames;
        self
    }

    /// Longest period between two ticks of the leak detector; default 60 s. With
    /// [`Duration::ZERO`] there are only those of [`Profiler::diff_now`].
    ///
    /// A tick that is due while the one before is still running is skipped and counted in
    /// [`Stats::skipped_ticks`](crate::Stats::skipped_ticks). Ticks run on the reporting thread,
    /// which does them only if somebody can hear of verdicts: with a
    /// [`dump_dir`](Self::dump_dir), with [`on_report`](Self::on_report), or while the `log` crate
    /// listens to the target `heapdrift`.
    pub fn diff_every(mut self, period: Duration) -> Self {
        self.config.diff_every = period;
        self
    }

    /// Period of the dumps in [`dump_dir`](Self::dump_dir); default 60 s. With [`Duration::ZERO`]
    /// there are no periodic ones.
    ///
    /// A dump that is due together with a tick holds exactly the live set that the tick analysed,
    /// and its report; any other dump holds the report of the last tick. With the same period for
    /// both, the dumps are a complete record of the detector's input. A dump that is due while the
    /// one before is still being written is skipped and counted in
    /// [`Stats::skipped_dumps`](crate::Stats::skipped_dumps).
    pub fn dump_every(mut self, period: Duration) -> Self {
        self.config.dump_every = period;
        self
    }

    /// Folder for the dumps that are written periodically, on a signal, and when the profiler is
    /// dropped; created if it does not exist. Default: none are written.
    ///
    /// A relative path starts from the working directory at [`start`](Self::start). Processes may
    /// share the folder: the names of dumps carry executable, start, process id and session. Half
    /// dumps of processes that were killed are removed by the next `start` with the same folder.
    pub fn dump_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.config.dump_dir = Some(folder.into());
        self
    }

    /// Number of dumps of this session that are kept in [`dump_dir`](Self::dump_dir), at least 1;
    /// default 20. Older ones are removed, in the order in which they were written. Files of other
    /// sessions, including those of earlier runs, are never removed.
    pub fn dump_keep(mut self, files: usize) -> Self {
        self.config.dump_keep = files;
        self
    }

    /// Writes a dump into [`dump_dir`](Self::dump_dir) whenever the process receives this signal,
    /// given by its number, for example `libc::SIGUSR2`. A handler that was installed before still
    /// runs, and may run on the reporting thread, which receives the signal even if all other
    /// threads block it.
    pub fn dump_on_signal(mut self, signal: i32) -> Self {
        self.config.dump_on_signal = Some(signal);
        self
    }

    /// Calls a function with the report of every tick, on the thread that ran the tick: the
    /// reporting thread, or the caller of [`Profiler::diff_now`].
    ///
    /// The function may use the profiler, and may drop it. No lock of the profiler is held during
    /// the call, and a [`diff_now`](Profiler::diff_now) within it starts no tick but returns the
    /// last report. Two threads may call the function at the same time if `diff_now` is used beside
    /// the reporting thread. A panic is caught, and logged the first time. Allocations made during
    /// the call are not recorded.
    ///
    /// The reporting thread has a stack of 2 MiB, of which the profiler itself takes less than 128
    /// KiB. It blocks all signals except those of faults (such as SIGSEGV) and that of
    /// [`dump_on_signal`](Self::dump_on_signal), and so do threads that the function starts there.
    pub fn on_report(mut self, call: impl Fn(&LeakReport) + Send + Sync + 'static) -> Self {
        self.config.on_report = Some(ReportHook::new(call));
        self
    }

    /// Dump of an earlier release of this program. Each leak candidate is compared with the report
    /// in it, and is new, worse or known; see [`BaselineStatus`](crate::leak::BaselineStatus). The
    /// file is read once, by [`start`](Self::start).
    pub fn baseline(mut self, dump: impl Into<PathBuf>) -> Self {
        self.config.baseline = Some(dump.into());
        self
    }

    /// Crates that count as the service's own, in addition to those that are recognised by
    /// themselves: all that were compiled in the workspace of `main`.
    pub fn own_crates(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.config.own_crates = names.into_iter().map(Into::into).collect();
        self
    }

    /// Starts recording.
    ///
    /// On platforms where nothing can be recorded, such as Windows, the session is inert, as it is
    /// without the feature `profiling`: [`Profiler::is_active`] is false. With the feature, a
    /// warning of the `log` crate says so.
    ///
    /// # Errors
    /// - [`StartError::BadValue`]: a setting has a value that cannot work.
    /// - [`StartError::AlreadyRunning`]: a session is running that this process has started. A
    ///   session that a forked child has inherited ends in the child instead.
    /// - [`StartError::DumpDir`]: the dump folder cannot be created or written to.
    /// - [`StartError::Baseline`]: the baseline cannot be read or is a dump of another program.
    /// - [`StartError::Memory`], [`StartError::Reporter`]: the system refuses memory, a thread or a
    ///   signal handler.
    pub fn start(self) -> Result<Profiler, StartError> {
        Profiler::start(self.config)
    }
}
