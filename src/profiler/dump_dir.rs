//! The folder for periodic and triggered dumps, and how many of them stay.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::Snapshot;
use crate::dump::{self, WriteError};
use crate::error::StartError;
use crate::os;
use crate::snapshot::Process;

/// A writable folder that keeps the newest dumps of one session.
///
/// Files are named `EXECUTABLE-STARTED-PROCESS-SESSION-SEQUENCE.heap.json.gz`. `STARTED` is in
/// seconds since the Unix epoch, so the names of an executable sort by age. `SESSION` is the random
/// number of the session: two containers may well start a process with the same id in the same
/// second.
#[derive(Debug)]
pub(super) struct DumpDir {
    /// An absolute path: the service may change its working directory.
    folder: PathBuf,
    keep: usize,
    /// The sequence numbers of the dumps that are there, in the order in which they were written.
    /// Only these are ever removed. Age is not read from names or files, because a clock that was
    /// set back would make every new dump the oldest.
    written: Mutex<VecDeque<u64>>,
    failure_reported: AtomicBool,
}

impl DumpDir {
    /// Creates the folder if needed and writes a probe file: an unwritable folder is an error of
    /// `start`, not of the first dump an hour later. Also removes what killed processes left there.
    pub(super) fn open(folder: &Path, keep: usize) -> Result<Self, StartError> {
        let absolute = std::path::absolute(folder)
            .and_then(|absolute| fs::create_dir_all(&absolute).map(|()| absolute))
            .and_then(|absolute| dump::probe(&absolute).map(|()| absolute))
            .map_err(|error| StartError::DumpDir { path: folder.to_owned(), error })?;
        dump::remove_abandoned(&absolute);
        Ok(Self {
            folder: absolute,
            keep,
            written: Mutex::default(),
            failure_reported: AtomicBool::new(false),
        })
    }

    /// Writes a dump, and removes this session's oldest ones beyond the number to keep.
    pub(super) fn write(&self, snapshot: &Snapshot) -> Result<PathBuf, WriteError> {
        let (process, sequence) = (&snapshot.process, snapshot.taken.sequence);
        let path = self.folder.join(file_name(process, sequence));
        dump::write(snapshot, &path)?;
        // The new dump is complete. Failing to remove an old one does not make it a failure.
        if let Err((old, error)) = self.remove_excess(process, sequence) {
            self.say_once(&format!("cannot remove old dump {}: {error}", old.display()));
        }
        Ok(path)
    }

    fn remove_excess(&self, process: &Process, newest: u64) -> Result<(), (PathBuf, io::Error)> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.push_back(newest);
        while written.len() > self.keep {
            let oldest = self.folder.join(file_name(process, written[0]));
            match fs::remove_file(&oldest) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // It stays in the list, so the next dump tries again.
                    return Err((oldest, error));
                }
                _ => written.pop_front(),
            };
        }
        Ok(())
    }

    /// Prints to standard error that a dump failed, the first time only.
    pub(super) fn report_once(&self, error: &WriteError) {
        self.say_once(&format!("{error} (further failures are counted, not printed)"));
    }

    fn say_once(&self, what: &str) {
        // Relaxed: the flag publishes nothing else.
        if !self.failure_reported.swap(true, Ordering::Relaxed) {
            os::say(&format!("heapdrift: {what}"));
        }
    }
}

fn file_name(process: &Process, sequence: u64) -> String {
    /// Most bytes of the executable's name that are repeated: file systems allow 255 in all.
    const MAX_NAME: usize = 100;

    let executable = Path::new(&process.executable).file_name();
    let executable = executable.map_or("unknown".into(), |name| name.to_string_lossy());
    let kept = dump::shortened(&executable, MAX_NAME);
    format!(
        "{kept}-{:010}-{}-{:016x}-{sequence:06}{}",
        process.started_unix_ms / 1000,
        process.id,
        process.session,
        dump::EXTENSION
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(executable: &str, session: u64) -> Process {
        Process {
            id: 7,
            executable: executable.into(),
            session,
            started_unix_ms: 12_000,
            ..Process::default()
        }
    }

    #[test]
    fn replicas_with_the_same_process_id_and_start_have_different_names() {
        let name = |session| file_name(&process("/srv/web", session), 3);
        assert_eq!(name(0xc0ffee), "web-0000000012-7-0000000000c0ffee-000003.heap.json.gz");
        assert_ne!(name(1), name(2));
    }

    #[test]
    fn names_sort_by_sequence_and_are_not_too_long() {
        for executable in ["/srv/web".to_owned(), "x".repeat(255), "é".repeat(127)] {
            let name = |sequence| file_name(&process(&executable, u64::MAX), sequence);
            assert!(name(9) < name(10) && name(10).len() <= 200, "{}", name(10));
        }
    }
}
