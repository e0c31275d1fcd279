//! The settings of a session, their defaults and their bounds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::SettingError;
use crate::report::LeakReport;
use crate::signals;
use crate::snapshot::MAX_STACK_DEPTH;

/// The settings of a session, which [`Config::check`] validates. Each field has the name of its
/// builder method.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) sample_interval_bytes: u64,
    pub(crate) seed: Option<u64>,
    pub(crate) max_profiler_bytes: u64,
    pub(crate) max_stack_depth: usize,
    pub(crate) diff_every: Duration,
    pub(crate) dump_every: Duration,
    pub(crate) dump_dir: Option<PathBuf>,
    pub(crate) dump_keep: usize,
    pub(crate) dump_on_signal: Option<i32>,
    pub(crate) baseline: Option<PathBuf>,
    pub(crate) own_crates: Vec<String>,
    pub(crate) on_report: Option<ReportHook>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sample_interval_bytes: 512 << 10,
            seed: None,
            max_profiler_bytes: 64 << 20,
            max_stack_depth: 128,
            diff_every: Duration::from_secs(60),
            dump_every: Duration::from_secs(60),
            dump_dir: None,
            dump_keep: 20,
            dump_on_signal: None,
            baseline: None,
            own_crates: Vec::new(),
            on_report: None,
        }
    }
}

/// The callback that receives each report.
#[derive(Clone)]
pub(crate) struct ReportHook(Arc<dyn Fn(&LeakReport) + Send + Sync>);

impl ReportHook {
    pub(crate) fn new(call: impl Fn(&LeakReport) + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }

    pub(crate) fn call(&self, report: &LeakReport) {
        (self.0)(report);
    }
}

impl std::fmt::Debug for ReportHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReportHook")
    }
}

/// The largest interval, one sample per TiB. Above it a process takes practically no samples.
const MAX_INTERVAL: u64 = 1 << 40;

/// The smallest memory cap. The fixed tables and the unwinder take about half of it.
const MIN_PROFILER_BYTES: u64 = 1 << 20;

impl Config {
    /// Checks that every setting has a value that can work.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        check_interval(self.sample_interval_bytes)?;
        if self.max_profiler_bytes < MIN_PROFILER_BYTES {
            return Err(SettingError::new(
                "max_profiler_bytes",
                format!("at least {MIN_PROFILER_BYTES} bytes"),
                self.max_profiler_bytes,
            ));
        }
        if !(1..=MAX_STACK_DEPTH).contains(&self.max_stack_depth) {
            return Err(SettingError::new(
                "max_stack_depth",
                format!("1 to {MAX_STACK_DEPTH} frames"),
                self.max_stack_depth,
            ));
        }
        if self.dump_keep == 0 {
            return Err(SettingError::new("dump_keep", "at least 1 file", 0));
        }
        if let Some(signal) = self.dump_on_signal {
            if !signals::is_catchable(signal) {
                let expected = "a signal that can be handled";
                return Err(SettingError::new("dump_on_signal", expected, signal));
            }
            if self.dump_dir.is_none() {
                let expected = "a dump_dir along with it";
                return Err(SettingError::new("dump_on_signal", expected, signal));
            }
        }
        Ok(())
    }
}

pub(crate) fn check_interval(sample_interval_bytes: u64) -> Result<(), SettingError> {
    if (1..=MAX_INTERVAL).contains(&sample_interval_bytes) {
        return Ok(());
    }
    let expected = format!("1 to {MAX_INTERVAL} bytes");
    Err(SettingError::new("sample_interval_bytes", expected, sample_interval_bytes))
}
