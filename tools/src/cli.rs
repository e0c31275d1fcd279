//! The command line. What each command does stands in `commands`; here is how it is spelled.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::error::Error;
use crate::numbers::metric::Metric;
use crate::numbers::rate::Rate;
use crate::output;
use crate::symbolize::cache;
use crate::symbolize::symbolizer;
use crate::symbolize::symbolizer::Symbolizer;
use crate::views::top::By;

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
        Exit status: 0 fine, 1 a --fail-over bound was crossed, 2 bad usage or unreadable input."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// What a dump is: binary, interval, samples, losses, totals with ±
    #[command(after_help = "Examples:\n  \
        heapdrift info app.heap.json.gz\n  \
        heapdrift info --json app.heap.json.gz | jq .live_bytes.value")]
    Info(Info),
    /// A table of self and total, each with its standard error
    #[command(after_help = "Examples:\n  \
        heapdrift top app.heap.json.gz\n  \
        heapdrift top app.heap.json.gz --by crate --metric peak-bytes\n  \
        heapdrift top app.heap.json.gz --by label:route -n 5\n  \
        heapdrift top app.heap.json.gz --json | jq '.rows[0]'\n\n\
        self belongs to the innermost function of a stack, after the frames of allocator and\n\
        profiler are cut off; total counts a name once in each stack.")]
    Top(Top),
    /// An SVG flamegraph; labels are frames next to the root
    #[command(after_help = "Examples:\n  \
        heapdrift flamegraph app.heap.json.gz -o out.svg\n  \
        heapdrift flamegraph app.heap.json.gz --metric peak-bytes -o peak.svg\n  \
        heapdrift flamegraph host1/*.gz host2/*.gz -o both.svg\n  \
        heapdrift flamegraph now.heap.json.gz --diff base.heap.json.gz -o diff.svg\n\n\
        Several dumps: those of one process (the same session) are a series, of which the last is\n\
        drawn, because each holds what the ones before held; different processes are summed.")]
    Flamegraph(Flamegraph),
    /// What is new or grew from one dump to another, and whether that can be chance
    #[command(after_help = "Examples:\n  \
        heapdrift diff monday.heap.json.gz tuesday.heap.json.gz\n  \
        heapdrift diff v1.heap.json.gz v2.heap.json.gz --by crate --metric peak-bytes\n  \
        heapdrift diff base.heap.json.gz now.heap.json.gz --json | jq '.rows[] | select(.significant)'\n  \
        heapdrift diff base.heap.json.gz now.heap.json.gz --fail-over 10MiB/h\n\n\
        A row is what holds memory itself (the innermost function of a stack, after the frames of\n\
        allocator and profiler are cut off), so rows add up to the heap. Rows are matched by name:\n\
        the dumps may be of different builds. A change marked * is significant by a z-test, with at\n\
        most 5% false ones among those marked (Benjamini and Hochberg). Of two dumps of one process,\n\
        objects that are in both add no uncertainty.\n\n\
        --fail-over: exit status 1 if the heap, or a row, grew significantly and its growth between\n\
        the times of the two dumps is above RATE at the lower end of its 95% interval.")]
    Diff(Diff),
    /// The leak candidates: of one dump as the service saw them, or worked out from a series
    #[command(after_help = "Examples:\n  \
        heapdrift leaks app.heap.json.gz\n  \
        heapdrift leaks app-*.heap.json.gz\n  \
        heapdrift leaks app.heap.json.gz --baseline last-release.heap.json.gz\n  \
        heapdrift leaks app.heap.json.gz --fail-over 10MiB/h\n  \
        heapdrift leaks app.heap.json.gz --json | jq '.candidates[] | select(.verdict == \"confirmed\")'\n\n\
        One dump: the report in it, with names looked up where the service had none. Several: the\n\
        detector runs over them, in order of their ticks. They must be of one session. With a dump\n\
        of every tick the verdicts are the service's own; where ticks are missing they come later.\n\n\
        --fail-over: exit status 1 if a confirmed candidate leaks more than RATE at the lower end of its\n\
        95% interval.")]
    Leaks(Leaks),
    /// One HTML page of a dump or a series: candidates, timeline, icicle graphs, tables
    #[command(after_help = "Examples:\n  \
        heapdrift report app.heap.json.gz -o report.html\n  \
        heapdrift report app-*.heap.json.gz -o report.html\n  \
        heapdrift report app-*.heap.json.gz --memory-limit 2GiB -o report.html\n  \
        heapdrift report app-*.heap.json.gz --baseline last-release.heap.json.gz -o report.html\n\n\
        Several dumps must be of one session: they make the timeline, and differences between any two\n\
        of them can be looked at. The candidates are those in the last dump. The page is one file that\n\
        loads nothing, for any browser of the last few years.")]
    Report(Report),
    /// For other programs
    #[command(after_help = "Examples:\n  \
        heapdrift export --format folded app.heap.json.gz -o app.folded\n  \
        heapdrift export --format folded app.heap.json.gz -o - | inferno-flamegraph > out.svg\n\n\
        heapdrift export --format pprof app.heap.json.gz -o app.pb.gz && go tool pprof -top app.pb.gz\n  \
        heapdrift export --format jeprof app.heap.json.gz -o app.jeprof && jeprof --text app.jeprof\n\n\
        folded: one line a stack, root first, `;` between, labels as the first frames, values\n\
        rounded to whole bytes or objects. A `;` inside a name becomes `:`.\n\
        pprof: allocated and live, objects and bytes; labels, mappings, inlined functions.\n\
        dhat: for dh_view.html of valgrind. What is not recorded there is a lower bound: the most\n\
        bytes of a place by itself, and the lifetimes of blocks that were freed.\n\
        speedscope: a profile for each metric. jeprof: text with symbols, for jeprof and google-pprof.")]
    Export(Export),
    /// Many processes, hosts or builds as one dump
    #[command(after_help = "Examples:\n  \
        heapdrift merge host*/app.heap.json.gz -o fleet.heap.json.gz\n  \
        heapdrift merge a.heap.json.gz b.heap.json.gz --origin-label host -o both.heap.json.gz\n  \
        heapdrift top both.heap.json.gz --by label:host\n\n\
        Of dumps of one process (the same session) the last one counts. Stacks add up where the code\n\
        is of the same build and the labels are the same; samples keep their weights, so intervals may\n\
        differ. The peak is the sum of peaks, whenever each process had its own.")]
    Merge(Merge),
    /// Names into a dump, so that it can be read without the binaries
    #[command(after_help = "Examples:\n  \
        heapdrift symbolize app.heap.json.gz -o named.heap.json.gz\n  \
        heapdrift symbolize app.heap.json.gz --binary target/release/app -o named.heap.json.gz\n  \
        heapdrift symbolize app.heap.json.gz --debug-dir /mnt/image -o - | ssh laptop heapdrift top -\n\n\
        A file is believed if its build-id is the recorded one. Separate debug files are found by\n\
        .gnu_debuglink and .build-id, packages of split debug information as NAME.dwp; a debug\n\
        directory may also be the file system of the container that was recorded.")]
    Symbolize(Symbolize),
    /// The completions of a shell
    #[command(after_help = "Examples:\n  \
        heapdrift completions bash > ~/.local/share/bash-completion/completions/heapdrift\n  \
        heapdrift completions zsh > ~/.zfunc/_heapdrift\n  \
        heapdrift completions fish > ~/.config/fish/completions/heapdrift.fish")]
    Completions(Completions),
}

