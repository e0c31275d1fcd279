//! The commands to go on with, as they are typed in a shell.

use std::path::Path;

use serde::Serialize;

use super::contents::Report;
use crate::output::{file, shell};

/// A line for a shell, and what it shows.
#[derive(Debug, Serialize)]
pub(super) struct Command {
    shows: &'static str,
    line: String,
}

/// A dump as one word of a shell. What came from a pipe has no name any more.
pub(super) fn word(path: &Path) -> String {
    if file::is_dash(path) { "DUMP".to_owned() } else { shell::word(path) }
}

/// What to try next with the dumps of a report.
pub(super) fn commands(report: &Report<'_>) -> Vec<Command> {
    let moments = &report.history.moments;
    let Some(last) = moments.last().map(|moment| word(&moment.path)) else {
        return Vec::new();
    };
    let command = |shows, line: String| Command { shows, line: format!("heapdrift {line}") };
    let names = match report.name_options {
        "" => String::new(),
        options => format!(" {options}"),
    };
    let mut commands = vec![
        command("What holds memory, by function", format!("top {last}{names}")),
        command("… by the lines of the source", format!("top {last} --by line -n 50{names}")),
        command("… when there was most", format!("top {last} --metric peak-bytes{names}")),
        command("The candidates as text", format!("leaks {last}{names}")),
        command("A flamegraph for a ticket", format!("flamegraph {last} -o heap.svg{names}")),
        command("For go tool pprof", format!("export --format pprof {last} -o heap.pb.gz{names}")),
        command(
            "Names for who lacks the binary",
            format!("symbolize {last} -o named.heap.json.gz{names}"),
        ),
    ];
    if let [first, .., _] = &moments[..] {
        let first = word(&first.path);
        commands.push(command(
            "What changed since the first dump",
            format!("diff {first} {last}{names}"),
        ));
    }
    commands
}
