//! Which dumps are of one process.
//!
//! Dumps with the same session number are of one process at different times. A later dump includes
//! what the earlier ones counted, so adding them would count everything again, and the last dump
//! stands for all. Different sessions are different processes, and those add up.

use std::collections::HashMap;
use std::path::PathBuf;

use heapdrift::Snapshot;
use heapdrift::snapshot::{Process, Taken};

use crate::dumps::header::DumpHeader;

/// The last snapshot of each session. Sessions keep the order in which they first occur.
pub fn last_of_each(snapshots: impl IntoIterator<Item = Snapshot>) -> Vec<Snapshot> {
    let mut last: Vec<Snapshot> = Vec::new();
    for snapshot in snapshots {
        let same = last.iter_mut().find(|other| session(other) == session(&snapshot));
        match same {
            Some(other) if age(other) <= age(&snapshot) => *other = snapshot,
            Some(_) => {}
            None => last.push(snapshot),
        }
    }
    last
}

/// The file of the last dump of each session. Sessions keep the order in which they first occur.
/// Only headers are read; a file without a readable header counts as a session of its own.
pub(crate) fn last_paths(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut last: Vec<(PathBuf, Option<DumpHeader>)> = Vec::new();
    let mut index: HashMap<Session, usize> = HashMap::new();
    for path in paths {
        let header = DumpHeader::read(&path);
        let known = header.as_ref().map(|header| session_of(&header.process));
        match known.and_then(|session| index.get(&session)).map(|&at| &mut last[at]) {
            Some(other) => {
                let age = |header: &Option<DumpHeader>| {
                    header.as_ref().map(|header| age_of(&header.taken))
                };
                if age(&other.1) <= age(&header) {
                    *other = (path, header);
                }
            }
            None => {
                index.extend(known.map(|session| (session, last.len())));
                last.push((path, header));
            }
        }
    }
    last.into_iter().map(|(path, _)| path).collect()
}

/// Session number, process id and start. The number is random; the other two distinguish recordings
/// that have none.
type Session = (u64, u32, u64);

pub(crate) fn session(snapshot: &Snapshot) -> Session {
    session_of(&snapshot.process)
}

pub(crate) fn session_of(process: &Process) -> Session {
    (process.session, process.id, process.started_unix_ms)
}

fn age(snapshot: &Snapshot) -> (u64, u64) {
    age_of(&snapshot.taken)
}

fn age_of(taken: &Taken) -> (u64, u64) {
    (taken.sequence, taken.uptime_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_counts_as_its_last_dump_in_any_order() {
        let dump = |session, sequence| {
            let mut snapshot = Snapshot::default();
            snapshot.process.session = session;
            snapshot.taken.sequence = sequence;
            snapshot
        };
        let last = last_of_each([dump(7, 2), dump(9, 1), dump(7, 3), dump(7, 1)]);
        let seen: Vec<_> = last.iter().map(|s| (s.process.session, s.taken.sequence)).collect();
        assert_eq!(seen, [(7, 3), (9, 1)]);
    }
}
