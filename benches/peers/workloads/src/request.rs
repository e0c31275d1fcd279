//! The request to a subject, and its answer.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What to run, how much of it, and what to record meanwhile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    pub workload: Workload,
    /// The amount of work in the workload's own unit.
    pub units: u64,
    pub recording: Recording,
    /// The processor to pin to; `None` for workloads with several threads.
    pub cpu: Option<usize>,
    /// Folders of Rust sources, for the two real programs.
    pub sources: Vec<PathBuf>,
}

/// What is recorded while the workload runs. Not every subject supports every kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recording {
    /// The profiler is compiled in but stopped, or there is none.
    Off,
    /// There is no profiler, but a second thread that sleeps: glibc skips its locks in a process
    /// with one thread.
    IdleThread,
    /// A mean of `bytes` between samples; 1 records every allocation.
    Interval { bytes: u64 },
    /// Like `Interval`, with a thread that looks for leaks every second.
    Ticking { bytes: u64 },
    /// Like `Interval`, while `samples` samples are live.
    AmongLive { bytes: u64, samples: usize },
}

/// The synthetic workloads W1 to W7, and two real programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    Pair,
    Churn,
    Larson,
    Xmalloc,
    Growth,
    Json,
    Deep,
    Search,
    Format,
}

impl Workload {
    pub const ALL: [Self; 9] = [
        Self::Pair,
        Self::Churn,
        Self::Larson,
        Self::Xmalloc,
        Self::Growth,
        Self::Json,
        Self::Deep,
        Self::Search,
        Self::Format,
    ];

    /// The unit of work, for the absolute times.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Churn | Self::Larson => "replacement",
            Self::Xmalloc => "block",
            Self::Growth => "vector and string",
            Self::Json => "MB of JSON",
            Self::Deep => "allocation",
            Self::Search => "pass over the sources",
            Self::Format => "MB of Rust",
        }
    }

    pub fn is_threaded(self) -> bool {
        matches!(self, Self::Larson | Self::Xmalloc | Self::Search)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pair => "W1 pair",
            Self::Churn => "W2 churn",
            Self::Larson => "W3 larson",
            Self::Xmalloc => "W4 xmalloc",
            Self::Growth => "W5 growth",
            Self::Json => "W6 json",
            Self::Deep => "W7 deep",
            Self::Search => "search",
            Self::Format => "format",
        })
    }
}

/// The cost of a workload, from its first allocation to its last free.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    pub wall_ns: u64,
    /// User and system time of all threads.
    pub cpu_ns: u64,
    pub minor_faults: u64,
    /// Peak resident memory of the process so far.
    pub peak_rss_bytes: u64,
    /// Threads before the workload: more than 1 if the profiler has its own.
    pub threads: u64,
    /// What the profiler reports as lost.
    pub losses: Option<String>,
}
