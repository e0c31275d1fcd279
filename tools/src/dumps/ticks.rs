//! A series of dumps as the ticks of one session.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use heapdrift::Snapshot;

use crate::dumps::head::Head;
use crate::dumps::read;
use crate::dumps::sessions::session_of;
use crate::error::Error;

/// A dump of which the head was read, and the rest if it comes from a pipe.
pub(crate) struct Dump {
    pub(crate) path: PathBuf,
    head: Head,
    snapshot: Option<Snapshot>,
}

impl Dump {
    fn open(path: PathBuf) -> Result<Self, Error> {
        if let Some(head) = Head::read(&path) {
            return Ok(Self { path, head, snapshot: None });
        }
        let snapshot = read::dump(&path)?;
        let head = Head { process: snapshot.process.clone(), taken: snapshot.taken.clone() };
        Ok(Self { path, head, snapshot: Some(snapshot) })
    }

    pub(crate) fn read(self) -> Result<Snapshot, Error> {
        match self.snapshot {
            Some(snapshot) => Ok(snapshot),
            None => read::dump(&self.path),
        }
    }
}

/// Dumps in the order of their ticks, one of each.
pub(crate) struct Ticks {
    pub(crate) dumps: Vec<Dump>,
    /// What was left out or is missing, in lines for the user.
    pub(crate) remarks: Vec<String>,
    /// Whether ticks are missing before the last one.
    pub(crate) has_gaps: bool,
}

impl Ticks {
    /// Sorts dumps, and leaves out those that are of no tick of their own.
    ///
    /// # Errors
    /// A file that cannot be read, dumps of different sessions or builds, or none with a tick.
    pub(crate) fn of(paths: Vec<PathBuf>) -> Result<Self, Error> {
        let mut dumps = of_one_session(paths)?;
        if let Some(merged) = dumps.iter().find(|dump| dump.head.taken.reason == "merge") {
            let path = merged.path.display();
            let what = format!("{path}: expected a dump of one process, found one that was merged");
            return Err(Error::Usage(what));
        }
        // The first of a tick was taken at its end, the others (by call, at the end) later.
        dumps.sort_by_key(|dump| (dump.head.taken.tick, dump.head.taken.sequence));
        if dumps.iter().all(|dump| dump.head.taken.tick == 0) {
            let last = dumps.swap_remove(dumps.len() - 1);
            let path = last.path.display().to_string();
            // What is wrong with the file itself comes first.
            last.read()?;
            let what = "expected a dump with ticks of the leak detector, found none";
            return Err(Error::Usage(format!("{path}: {what}")));
        }
        let given = dumps.len();
        dumps.retain(|dump| dump.head.taken.tick > 0);
        let early = given - dumps.len();
        let mut repeated = Vec::new();
        dumps.dedup_by(|later, first| {
            let same = later.head.taken.tick == first.head.taken.tick;
            if same {
                repeated.push(later.path.display().to_string());
            }
            same
        });
        let mut remarks = Vec::new();
        if early > 0 {
            remarks.push(format!("{} before the first tick left out", counted(early)));
        }
        if let [first, ..] = &repeated[..] {
            let count = counted(repeated.len());
            remarks.push(format!("{count} of a tick that another has left out: {first}"));
        }
        let ticks = dumps.iter().map(|dump| dump.head.taken.tick);
        let gaps = missing(ticks).filter(|_| dumps.len() > 1);
        let has_gaps = gaps.is_some();
        remarks.extend(gaps);
        Ok(Self { dumps, remarks, has_gaps })
    }
}

/// The dumps of one session in the order in which they were taken, each once. One alone may be of any
/// kind.
///
/// # Errors
/// A file that cannot be read, or dumps of different sessions.
pub(crate) fn in_order(paths: Vec<PathBuf>) -> Result<Vec<Dump>, Error> {
    let mut dumps = of_one_session(paths)?;
    let taken = |dump: &Dump| (dump.head.taken.sequence, dump.head.taken.uptime_ms);
    dumps.sort_by_key(taken);
    dumps.dedup_by_key(|dump| taken(dump));
    Ok(dumps)
}

fn of_one_session(paths: Vec<PathBuf>) -> Result<Vec<Dump>, Error> {
    let mut dumps = Vec::with_capacity(paths.len());
    for path in paths {
        dumps.push(Dump::open(path)?);
    }
    if let Some(other) = dumps
        .iter()
        .position(|dump| session_of(&dump.head.process) != session_of(&dumps[0].head.process))
    {
        let other = dumps.swap_remove(other);
        return Err(of_different_sessions(dumps.swap_remove(0), other)?);
    }
    Ok(dumps)
}

fn counted(dumps: usize) -> String {
    if dumps == 1 { "1 dump".to_owned() } else { format!("{dumps} dumps") }
}

/// Why two dumps are no series, the builds being the better reason.
fn of_different_sessions(first: Dump, other: Dump) -> Result<Error, Error> {
    let both = format!("{} and {}", first.path.display(), other.path.display());
    let process = |dump: &Dump| {
        let process = &dump.head.process;
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

/// Why dumps are not of one build of the program.
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

/// The line about ticks that are not among these, which are sorted.
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
    fn missing_ticks_are_said_in_one_line() {
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
