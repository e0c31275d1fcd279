//! What the commands do: read, symbolize, write.

pub(crate) mod diff;
pub(crate) mod export;
pub(crate) mod flamegraph;
pub(crate) mod leaks;
pub(crate) mod merge;
pub(crate) mod report;
pub(crate) mod symbolize;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anstyle::AnsiColor;

use crate::cli;
use crate::error::Error;
use crate::output;
use crate::symbolize::symbolizer::Symbolizer;
use crate::views::info as about;
use crate::views::top as tables;

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

/// `heapdrift completions`
pub(crate) fn completions(args: cli::Completions) -> Result<(), Error> {
    // As bytes: colours are none of a script's.
    let mut out = io::stdout().lock();
    out.write_all(&args.script()).and_then(|()| out.flush()).map_err(stdout_failed)
}

/// `heapdrift top`
pub(crate) fn top(args: cli::Top) -> Result<(), Error> {
    let snapshot = Error::read_dump(&args.dump)?;
    let mut symbolizer = args.names.symbolizer();
    let heap = symbolizer.symbolize(&snapshot);
    warn(&mut symbolizer);
    let (cli::Table { by, metric, json, .. }, limit) = (&args.table, args.table.limit());
    let rows = tables::table(&heap, by, *metric);
    if *json {
        return print_json(&tables::Document {
            metric: metric.to_string(),
            total: metric.of(&heap.totals),
            rows: &rows[..limit.min(rows.len())],
        });
    }
    print(&tables::render_styled(&heap, by, *metric, &rows, limit))
}

/// Standard input can be read once: a command that takes several dumps takes one from there.
fn stdin_once<'a>(dumps: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), Error> {
    if dumps.into_iter().filter(|path| output::is_stdout(path)).nth(1).is_some() {
        let what = "-: expected one dump from standard input, found it named more than once";
        return Err(Error::Usage(what.into()));
    }
    Ok(())
}

/// Says what was not as it should be, and gives it.
fn warn(symbolizer: &mut Symbolizer) -> Vec<String> {
    let warnings = symbolizer.take_warnings();
    for line in &warnings {
        cli::say("warning", AnsiColor::Yellow, line);
    }
    warnings
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
