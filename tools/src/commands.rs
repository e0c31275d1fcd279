//! What the commands do: read, symbolize, write.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::Path;

use anstyle::AnsiColor;
use heapdrift::Snapshot;

use crate::{
    Error, Symbolized, Symbolizer, cli, dhat, diff as changes, flamegraph as svg, fold,
    info as about, jeprof, output, pprof, series, speedscope, top as tables,
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
    let snapshot = Error::read_dump(&args.dump)?;
    let mut symbolizer = args.names.symbolizer();
    let heap = symbolizer.symbolize(&snapshot);
    warn(&mut symbolizer);
    let rows = tables::table(&heap, &args.by, args.metric);
    let limit = limit(args.limit, args.json);
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
    let base = args.diff.as_deref().map(Error::read_dump).transpose()?;
    let snapshots =
        args.dumps.iter().map(|path| Error::read_dump(path)).collect::<Result<Vec<_>, _>>()?;
    let mut symbolizer = args.names.symbolizer();
    let heap = sum(&mut symbolizer, &series::last_of_each(snapshots));
    let base = base.map(|base| symbolizer.symbolize(&base));
    warn(&mut symbolizer);
    write(&args.output, |path| match &base {
        Some(base) => svg::write_diff(base, &heap, args.metric, path),
        None => svg::write(&heap, args.metric, path),
    })
}

/// `heapdrift diff`
pub(crate) fn diff(args: cli::Diff) -> Result<(), Error> {
    if let Some(rate) = args.fail_over.filter(|rate| !rate.fits(args.metric)) {
        let metric = args.metric;
        return Err(Error::Usage(format!(
            "--fail-over: expected a rate of objects like 100/h with --metric {metric}, found {rate}"
        )));
    }
    let (base, new) = (Error::read_dump(&args.base)?, Error::read_dump(&args.new)?);
    let mut symbolizer = args.names.symbolizer();
    let heaps = [&base, &new].map(|snapshot| symbolizer.symbolize(snapshot));
    if warn(&mut symbolizer) && builds(&base) != builds(&new) {
        let what = "the dumps are of different builds, and without names: sites that are printed as \
                    addresses are not the same in both";
        cli::say("warning", AnsiColor::Yellow, what);
    }
    let side = |snapshot, heap| changes::Side { snapshot, heap };
    let mut found =
        changes::diff(side(&base, &heaps[0]), side(&new, &heaps[1]), &args.by, args.metric);
    // Found in all rows, whatever is shown.
    let crossed = match args.fail_over {
        Some(rate) => found
            .faster_than(rate)
            .map_err(|why| Error::Usage(format!("{}: {why}", args.new.display())))?
            .map(|row| found.crossing(row, rate, args.metric)),
        None => None,
    };
    let limit = limit(args.limit, args.json);
    if args.json {
        found.rows.truncate(limit);
        print_json(&found)?;
    } else {
        print(&found.render_styled(&args.by, args.metric, limit))?;
    }
    crossed.map_or(Ok(()), |what| Err(Error::FailOver(what)))
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

/// The sum of the snapshots, with names.
fn sum(symbolizer: &mut Symbolizer, snapshots: &[Snapshot]) -> Symbolized {
    let mut heaps: Vec<Symbolized> =
        snapshots.iter().map(|snapshot| symbolizer.symbolize(snapshot)).collect();
    if heaps.len() == 1 { heaps.remove(0) } else { Symbolized::sum(heaps) }
}

/// How many rows are shown: what was asked for, 0 being all; documents for scripts have all.
fn limit(asked: Option<usize>, json: bool) -> usize {
    match asked {
        Some(0) => usize::MAX,
        Some(limit) => limit,
        None if json => usize::MAX,
        None => 20,
    }
}

/// Says what was not as it should be, and whether there was anything.
fn warn(symbolizer: &mut Symbolizer) -> bool {
    let warnings = symbolizer.take_warnings();
    for line in &warnings {
        cli::say("warning", AnsiColor::Yellow, line);
    }
    !warnings.is_empty()
}

/// What the modules of a dump were built from.
fn builds(snapshot: &Snapshot) -> BTreeSet<&str> {
    snapshot.modules.iter().map(|module| module.build_id.as_str()).collect()
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
