//! What the commands do: read, symbolize, write.

use std::io::{self, Write as _};
use std::path::Path;

use anstyle::AnsiColor;
use heapdrift::Snapshot;

use crate::{
    Error, Symbolized, Symbolizer, cli, dhat, flamegraph as svg, fold, info as about, jeprof,
    output, pprof, series, speedscope, top as tables,
};

/// `heapdrift info`
pub(crate) fn info(args: cli::Info) -> Result<(), Error> {
    let snapshot = Error::read_dump(&args.dump)?;
    let mut symbolizer = args.names.symbolizer();
    let modules = symbolizer.match_modules(&snapshot);
    // Problems with modules are part of the answer; only what was given in vain is a warning.
    warn(&mut symbolizer);
    let info = about::Info::new(&snapshot, modules);
    if args.json { print_json(&info) } else { print(&info.render_styled()) }
}

/// `heapdrift top`
pub(crate) fn top(args: cli::Top) -> Result<(), Error> {
    let heap = symbolize(&[Error::read_dump(&args.dump)?], args.names);
    let rows = tables::table(&heap, &args.by, args.metric);
    let limit = match args.limit {
        Some(0) => usize::MAX,
        Some(limit) => limit,
        None if args.json => usize::MAX,
        None => 20,
    };
    if args.json {
        return print_json(&tables::Document {
            metric: args.metric.to_string(),
            total: args.metric.of(&heap.totals),
            rows: &rows[..limit.min(rows.len())],
        });
    }
    print(&tables::render_styled(&heap, &args.by, args.metric, &rows, limit))
}

/// `heapdrift flamegraph`
pub(crate) fn flamegraph(args: cli::Flamegraph) -> Result<(), Error> {
    let snapshots =
        args.dumps.iter().map(|path| Error::read_dump(path)).collect::<Result<Vec<_>, _>>()?;
    let heap = symbolize(&series::last_of_each(snapshots), args.names);
    write(&args.output, |path| svg::write(&heap, args.metric, path))
}

/// `heapdrift export`
pub(crate) fn export(args: cli::Export) -> Result<(), Error> {
    let metric = args.metric.unwrap_or_default();
    if args.metric.is_some() && args.format != cli::Format::Folded {
        return Err(Error::Usage(
            "--metric: expected with --format folded only, other formats have all metrics".into(),
        ));
    }
    let snapshot = Error::read_dump(&args.dump)?;
    let mut symbolizer = args.names.symbolizer();
    let heap = symbolizer.locate(&snapshot);
    warn(&mut symbolizer);
    write(&args.output, |path| {
        output::write(path, |out| match args.format {
            cli::Format::Folded => fold::write(&heap.into_symbolized(), metric, out),
            cli::Format::Pprof => pprof::write(&snapshot, &heap, out),
            cli::Format::Dhat => dhat::write(&snapshot, &heap, out),
            cli::Format::Speedscope => speedscope::write(&heap.into_symbolized(), out),
            cli::Format::Jeprof => jeprof::write(&heap, out),
        })
    })
}

/// The sum of the snapshots, with names. Warnings go to standard error.
fn symbolize(snapshots: &[Snapshot], names: cli::Names) -> Symbolized {
    let mut symbolizer = names.symbolizer();
    let mut heaps: Vec<Symbolized> =
        snapshots.iter().map(|snapshot| symbolizer.symbolize(snapshot)).collect();
    warn(&mut symbolizer);
    if heaps.len() == 1 { heaps.remove(0) } else { Symbolized::sum(heaps) }
}

fn warn(symbolizer: &mut Symbolizer) {
    for line in symbolizer.take_warnings() {
        cli::say("warning", AnsiColor::Yellow, &line);
    }
}

/// Writes a file and says where it is; nothing is said on a standard output that holds the result.
fn write(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Error> {
    write(path).map_err(|error| Error::Output(path.to_owned(), error))?;
    if output::is_stdout(path) { Ok(()) } else { print(&format!("{}\n", path.display())) }
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(stdout_failed)
}

fn print_json(document: &impl serde::Serialize) -> Result<(), Error> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, document)
        .map_err(io::Error::from)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(stdout_failed)
}

fn stdout_failed(error: io::Error) -> Error {
    Error::Output("standard output".into(), error)
}
