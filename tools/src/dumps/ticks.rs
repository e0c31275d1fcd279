//! A series of dumps as the ticks of one session.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use heapdrift::Snapshot;

use crate::dumps::header::DumpHeader;
use crate::dumps::read;
use crate::dumps::sessions::session_of;
use crate::error::Error;

/// A dump whose header was read; if it comes from a pipe, all of it was.
pub(crate) struct DumpFile {
    pub(crate) path: PathBuf,
    header: DumpHeader,
    snapshot: Option<Snapshot>,
}

impl DumpFile {
    fn open(path: PathBuf) -> Result<Self, Error> {
        if let Some(header) = DumpHeader::read(&path) {
            return Ok(Self { path, header, snapshot: None });
        }
        let snapshot = read::dump(&path)?;
        let header =
            DumpHeader { process: snapshot.process.clone(), taken: snapshot.taken.clone() };
        Ok(Self { path, header, snapshot: Some(snapshot) })
    }

    pub(crate) fn read(self) -> Result<Snapshot, Error> {
        match self.snapshot {
            Some(snapshot) => Ok(snapshot),
            None => read::dump(&self.path),
        }
    }
}

/// Dumps in the order of their ticks, one per tick.
pub(crate) struct Ticks {
    pub(crate) dumps: Vec<DumpFile>,
    /// Lines for the user about dumps that were left out and ticks that are missing.
    pub(crate) remarks: Vec<String>,
    /// Whether ticks are missing before the last one.
    pub(crate) has_gaps: bool,
}

impl Ticks {
    /// Sorts dumps and keeps one per tick.
    ///
    /// # Errors
    /// A file cannot be read, dumps are of different sessions or builds, or none has a tick.
    pub(crate) fn of(paths: Vec<PathBuf>) -> Result<Self, Error> {
        let mut dumps = of_one_session(paths)?;
        if let Some(merged) = dumps.iter().find(|dump| dump.header.taken.reason == "merge") {
            let path = merged.path.display();
            let what = format!("{path}: expected a dump of one process, found a merged dump");
            return Err(Error::Usage(what));
        }
        // The first dump of a tick was taken when the tick ended, others by a call after it.
        dumps.sort_by_key(|dump| (dump.header.taken.tick, dump.header.taken.sequence));
        if dumps.iter().all(|dump| dump.header.taken.tick == 0) {
            let last = dumps.swap_remove(dumps.len() - 1);
            let path = last.path.display().to_string();
            // An error in the file itself is the better explanation.
            last.read()?;
            let what = "expected a dump with ticks of the leak detector, found none";
            return Err(Error::Usage(format!("{path}: {what}")));
        }
        let given = dumps.len();
        dumps.retain(|dump| dump.header.taken.tick > 0);
        let early = given - dumps.len();
        let mut repeated = Vec::new();
        dumps.dedup_by(|later, first| {
            let same = later.header.taken.tick == first.header.taken.tick;
            if same {
                repeated.push(later.path.display().to_string());
            }
            same
        });
        let mut remarks = Vec::new();
        if early > 0 {
            remarks.push(format!("{} before the first tick left out", count_of(early)));
        }
        if let [first, ..] = &repeated[..] {
            let count = count_of(repeated.len());
            remarks.push(format!("{count} of a tick that another has left out: {first}"));
        }
        let ticks = dumps.iter().map(|dump| dump.header.taken.tick);
        let gaps = missing(ticks).filter(|_| dumps.len() > 1);
        let has_gaps = gaps.is_some();
        remarks.extend(gaps);
        Ok(Self { dumps, remarks, has_gaps })
    }
}

/// The dumps of one session in the order in which they were taken, each once. A single dump may be
/// a merged one.
///
/// # Errors
/// A file cannot be read, or dumps are of different sessions.
pub(crate) fn in_order(paths: Vec<PathBuf>) -> Result<Vec<DumpFile>, Error> {
    let mut dumps = of_one_session(paths)?;
    let taken = |dump: &DumpFile| (dump.header.taken.sequence, dump.header.taken.uptime_ms);
    dumps.sort_by_key(taken);
    dumps.dedup_by_key(|dump| taken(dump));
    Ok(dumps)
}

