//! `heapdrift report`

use std::path::PathBuf;

use super::candidates::CandidateOptions;
use super::options::{NameOptions, stdin_once};
use crate::dumps::ticks;
use crate::error::Error;
use crate::numbers::units;
use crate::output::{progress, terminal};
use crate::report::{self, History, Report};
use crate::symbolize::{leaks, packages};

/// Write one HTML page of a dump or series: candidates, timeline, icicle graphs, tables
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    heapdrift report app.heap.json.gz -o report.html\n  \
    heapdrift report app-*.heap.json.gz -o report.html\n  \
    heapdrift report app-*.heap.json.gz --memory-limit 2GiB -o report.html\n  \
    heapdrift report app-*.heap.json.gz --baseline last-release.heap.json.gz -o report.html\n\n\
    Several dumps must be of one session. They make up the timeline, and the page compares any two\n\
    of them. The candidates are those of the last dump. The page is one file that loads nothing\n\
    else, for any browser of the last few years.")]
pub(crate) struct Args {
    /// A dump, or a series of dumps of one session; - for standard input
    #[arg(required = true, value_name = "DUMP")]
    dumps: Vec<PathBuf>,
    /// The file to write, or - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    candidates: CandidateOptions,
    /// The memory that the service may use, for example 2GiB: the page then shows it in the
    /// timeline and says when it will be reached
    #[arg(long, value_name = "SIZE", value_parser = memory_limit)]
    memory_limit: Option<f64>,
    #[command(flatten)]
    names: NameOptions,
}

fn memory_limit(text: &str) -> Result<f64, &'static str> {
    let bytes = units::parse_bytes(text).filter(|bytes| *bytes > 0.0);
    bytes.ok_or("expected a size like 2GiB: a number, and B, KiB, MiB, GiB or nothing for bytes")
}

/// Writes the page of a dump or a series.
pub(crate) fn run(args: Args) -> Result<(), Error> {
    stdin_once(args.dumps.iter().chain(&args.candidates.baseline))?;
    let name_options = args.names.in_shell();
    let mut symbolizer = args.names.symbolizer();
    let mut dumps = ticks::in_order(args.dumps)?;
    let mut history = History::default();
    let bar = progress::bar(dumps.len(), "dumps");
    let last = dumps.pop().expect("there is at least one dump");
    for dump in dumps {
        let path = dump.path.clone();
        history.add(&path, &dump.read()?);
        bar.inc(1);
    }
    let path = last.path.clone();
    let last = last.read()?;
    history.add(&path, &last);
    bar.finish_and_clear();
    let heap = symbolizer.symbolize(&last);
    let packages = packages::of_dump(&mut symbolizer, &last, &args.candidates.own_crates);
    let mut leaks = leaks::embedded(&mut symbolizer, &last, &args.candidates.own_crates);
    if let Some(report) = &mut leaks {
        args.candidates.compare_with_baseline(report, &mut symbolizer, &path, &last)?;
    }
    let warnings = symbolizer.take_warnings();
    terminal::warn_all(&warnings);
    terminal::write_result(&args.output, |output| {
        let report = Report {
            dump: &last,
            heap: &heap,
            packages: &packages,
            history: &history,
            leaks: leaks.as_ref(),
            memory_limit: args.memory_limit,
            name_options: &name_options,
            warnings: &warnings,
        };
        report::write(&report, output)
    })
}
