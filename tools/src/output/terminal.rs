//! Standard output for results, standard error for messages.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::path::Path;

use anstyle::{AnsiColor, Style};

use crate::error::Error;
use crate::output::file;

/// Prints an error to standard error, `kind` first.
pub(crate) fn error(kind: &str, text: &str) {
    message(kind, AnsiColor::Red, text);
}

/// Prints a warning to standard error.
pub(crate) fn warn(text: &str) {
    message("warning", AnsiColor::Yellow, text);
}

/// Prints warnings to standard error.
pub(crate) fn warn_all(lines: &[String]) {
    lines.iter().for_each(|line| warn(line));
}

/// Prints a remark to standard error.
pub(crate) fn note(text: &str) {
    message("note", AnsiColor::Cyan, text);
}

fn message(kind: &str, color: AnsiColor, text: &str) {
    let style = Style::new().bold().fg_color(Some(color.into()));
    let line = printable(text);
    // Standard error may be closed; then nobody can be told.
    let _ = writeln!(anstream::stderr(), "{style}{kind}:{style:#} {line}");
}

/// Has `write` write a result to `path`, and prints the path unless the result itself went to
/// standard output.
pub(crate) fn write_result(
    path: &Path,
    write: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), Error> {
    write(path).map_err(|error| Error::Output(path.to_owned(), error))?;
    if file::is_dash(path) { Ok(()) } else { print(&format!("{}\n", path.display())) }
}

/// Prints text to standard output, without its ANSI colours where they are not wanted.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(stdout_failed)
}

/// Prints a JSON document to standard output.
pub(crate) fn print_json(document: &impl serde::Serialize) -> Result<(), Error> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, document)
        .map_err(io::Error::from)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(stdout_failed)
}

/// The error of a write to standard output.
pub(crate) fn stdout_failed(error: io::Error) -> Error {
    Error::Output("standard output".into(), error)
}

/// Replaces control characters. Labels and paths come from the recorded program and must not be
/// able to send escape sequences to the terminal.
pub(crate) fn printable(name: &str) -> Cow<'_, str> {
    if name.contains(char::is_control) {
        name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>().into()
    } else {
        name.into()
    }
}