#[derive(Args, Debug)]
pub(crate) struct Info {
    /// The dump, - for standard input
    pub(crate) dump: PathBuf,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) names: Names,
}

#[derive(Args, Debug)]
pub(crate) struct Top {
    /// The dump, - for standard input
    pub(crate) dump: PathBuf,
    #[command(flatten)]
    pub(crate) table: Table,
    #[command(flatten)]
    pub(crate) names: Names,
}

/// What is in a table.
#[derive(Args, Debug)]
pub(crate) struct Table {
    /// What a row is: function, crate, line, stack or label:KEY
    #[arg(long, default_value = "function", value_name = "WHAT")]
    pub(crate) by: By,
    /// What is counted
    #[arg(long, value_enum, default_value_t)]
    pub(crate) metric: Metric,
    /// How many rows, 0 for all [default: 20, with --json all]
    #[arg(short = 'n', value_name = "N")]
    limit: Option<usize>,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

impl Table {
    /// How many rows are shown: what was asked for, 0 being all; documents for scripts have all.
    pub(crate) fn limit(&self) -> usize {
        match self.limit {
            Some(0) => usize::MAX,
            Some(limit) => limit,
            None if self.json => usize::MAX,
            None => 20,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Flamegraph {
    /// The dumps
    #[arg(required = true, value_name = "DUMP")]
    pub(crate) dumps: Vec<PathBuf>,
    /// The file to write, - for standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// What is counted
    #[arg(long, value_enum, default_value_t)]
    pub(crate) metric: Metric,
    /// Colour frames by what they held in this dump, themselves: red has grown, blue has shrunk
    #[arg(long, value_name = "BASE")]
    pub(crate) diff: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) names: Names,
}

#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// The dump to compare with
    pub(crate) base: PathBuf,
    /// The dump in question
    pub(crate) new: PathBuf,
    #[command(flatten)]
    pub(crate) table: Table,
    /// Exit with status 1 if anything grew faster, for example 10MiB/h
    #[arg(long, value_name = "RATE")]
    pub(crate) fail_over: Option<Rate>,
    #[command(flatten)]
    pub(crate) names: Names,
}

/// What is said of leak candidates beyond what their dumps say.
#[derive(Args, Debug)]
pub(crate) struct Candidates {
    /// A dump of the release before: each candidate is new, worse or known
    #[arg(long, value_name = "DUMP")]
    pub(crate) baseline: Option<PathBuf>,
    /// A crate that is the service's own, besides those of its workspace; may be repeated
    #[arg(long = "own-crate", value_name = "NAME")]
    pub(crate) own_crates: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Leaks {
    /// A dump with a report, or a series of dumps of one session; - for standard input
    #[arg(required = true, value_name = "DUMP")]
    pub(crate) dumps: Vec<PathBuf>,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit with status 1 if a confirmed candidate leaks faster, for example 10MiB/h
    #[arg(long, value_name = "RATE")]
    pub(crate) fail_over: Option<Rate>,
    #[command(flatten)]
    pub(crate) candidates: Candidates,
    /// How many candidates, 0 for all [default: 3, with --json all]
    #[arg(short = 'n', value_name = "N")]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    pub(crate) names: Names,
}

#[derive(Args, Debug)]
pub(crate) struct Report {
    /// A dump, or a series of dumps of one session; - for standard input
    #[arg(required = true, value_name = "DUMP")]
    pub(crate) dumps: Vec<PathBuf>,
    /// The file to write, - for standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) candidates: Candidates,
    /// The memory that the service may use, for example 2GiB: a line in the timeline, and when it is reached
    #[arg(long, value_name = "SIZE", value_parser = memory_limit)]
    pub(crate) memory_limit: Option<f64>,
    #[command(flatten)]
    pub(crate) names: Names,
}

fn memory_limit(text: &str) -> Result<f64, &'static str> {
    let bytes = crate::numbers::units::parse_bytes(text).filter(|bytes| *bytes > 0.0);
    bytes.ok_or("expected a size like 2GiB: a number, and B, KiB, MiB, GiB or nothing for bytes")
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// The dump, - for standard input
    pub(crate) dump: PathBuf,
    /// The format
    #[arg(long, value_enum)]
    pub(crate) format: Format,
    /// The file to write, - for standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// What is counted, for folded stacks [default: live-bytes]; the other formats have everything
    #[arg(long, value_enum)]
    pub(crate) metric: Option<Metric>,
    #[command(flatten)]
    pub(crate) names: Names,
}

#[derive(Args, Debug)]
pub(crate) struct Merge {
    /// The dumps
    #[arg(required = true, value_name = "DUMP")]
    pub(crate) dumps: Vec<PathBuf>,
    /// The dump to write, - for standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Label each stack with where it comes from: the name of its dump, without .heap.json.gz, or for
    /// the key `host` the name of the host, where the dump has that
    #[arg(long, value_name = "KEY")]
    pub(crate) origin_label: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Symbolize {
    /// The dump, - for standard input
    pub(crate) dump: PathBuf,
    /// The dump to write, - for standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) names: Names,
}

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Completions {
    /// The script for the shell.
    pub(crate) fn script(&self) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "heapdrift", &mut script);
        script
    }
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Folded stacks, for inferno, flamegraph.pl, speedscope, Firefox Profiler
    Folded,
    /// For go tool pprof, Parca, Pyroscope
    Pprof,
    /// For valgrind's dh_view.html
    Dhat,
    /// For speedscope
    Speedscope,
    /// For jeprof and google-pprof
    Jeprof,
}

/// Where names come from: the same for every command that needs them.
#[derive(Args, Debug)]
pub(crate) struct Names {
    /// An executable or library of the recorded process, used only if its build-id is the
    /// recorded one; may be repeated
    #[arg(long = "binary", value_name = "PATH", help_heading = "Names")]
    binaries: Vec<PathBuf>,
    /// A directory with separate debug files, besides /usr/lib/debug; may be repeated
    #[arg(long = "debug-dir", value_name = "DIR", help_heading = "Names")]
    debug_dirs: Vec<PathBuf>,
    /// Keep the frames of allocator and profiler at the innermost end
    #[arg(long, help_heading = "Names")]
    full_stacks: bool,
    /// Look every name up, instead of taking it from $XDG_CACHE_HOME/heapdrift
    #[arg(long, help_heading = "Names")]
    no_cache: bool,
}

impl Names {
    /// The options again, for a command line that finds the same names.
    pub(crate) fn in_shell(&self) -> String {
        let binaries = self.binaries.iter().map(|path| ("--binary", path));
        let folders = self.debug_dirs.iter().map(|path| ("--debug-dir", path));
        let options = binaries.chain(folders);
        let words = options.map(|(option, path)| format!("{option} {}", output::shell_word(path)));
        words.collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn symbolizer(self) -> Symbolizer {
        Symbolizer::new(symbolizer::Options {
            binaries: self.binaries,
            debug_dirs: self.debug_dirs,
            full_stacks: self.full_stacks,
            cache: cache::default_folder().filter(|_| !self.no_cache),
            progress: true,
        })
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let done = match cli.command {
        Command::Info(args) => commands::info(args),
        Command::Top(args) => commands::top(args),
        Command::Flamegraph(args) => commands::flamegraph::run(args),
        Command::Diff(args) => commands::diff::run(args),
        Command::Leaks(args) => commands::leaks::run(args),
        Command::Report(args) => commands::report::run(args),
        Command::Export(args) => commands::export::run(args),
        Command::Merge(args) => commands::merge::run(args),
        Command::Symbolize(args) => commands::symbolize::run(args),
        Command::Completions(args) => commands::completions(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    let what = if error.exit_status() == 1 { "fail-over" } else { "error" };
    say(what, anstyle::AnsiColor::Red, &error.to_string());
    ExitCode::from(error.exit_status())
}

/// One line on standard error.
pub(crate) fn say(what: &str, color: anstyle::AnsiColor, text: &str) {
    let style = anstyle::Style::new().bold().fg_color(Some(color.into()));
    let line = crate::views::top::printable(text);
    // Standard error may be closed: there is nobody left to tell.
    let _ = writeln!(anstream::stderr(), "{style}{what}:{style:#} {line}");
}

/// Help and version as clap prints them; what is wrong with the arguments as one line.
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
    // The first paragraph says what is wrong; usage and tips follow.
    let first = text.split("\n\n").next().unwrap_or_default();
    let line = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    say("error", anstyle::AnsiColor::Red, &format!("{line} (heapdrift --help tells more)"));
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
