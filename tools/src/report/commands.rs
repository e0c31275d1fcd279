//! The commands to go on with, as they are typed in a shell.

use std::path::Path;

use serde::Serialize;

use super::Report;

/// A line for a shell, and what it shows.
#[derive(Debug, Serialize)]
pub(super) struct Command {
    shows: &'static str,
    line: String,
}

/// A path as one word of a shell.
pub(super) fn word(path: &Path) -> String {
    if path == Path::new("-") {
        // What came from a pipe has no name any more.
        return "DUMP".to_owned();
    }
    let path = path.to_string_lossy();
    // A file that begins with a dash would be taken for an option.
    let path = if path.starts_with('-') { format!("./{path}") } else { path.into_owned() };
    shlex::try_quote(&path).map_or_else(|_| "DUMP".to_owned(), |word| word.into_owned())
}

/// What to try next with the dumps of a report.
pub(super) fn commands(report: &Report<'_>) -> Vec<Command> {
    let moments = &report.history.moments;
    let Some(last) = moments.last().map(|moment| word(&moment.path)) else {
        return Vec::new();
    };
    let command = |shows, line: String| Command { shows, line: format!("heapdrift {line}") };
    let mut commands = vec![
        command("What holds memory, by function", format!("top {last}")),
        command("… by the lines of the source", format!("top {last} --by line -n 50")),
        command("… when there was most", format!("top {last} --metric peak-bytes")),
        command("The candidates as text", format!("leaks {last}")),
        command("A flamegraph for a ticket", format!("flamegraph {last} -o heap.svg")),
        command("For go tool pprof", format!("export --format pprof {last} -o heap.pb.gz")),
        command(
            "Names for who lacks the binary",
            format!("symbolize {last} -o named.heap.json.gz"),
        ),
    ];
    if let [first, .., _] = &moments[..] {
        let first = word(&first.path);
        commands.push(command("What changed since the first dump", format!("diff {first} {last}")));
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word() {
        let word = |path: &str| word(Path::new(path));
        assert_eq!(word("a/b-1.heap.json.gz"), "a/b-1.heap.json.gz");
        assert_eq!(word("-"), "DUMP");
        assert_eq!(word("-rf"), "./-rf");
        for evil in ["a b", "it's", "$(reboot)", "a\nb", "`x`", "*"] {
            assert_eq!(shlex::split(&word(evil)), Some(vec![evil.to_owned()]), "{evil}");
        }
    }
}
