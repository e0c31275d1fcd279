//! The command line that all outages have.

use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser};

/// Eight times finer than heapdrift's default, because a run lasts seconds, not days.
const SAMPLE_INTERVAL_BYTES: u64 = 64 << 10;
/// Forty ticks in a run of the default length.
const TICK_MS: u64 = 1000;

#[derive(Debug, Parser)]
pub(super) struct Options {
    /// Run the healthy twin: the same service, repaired, under the same load.
    #[arg(long)]
    pub(super) fixed: bool,
    /// How long the load runs, in seconds.
    #[arg(long, default_value_t = 40, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) seconds: u64,
    /// Folder for the dumps, the flamegraph and the reports; created if it is missing
    /// [default: heapdrift-out/ and the name of the example]
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// A dump of the release before: candidates then say whether they are new.
    #[arg(long, value_name = "DUMP")]
    pub(super) baseline: Option<PathBuf>,
    /// Print the leak report as JSON on standard output, and everything else on standard error.
    #[arg(long)]
    pub(super) json: bool,
    /// Mean bytes between samples.
    #[arg(long, default_value_t = SAMPLE_INTERVAL_BYTES, value_name = "BYTES")]
    pub(super) interval: u64,
    /// Milliseconds between two diffs of the live set; each writes a dump.
    #[arg(long, default_value_t = TICK_MS, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) tick: u64,
}

impl Options {
    /// Reads the command line of the example called `name`. Ends the process on bad usage and
    /// after `--help`.
    pub(super) fn parse_as(name: &'static str, about: &'static str) -> Self {
        let example = format!(
            "Example:\n  cargo run --release --features profiling --example {name} -- \
             --seconds 40 --out heapdrift-out/{name}"
        );
        let command = Self::command().name(name).about(about).after_help(example);
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }
}
