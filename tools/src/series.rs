//! Several dumps as one heap.
//!
//! Dumps with the same session number are of one process at different times. Each holds all that
//! the ones before held, so adding them would count everything again: the last one stands for all.
//! Different sessions are different processes, and those add up.

use heapdrift::Snapshot;

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

/// The number is random; the process id and the start tell apart what was recorded without one.
pub(crate) fn session(snapshot: &Snapshot) -> (u64, u32, u64) {
    let process = &snapshot.process;
    (process.session, process.id, process.started_unix_ms)
}

fn age(snapshot: &Snapshot) -> (u64, u64) {
    (snapshot.taken.sequence, snapshot.taken.uptime_ms)
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
