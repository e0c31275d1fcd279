//! The commands that the page suggests, as they are typed in a shell.

use std::path::Path;

use serde::Serialize;

use super::contents::Report;
use crate::output::{file, shell};

/// A command line and what it shows.
#[derive(Debug, Serialize)]
pub(super) struct Command {
    shows: &'static str,
    line: String,
}

/// The path of a dump as one word of a shell, or `DUMP` if it was read from a pipe.
pub(super) fn word(path: &Path) -> String {
    if file::is_dash(path) { "DUMP".to_owned() } else { shell::word(path) }
}

/// The commands to try next with the dumps of a report.
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
        command("What holds memory, by source line", format!("top {last} --by line -n 50{names}")),
        command("What held memory at the peak", format!("top {last} --metric peak-bytes{names}")),
        command("The leak candidates as text", format!("leaks {last}{names}")),
        command(
            "A flamegraph to attach to a ticket",
            format!("flamegraph {last} -o heap.svg{names}"),
        ),
        command("For go tool pprof", format!("export --format pprof {last} -o heap.pb.gz{names}")),
        command(
            "A dump with names, for readers without the binary",
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
