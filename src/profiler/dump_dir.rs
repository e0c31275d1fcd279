//! The folder for periodic and triggered dumps, and how many of them stay.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Snapshot;
use crate::dump::{self, WriteError};
use crate::error::StartError;

/// A writable folder that keeps the newest dumps of one executable.
///
/// Files are named `EXECUTABLE-STARTED-PID-SEQUENCE.heap.json.gz`. `STARTED` is in seconds since
/// the Unix epoch, so names sort by age.
#[derive(Debug)]
pub(super) struct DumpDir {
    folder: PathBuf,
    keep: usize,
    failure_reported: AtomicBool,
}

impl DumpDir {
    /// Creates the folder if needed and writes a probe file: an unwritable folder is an error of
    /// `start`, not of the first dump an hour later.
    pub(super) fn open(folder: &Path, keep: usize) -> Result<Self, StartError> {
        let probe = folder.join(format!(".heapdrift-{}.tmp", std::process::id()));
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&probe, b""))
            .and_then(|()| fs::remove_file(&probe))
            .map_err(|error| StartError::DumpDir { path: folder.to_owned(), error })?;
        Ok(Self { folder: folder.to_owned(), keep, failure_reported: AtomicBool::new(false) })
    }

    /// Writes a dump and removes the oldest ones beyond the number to keep.
    pub(super) fn write(&self, snapshot: &Snapshot) -> Result<PathBuf, WriteError> {
        let process = &snapshot.process;
        let executable = Path::new(&process.executable).file_name();
        let executable = executable.map_or("unknown".into(), |name| name.to_string_lossy());
        let path = self.folder.join(format!(
            "{executable}-{:010}-{}-{:06}{}",
            process.started_unix_ms / 1000,
            process.id,
            snapshot.taken.sequence,
            dump::EXTENSION
        ));
        dump::write(snapshot, &path)?;
        // The new dump is complete. Failing to remove an old one does not make it a failure.
        let _ = self.remove_old(&executable);
        Ok(path)
    }

    fn remove_old(&self, executable: &str) -> io::Result<()> {
        let mut dumps: Vec<(Vec<u64>, PathBuf)> = fs::read_dir(&self.folder)?
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                Some((age_key(path.file_name()?.to_str()?, executable)?, path))
            })
            .collect();
        dumps.sort();
        let excess = dumps.len().saturating_sub(self.keep);
        dumps[..excess].iter().try_for_each(|(_, path)| fs::remove_file(path))
    }

    /// Prints to standard error that a dump failed, the first time only.
    pub(super) fn report_once(&self, error: &WriteError) {
        // Relaxed: the flag publishes nothing else.
        if !self.failure_reported.swap(true, Ordering::Relaxed) {
            // `eprintln!` would panic if standard error is full or closed as well.
            let _ = writeln!(
                io::stderr(),
                "heapdrift: {error} (further failures are counted, not printed)"
            );
        }
    }
}

/// Start, process id and sequence number of a dump of `executable`; `None` for any other file.
fn age_key(name: &str, executable: &str) -> Option<Vec<u64>> {
    let numbers =
        name.strip_prefix(executable)?.strip_prefix('-')?.strip_suffix(dump::EXTENSION)?;
    let numbers: Vec<u64> = numbers.split('-').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    (numbers.len() == 3).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dumps_of_the_same_executable_are_counted() {
        assert_eq!(age_key("web-12-7-000003.heap.json.gz", "web"), Some(vec![12, 7, 3]));
        assert_eq!(age_key("web-api-12-7-000003.heap.json.gz", "web"), None);
        assert_eq!(age_key("web-12-7-mine.heap.json.gz", "web"), None);
        assert_eq!(age_key("baseline.heap.json.gz", "web"), None);
    }
}
