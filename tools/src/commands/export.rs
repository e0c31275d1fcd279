//! `heapdrift export`

use std::path::PathBuf;

use clap::ValueEnum;

use super::options::NameOptions;
use crate::dumps::read;
use crate::error::Error;
use crate::exports::{dhat, jeprof, pprof, speedscope};
use crate::heap::fold;
use crate::numbers::metric::Metric;
use crate::output::{file, terminal};

/// Write a dump in the format of another program
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    heapdrift export --format folded app.heap.json.gz -o app.folded\n  \
    heapdrift export --format folded app.heap.json.gz -o - | inferno-flamegraph > out.svg\n  \
    heapdrift export --format pprof app.heap.json.gz -o app.pb.gz && go tool pprof -top app.pb.gz\n  \
    heapdrift export --format jeprof app.heap.json.gz -o app.jeprof && jeprof --text app.jeprof\n\n\
    folded: one line per stack, root first, frames separated by `;`, labels as the first frames,\n\
    values rounded to whole bytes or objects. A `;` inside a name becomes `:`.\n\
    pprof: allocated and live, objects and bytes; labels, mappings, inlined functions.\n\
    dhat: for dh_view.html of valgrind. Two of its figures are not recorded and are lower bounds:\n\
    the most bytes that one stack held, and the lifetimes of blocks that were freed.\n\
    speedscope: a profile for each metric. jeprof: text with symbols, for jeprof and google-pprof.")]
pub(crate) struct Args {
    /// The dump, or - for standard input
    dump: PathBuf,
    /// The format
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write, or - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What is counted, for folded stacks [default: live-bytes]; the other formats hold all metrics
    #[arg(long, value_enum)]
    metric: Option<Metric>,
    #[command(flatten)]
    names: NameOptions,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Folded stacks, for inferno, flamegraph.pl, speedscope and Firefox Profiler
    Folded,
    /// For go tool pprof, Parca and Pyroscope
    Pprof,
    /// For valgrind's dh_view.html
    Dhat,
    /// For speedscope
    Speedscope,
    /// For jeprof and google-pprof
    Jeprof,
}

/// Writes a dump in the format of another program.
pub(crate) fn run(args: Args) -> Result<(), Error> {
    let metric = args.metric.unwrap_or_default();
    if args.metric.is_some() && args.format != Format::Folded {
        return Err(Error::Usage(
            "--metric: expected with --format folded only, other formats have all metrics".into(),
        ));
    }
    let snapshot = read::dump(&args.dump)?;
    let mut symbolizer = args.names.symbolizer();
    let heap = symbolizer.locate(&snapshot);
    terminal::warn_all(&symbolizer.take_warnings());
    terminal::write_result(&args.output, |path| {
        file::write(path, |out| match args.format {
            Format::Folded => fold::write(&heap.into_symbolized(), metric, out),
            Format::Pprof => pprof::write(&snapshot, &heap, out),
            Format::Dhat => dhat::write(&snapshot, &heap, out),
            Format::Speedscope => speedscope::write(&heap.into_symbolized(), out),
            Format::Jeprof => jeprof::write(&heap, out),
        })
    })
}
