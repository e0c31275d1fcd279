//! The command line: which commands there are, and how their errors end the process.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands::{
    completions, diff, export, flamegraph, info, leaks, merge, report, symbolize, top,
};
use crate::error::Error;
use crate::output::terminal;

#[derive(Parser, Debug)]
#[command(
    name = "heapdrift",
    version,
    about = "Reads heapdrift dumps: tables, flamegraphs, differences, exports",
    after_help = "Examples:\n  \
        heapdrift info app.heap.json.gz\n  \
        heapdrift top app.heap.json.gz --by crate\n  \
        heapdrift flamegraph app.heap.json.gz -o out.svg\n  \
        heapdrift diff monday.heap.json.gz tuesday.heap.json.gz\n\n\
        A dump may be - for standard input, and a file to write - for standard output.\n\
        Exit status: 0 success, 1 a --fail-over bound was crossed, 2 bad usage or unreadable input."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Info(info::Args),
    Top(top::Args),
    Flamegraph(flamegraph::Args),
    Diff(diff::Args),
    Leaks(leaks::Args),
    Report(report::Args),
    Export(export::Args),
    Merge(merge::Args),
    Symbolize(symbolize::Args),
    Completions(completions::Args),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let done = match cli.command {
        Command::Info(args) => info::run(args),
        Command::Top(args) => top::run(args),
        Command::Flamegraph(args) => flamegraph::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Leaks(args) => leaks::run(args),
        Command::Report(args) => report::run(args),
        Command::Export(args) => export::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Symbolize(args) => symbolize::run(args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    let kind = if error.exit_status() == 1 { "fail-over" } else { "error" };
    terminal::error(kind, &error.to_string());
    ExitCode::from(error.exit_status())
}

/// Prints help and version as clap does, and a mistake in the arguments as one line.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let text = error.render().to_string();
    // The first paragraph is the mistake; usage and tips follow.
    let first = text.split("\n\n").next().unwrap_or_default();
    let line = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    terminal::error("error", &format!("{line} (see heapdrift --help)"));
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_examples() {
        let mut command = super::Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands_mut().filter(|s| s.get_name() != "help") {
            let help = sub.render_help().to_string();
            assert!(help.contains("Examples:\n"), "{}", sub.get_name());
        }
    }
}
