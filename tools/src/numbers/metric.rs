//! The quantities that a dump estimates for each stack.

use std::fmt;

use clap::ValueEnum;
use heapdrift::Estimate;
use heapdrift::snapshot::Metrics;

/// One of the quantities that a dump estimates for each stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum Metric {
    /// Bytes allocated and not freed.
    #[default]
    LiveBytes,
    /// Objects allocated and not freed.
    LiveCount,
    /// Bytes allocated since recording started.
    AllocBytes,
    /// Objects allocated since recording started.
    AllocCount,
    /// Bytes that were live when the heap was largest.
    PeakBytes,
}

impl Metric {
    /// The estimate of this quantity.
    pub fn of(self, metrics: &Metrics) -> Estimate {
        match self {
            Self::LiveBytes => metrics.live_bytes,
            Self::LiveCount => metrics.live_count,
            Self::AllocBytes => metrics.alloc_bytes,
            Self::AllocCount => metrics.alloc_count,
            Self::PeakBytes => metrics.peak_bytes,
        }
    }

    /// Whether it is a number of bytes; otherwise it is a number of objects.
    pub fn is_bytes(self) -> bool {
        !matches!(self, Self::LiveCount | Self::AllocCount)
    }

    /// The unit: `bytes` or `objects`.
    pub fn unit(self) -> &'static str {
        if self.is_bytes() { "bytes" } else { "objects" }
    }

    /// Its name in a title.
    pub fn title(self) -> &'static str {
        match self {
            Self::LiveBytes => "Live bytes",
            Self::LiveCount => "Live objects",
            Self::AllocBytes => "Allocated bytes since start",
            Self::AllocCount => "Allocated objects since start",
            Self::PeakBytes => "Live bytes at the peak",
        }
    }
}

impl fmt::Display for Metric {
    /// The name on the command line: `live-bytes`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LiveBytes => "live-bytes",
            Self::LiveCount => "live-count",
            Self::AllocBytes => "alloc-bytes",
            Self::AllocCount => "alloc-count",
            Self::PeakBytes => "peak-bytes",
        })
    }
}
