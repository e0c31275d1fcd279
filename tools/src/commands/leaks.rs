//! `heapdrift leaks`

use std::path::Path;

use anstyle::AnsiColor;
use heapdrift::leak::{LeakReport, Replay, Verdict};
use heapdrift::{Snapshot, names};

use super::{print, stdin_once, warn};
use crate::cli;
use crate::dumps::ticks::{Dump, Ticks, different_builds};
use crate::error::Error;
use crate::numbers::rate::Rate;
use crate::numbers::units;
use crate::output::progress;
use crate::symbolize::leaks::{self, DumpNames};
use crate::symbolize::symbolizer::Symbolizer;
use crate::views::top;

/// Shows the candidates of a dump or a series.
pub(crate) fn run(args: cli::Leaks) -> Result<(), Error> {
    stdin_once(args.dumps.iter().chain(&args.candidates.baseline))?;
    let mut symbolizer = args.names.symbolizer();
    let mut remarks = Vec::new();
    let (path, dump, mut report) = match <[_; 1]>::try_from(args.dumps) {
        Ok([path]) => {
            let dump = Error::read_dump(&path)?;
            let report = embedded(&mut symbolizer, &path, &dump, &args.candidates.own_crates)?;
            (path, dump, report)
        }
        Err(paths) => {
            let ticks = Ticks::of(paths)?;
            remarks = ticks.remarks;
            let path = ticks.dumps[ticks.dumps.len() - 1].path.clone();
            let (dump, report) = match <[_; 1]>::try_from(ticks.dumps) {
                Ok([dump]) => {
                    let dump = dump.read()?;
                    let report =
                        embedded(&mut symbolizer, &path, &dump, &args.candidates.own_crates)?;
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
    if let Some(baseline) = &args.candidates.baseline {
        compare(&mut report, &path, &dump, baseline, &mut symbolizer, &args.candidates.own_crates)?;
    }
    for line in &remarks {
        cli::say("note", AnsiColor::Cyan, line);
    }
    warn(&mut symbolizer);
    // Found in all candidates, whatever is shown.
    let crossed = args.fail_over.and_then(|rate| crossing(&report, rate));
    let limit = args.limit.map(|limit| if limit == 0 { usize::MAX } else { limit });
    if args.json {
        let rest = report.candidates.len().saturating_sub(limit.unwrap_or(usize::MAX)) as u64;
        report.candidates.truncate(limit.unwrap_or(usize::MAX));
        report.omitted = report.omitted.saturating_add(rest);
        print(&format!("{}\n", report.to_json()))?;
    } else {
        // A precision has sixteen bits.
        let text = match limit {
            Some(limit) => format!("{report:.0$}", limit.min(u16::MAX.into())),
            None => report.to_string(),
        };
        let lines: Vec<_> = text.lines().map(top::printable).collect();
        print(&format!("{}\n", lines.join("\n")))?;
    }
    crossed.map_or(Ok(()), |what| Err(Error::FailOver(what)))
}

/// Says of each candidate of a dump what the dump of the release before, `baseline`, had to say of it.
pub(super) fn compare(
    report: &mut LeakReport,
    path: &Path,
    dump: &Snapshot,
    baseline: &Path,
    symbolizer: &mut Symbolizer,
    own_crates: &[String],
) -> Result<(), Error> {
    let before = Error::read_dump(baseline)?;
    let program = |dump: &Snapshot| names::file_name(&dump.process.executable).to_owned();
    let (own, other) = (program(dump), program(&before));
    if own != other {
        let what = "expected a dump of";
        let (baseline, path) = (baseline.display(), path.display());
        return Err(Error::Usage(format!(
            "{baseline}: {what} {own}, as {path} is, found one of {other}"
        )));
    }
    report.compare(&embedded(symbolizer, baseline, &before, own_crates)?);
    Ok(())
}

/// The report in a dump.
fn embedded(
    symbolizer: &mut Symbolizer,
    path: &Path,
    dump: &Snapshot,
    own_crates: &[String],
) -> Result<LeakReport, Error> {
    leaks::embedded(symbolizer, dump, own_crates).ok_or_else(|| {
        Error::Usage(format!(
            "{}: expected a dump with a leak report, found none: no tick was over (all dumps of the \
             session make one)",
            path.display()
        ))
    })
}

/// What the detector says after the last of some dumps, and that dump.
fn replay(
    symbolizer: &mut Symbolizer,
    mut dumps: Vec<Dump>,
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

/// The confirmed candidate that leaks faster than `rate`, in words.
fn crossing(report: &LeakReport, rate: Rate) -> Option<String> {
    report
        .with(Verdict::Confirmed)
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
