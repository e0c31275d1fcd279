//! `heapdrift leaks`

use std::path::PathBuf;

use heapdrift::Snapshot;
use heapdrift::leak::{LeakReport, Replay, Verdict};

use super::candidates::CandidateOptions;
use super::options::{NameOptions, stdin_once};
use crate::dumps::read;
use crate::dumps::ticks::{DumpFile, Ticks, different_builds};
use crate::error::Error;
use crate::numbers::rate::Rate;
use crate::numbers::units;
use crate::output::{progress, terminal};
use crate::symbolize::leaks::DumpNames;
use crate::symbolize::symbolizer::Symbolizer;

/// Show leak candidates, as the service saw them or as computed from a series of dumps
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    heapdrift leaks app.heap.json.gz\n  \
    heapdrift leaks app-*.heap.json.gz\n  \
    heapdrift leaks app.heap.json.gz --baseline last-release.heap.json.gz\n  \
    heapdrift leaks app.heap.json.gz --fail-over 10MiB/h\n  \
    heapdrift leaks app.heap.json.gz --json | jq '.candidates[] | select(.verdict == \"confirmed\")'\n\n\
    One dump: the report that the service put into it, with the names that the service lacked.\n\
    Several dumps, which must be of one session: the detector runs over them in the order of their\n\
    ticks. With a dump of every tick the verdicts are the service's own; where ticks are missing,\n\
    they come later.\n\n\
    --fail-over: exit with status 1 if a confirmed candidate leaks more than RATE at the lower end of\n\
    its 95% interval.")]
pub(crate) struct Args {
    /// A dump with a report, or a series of dumps of one session; - for standard input
    #[arg(required = true, value_name = "DUMP")]
    dumps: Vec<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Exit with status 1 if a confirmed candidate leaks faster, for example 10MiB/h
    #[arg(long, value_name = "RATE")]
    fail_over: Option<Rate>,
    #[command(flatten)]
    candidates: CandidateOptions,
    /// How many candidates to show, 0 for all [default: 3, with --json all]
    #[arg(short = 'n', value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    names: NameOptions,
}

/// Prints the candidates of a dump or a series.
pub(crate) fn run(args: Args) -> Result<(), Error> {
    stdin_once(args.dumps.iter().chain(&args.candidates.baseline))?;
    let mut symbolizer = args.names.symbolizer();
    let mut remarks = Vec::new();
    let (path, dump, mut report) = match <[_; 1]>::try_from(args.dumps) {
        Ok([path]) => {
            let dump = read::dump(&path)?;
            let report = args.candidates.embedded(&mut symbolizer, &path, &dump)?;
            (path, dump, report)
        }
        Err(paths) => {
            let ticks = Ticks::of(paths)?;
            remarks = ticks.remarks;
            let path = ticks.dumps[ticks.dumps.len() - 1].path.clone();
            let (dump, report) = match <[_; 1]>::try_from(ticks.dumps) {
                Ok([dump]) => {
                    let dump = dump.read()?;
                    let report = args.candidates.embedded(&mut symbolizer, &path, &dump)?;
                    (dump, report)
                }
                Err(dumps) => replay(&mut symbolizer, dumps, &args.candidates.own_crates)?,
            };
            if ticks.has_gaps && dump.leaks.is_some() {
                remarks
                    .push(format!("the service's own report: heapdrift leaks {}", path.display()));
            }
            (path, dump, report)
        }
    };
    args.candidates.compare_with_baseline(&mut report, &mut symbolizer, &path, &dump)?;
    remarks.iter().for_each(|line| terminal::note(line));
    terminal::warn_all(&symbolizer.take_warnings());
    // All candidates are checked, however many are shown.
    let crossed = args.fail_over.and_then(|rate| crossing(&report, rate));
    let limit = args.limit.map(|limit| if limit == 0 { usize::MAX } else { limit });
    if args.json {
        let rest = report.candidates.len().saturating_sub(limit.unwrap_or(usize::MAX)) as u64;
        report.candidates.truncate(limit.unwrap_or(usize::MAX));
        report.omitted = report.omitted.saturating_add(rest);
        terminal::print(&format!("{}\n", report.to_json()))?;
    } else {
        // The precision of a format string has sixteen bits.
        let text = match limit {
            Some(limit) => format!("{report:.0$}", limit.min(u16::MAX.into())),
            None => report.to_string(),
        };
        let lines: Vec<_> = text.lines().map(terminal::printable).collect();
        terminal::print(&format!("{}\n", lines.join("\n")))?;
    }
    crossed.map_or(Ok(()), |what| Err(Error::FailOver(what)))
}

/// Runs the detector over the dumps and returns the last dump with the report after it.
fn replay(
    symbolizer: &mut Symbolizer,
    mut dumps: Vec<DumpFile>,
    own_crates: &[String],
) -> Result<(Snapshot, LeakReport), Error> {
    let last = dumps.pop().expect("there is at least one tick");
    let last_path = last.path.display().to_string();
    let last = last.read()?;
    let mut names = DumpNames::new(symbolizer, &last, own_crates);
    let mut replay = Replay::new();
    let bar = progress::bar(dumps.len() + 1, "dumps");
    for dump in dumps {
        let both = format!("{} and {last_path}", dump.path.display());
        let snapshot = dump.read()?;
        if let Some(why) = different_builds(&both, &snapshot, &last) {
            return Err(Error::Usage(why));
        }
        replay.tick(&snapshot, &mut names);
        bar.inc(1);
    }
    let report = replay.tick(&last, &mut names);
    bar.finish_and_clear();
    Ok((last, report))
}

/// A line about the first confirmed candidate that leaks faster than `rate`, if there is one.
fn crossing(report: &LeakReport, rate: Rate) -> Option<String> {
    report
        .with_verdict(Verdict::Confirmed)
        .find(|candidate| candidate.leaked_bytes_per_hour.ci95().0 > rate.per_hour)
        .map(|candidate| {
            let leaked = candidate.leaked_bytes_per_hour;
            format!(
                "{}: leaks {}/h, at least {}/h (95%), expected at most {rate}",
                candidate.function,
                units::estimate(leaked, true),
                units::bytes(leaked.ci95().0),
            )
        })
}
