//! Several dumps as one heap.
//!
//! Dumps with the same session number are of one process at different times. Each holds all that
//! the ones before held, so adding them would count everything again: the last one stands for all.
//! Different sessions are different processes, and those add up.

use std::collections::HashMap;
use std::path::PathBuf;

use heapdrift::Snapshot;
use heapdrift::snapshot::{Process, Taken};

use crate::dumps::head::Head;

/// The last snapshot of each session, in the order in which sessions first occur.
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

/// The files of the last dump of each session, in the order in which sessions first occur; reads no
/// more of them than that takes. A file that cannot be told is a session of its own.
pub(crate) fn last_paths(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut last: Vec<(PathBuf, Option<Head>)> = Vec::new();
    let mut index: HashMap<Session, usize> = HashMap::new();
    for path in paths {
        let head = Head::read(&path);
        let known = head.as_ref().map(|head| session_of(&head.process));
        match known.and_then(|session| index.get(&session)).map(|&at| &mut last[at]) {
            Some(other) => {
                let age = |head: &Option<Head>| head.as_ref().map(|head| age_of(&head.taken));
                if age(&other.1) <= age(&head) {
                    *other = (path, head);
                }
            }
            None => {
                index.extend(known.map(|session| (session, last.len())));
                last.push((path, head));
            }
        }
    }
    last.into_iter().map(|(path, _)| path).collect()
}

/// The number is random; the process id and the start tell apart what was recorded without one.
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
    fn a_series_is_its_last_dump_whatever_the_order() {
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
