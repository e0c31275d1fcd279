//! Files that are filled under a temporary name and then renamed.
//!
//! A process that is killed leaves its temporary file behind, and the next session that uses the
//! folder removes it. Whether its process still exists cannot be told from a process id: the
//! process may live in another container with ids of its own. Every temporary file is therefore
//! locked while it is being written, and the kernel drops the lock with the process.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::EXTENSION;
use crate::os::{self, Lock};

/// The suffix of temporary files.
const SUFFIX: &str = ".tmp";

/// The name of the file that is created only to see whether that is possible.
const PROBE: &str = "heapdrift";

/// Most bytes of a file's name that its temporary name repeats. File systems allow 255 for both.
const MAX_NAME: usize = 200;

/// A new private file under a temporary name. It is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) file: File,
    /// Empty once the file has been renamed.
    path: PathBuf,
}

impl Temporary {
    /// Creates a file with mode 0600 in the folder in which it will be named `name`.
    pub(super) fn create(folder: &Path, name: &OsStr) -> io::Result<Self> {
        /// Killed processes and those of other containers with the same id have taken some names.
        const ATTEMPTS: usize = 10_000;

        for _ in 0..ATTEMPTS {
            let path = folder.join(temporary_name(name));
            match create_private(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                // Another process that looks for abandoned files may have come between creation
                // and lock. It removes this one, if it has not yet.
                Ok(file) if os::try_lock(&file) == Lock::HeldElsewhere || is_removed(&file) => {}
                Ok(file) => return Ok(Self { file, path }),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "all temporary names are taken"))
    }

    /// Renames the file, which replaces a file of that name.
    pub(super) fn rename(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // The error that led here is the one to report; this one would add nothing.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Creates a file in the folder and removes it again.
pub(crate) fn probe(folder: &Path) -> io::Result<()> {
    Temporary::create(folder, OsStr::new(PROBE)).map(drop)
}

/// Removes the temporary files of processes that no longer exist. Files that cannot be removed, and
/// all files where the file system does not provide locks, stay.
pub(crate) fn remove_abandoned(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_temporary_name)
            && entry.file_type().is_ok_and(|kind| kind.is_file())
        {
            // Whatever fails, the next session tries again.
            let _ = remove_if_abandoned(&entry.path());
        }
    }
}

fn remove_if_abandoned(path: &Path) -> io::Result<()> {
    let file = os::open_in_place(path)?;
    // The name may have gone to another file since it was opened, but that takes another process
    // with the same id and the same count.
    if os::try_lock(&file) == Lock::Acquired && !is_removed(&file) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Returns a hidden name that no other dump of this process uses.
fn temporary_name(name: &OsStr) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Relaxed: the numbers only have to be unique; nothing is published through the counter.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = name.to_string_lossy();
    let kept = shortened(&name, MAX_NAME);
    format!(".{kept}.{}.{number}{SUFFIX}", std::process::id())
}

/// The longest start of a name that has at most `max_bytes` bytes.
pub(crate) fn shortened(name: &str, max_bytes: usize) -> &str {
    let ends = name.char_indices().map(|(at, char)| at + char.len_utf8());
    &name[..ends.take_while(|end| *end <= max_bytes).last().unwrap_or(0)]
}

/// Whether [`temporary_name`] returns such a name for a dump or a probe.
fn is_temporary_name(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(name) = name.strip_prefix('.').and_then(|name| name.strip_suffix(SUFFIX)) else {
        return false;
    };
    let mut parts = name.rsplitn(3, '.');
    let numbers = [parts.next(), parts.next()];
    numbers.into_iter().all(|part| part.is_some_and(is_number))
        && parts.next().is_some_and(|name| name == PROBE || name.ends_with(EXTENSION))
}

fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Whether an open file has lost its name.
fn is_removed(file: &File) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_files_of_dumps_are_recognised() {
        let name = OsStr::new("web-12-7-00c0ffee-000003.heap.json.gz");
        for name in [name, OsStr::new(PROBE)] {
            let temporary = temporary_name(name);
            assert!(is_temporary_name(&temporary), "{temporary}");
        }
        for other in [
            "web-12-7-00c0ffee-000003.heap.json.gz",
            ".web.heap.json.gz.tmp",
            ".web.heap.json.gz.7.tmp",
            ".web.heap.json.gz.7.x.tmp",
            ".notes.7.0.tmp",
            "web.heap.json.gz.7.0.tmp",
            ".web.heap.json.gz.7.0.swp",
            ".7.0.tmp",
            ".tmp",
        ] {
            assert!(!is_temporary_name(other), "{other}");
        }
    }

    #[test]
    fn the_temporary_name_of_a_long_name_is_not_too_long() {
        for name in ["x".repeat(255), "é".repeat(127)] {
            assert!(temporary_name(OsStr::new(&name)).len() <= 255);
        }
    }

    #[test]
    #[cfg(all(unix, feature = "profiling"))]
    fn a_locked_file_is_not_abandoned_whatever_its_name_says() {
        let folder = tempfile::tempdir().unwrap();
        let one = Temporary::create(folder.path(), OsStr::new("a.heap.json.gz")).unwrap();
        // The process id of another container means nothing here.
        let foreign = folder.path().join(".b.heap.json.gz.4000000000.0.tmp");
        fs::rename(&one.path, &foreign).unwrap();
        let unlocked = folder.path().join(".b.heap.json.gz.4000000000.1.tmp");
        fs::write(&unlocked, "half").unwrap();
        remove_abandoned(folder.path());
        assert!(foreign.exists() && !unlocked.exists());
        drop(one);
        remove_abandoned(folder.path());
        assert!(!foreign.exists());
    }

    #[test]
    fn a_temporary_name_that_is_taken_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let name = OsStr::new("taken.heap.json.gz");
        let first = Temporary::create(folder.path(), name).unwrap();
        let number: u32 = {
            let first = first.path.to_str().unwrap();
            first.strip_suffix(SUFFIX).unwrap().rsplit('.').next().unwrap().parse().unwrap()
        };
        // Other tests count as well, so many of the next names are taken.
        let process = std::process::id();
        for next in number + 1..number + 100 {
            let next = format!(".taken.heap.json.gz.{process}.{next}{SUFFIX}");
            fs::write(folder.path().join(next), "of a killed process").unwrap();
        }
        let second = Temporary::create(folder.path(), name).unwrap();
        assert_eq!(fs::metadata(&second.path).unwrap().len(), 0);
    }
}