fn of_one_session(paths: Vec<PathBuf>) -> Result<Vec<DumpFile>, Error> {
    let mut dumps = Vec::with_capacity(paths.len());
    for path in paths {
        dumps.push(DumpFile::open(path)?);
    }
    if let Some(other) = dumps
        .iter()
        .position(|dump| session_of(&dump.header.process) != session_of(&dumps[0].header.process))
    {
        let other = dumps.swap_remove(other);
        return Err(not_one_session(dumps.swap_remove(0), other)?);
    }
    Ok(dumps)
}

fn count_of(dumps: usize) -> String {
    if dumps == 1 { "1 dump".to_owned() } else { format!("{dumps} dumps") }
}

/// Explains why two dumps are not of one session. If their builds differ, that is the better
/// reason.
fn not_one_session(first: DumpFile, other: DumpFile) -> Result<Error, Error> {
    let both = format!("{} and {}", first.path.display(), other.path.display());
    let process = |dump: &DumpFile| {
        let process = &dump.header.process;
        format!("{:x} (process {} of {})", process.session, process.id, process.executable)
    };
    let sessions = format!(
        "{both}: expected dumps of one session, found {} and {}",
        process(&first),
        process(&other)
    );
    let (first, other) = (first.read()?, other.read()?);
    Ok(Error::Usage(different_builds(&both, &first, &other).unwrap_or(sessions)))
}

/// A line that says so if two dumps are not of one build of the program.
pub(crate) fn different_builds(both: &str, first: &Snapshot, other: &Snapshot) -> Option<String> {
    let (first, other) = (build_id(first), build_id(other));
    (first != other).then(|| {
        format!("{both}: expected dumps of one build, found build-ids {first} and {other}")
    })
}

fn build_id(dump: &Snapshot) -> &str {
    let executable = dump.modules.iter().find(|module| module.path == dump.process.executable);
    let id = executable.or(dump.modules.first()).map_or("", |module| &module.build_id);
    if id.is_empty() { "none" } else { id }
}

/// A line about the ticks that are missing among `ticks`, which are sorted.
fn missing(ticks: impl Iterator<Item = u32>) -> Option<String> {
    const SHOWN: usize = 3;
    let mut gaps: Vec<RangeInclusive<u32>> = Vec::new();
    let mut next = 1;
    for tick in ticks {
        if tick > next {
            gaps.push(next..=tick - 1);
        }
        next = tick.saturating_add(1);
    }
    let text = |gap: &RangeInclusive<u32>| match gap.clone().into_inner() {
        (from, to) if from == to => from.to_string(),
        (from, to) => format!("{from} to {to}"),
    };
    let shown: Vec<String> = gaps.iter().take(SHOWN).map(text).collect();
    let more = match gaps.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more gaps"),
    };
    let one = matches!(&gaps[..], [gap] if gap.start() == gap.end());
    let (noun, verb) = if one { ("tick", "is") } else { ("ticks", "are") };
    let shown = shown.join(", ");
    (!gaps.is_empty()).then(|| {
        format!("{noun} {shown}{more} {verb} missing: verdicts may come later than in the service")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_ticks_are_reported_in_one_line() {
        let line = |ticks: &[u32]| missing(ticks.iter().copied()).unwrap_or_default();
        let rest = "missing: verdicts may come later than in the service";
        assert_eq!(line(&[1, 2, 3]), "");
        assert_eq!(line(&[1, 2, 3, 4, 10]), format!("ticks 5 to 9 are {rest}"));
        assert_eq!(line(&[2]), format!("tick 1 is {rest}"));
        assert_eq!(line(&[1, 3, 5, 9]), format!("ticks 2, 4, 6 to 8 are {rest}"));
        let many = format!("ticks 1 to 2, 4, 6 and 2 more gaps are {rest}");
        assert_eq!(line(&[3, 5, 7, 9, 11]), many);
    }
}
