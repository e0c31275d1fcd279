//! What is asked of a subject, and what it answers.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What to run, how much of it, and what to record meanwhile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    pub workload: Workload,
    /// How much, in the workload's own unit.
    pub units: u64,
    pub recording: Recording,
    /// The processor to stay on; `None` for what has several threads.
    pub cpu: Option<usize>,
    /// Folders of Rust sources, for the two programs.
    pub sources: Vec<PathBuf>,
}

/// What is recorded while the workload runs. Not every subject knows every kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recording {
    /// Compiled in and stopped, or nothing to record with.
    Off,
    /// Nothing, and a second thread that sleeps: glibc locks nothing while a process has one.
    IdleThread,
    /// A mean of `bytes` between samples; 1 is every allocation.
    Interval { bytes: u64 },
    /// The same, and a thread that looks for leaks every second.
    Ticking { bytes: u64 },
    /// The same without a thread, while `samples` samples are live.
    AmongLive { bytes: u64, samples: usize },
}

/// W1 to W7, and two programs.
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

    /// What a unit is, for the absolute times.
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

/// What a workload took, from the first allocation that belongs to it to the last free.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    pub wall_ns: u64,
    /// User and system time of all threads.
    pub cpu_ns: u64,
    pub minor_faults: u64,
    /// Highest resident memory of the process until then.
    pub peak_rss_bytes: u64,
    /// Before the workload: more than 1 if the profiler has threads.
    pub threads: u64,
    /// What the profiler says that it lost.
    pub losses: Option<String>,
}
