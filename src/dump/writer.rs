//! Writes files atomically.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{error, fmt};

/// The reason why a dump was not written. A file that existed before is intact.
#[derive(Debug)]
pub struct WriteError {
    path: PathBuf,
    error: io::Error,
}

impl WriteError {
    /// The path of the file that could not be written.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write dump {}: {}", self.path.display(), self.error)
    }
}

impl error::Error for WriteError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Writes a file atomically with mode 0600. `fill` writes the contents.
pub(super) fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), WriteError> {
    write_atomically(path, fill).map_err(|error| WriteError { path: path.to_owned(), error })
}

/// Fills a new file in the folder of `path` and renames it to `path`.
fn write_atomically(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "expected a file name, found none")
    })?;
    let temporary = temporary_path(folder, name);
    let written = create_private(&temporary).and_then(|mut file| {
        fill(&mut file)?;
        // Without the sync, a crash of the machine could leave an empty file under the final name.
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        // The first error is the one to report; an error of the clean-up would add nothing.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Returns the path of a hidden file in `folder` that no other dump uses, in this process or
/// another.
fn temporary_path(folder: &Path, name: &std::ffi::OsStr) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Relaxed: the numbers only have to be unique; nothing is published through the counter.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.{number}.tmp", std::process::id()));
    folder.join(temporary)
}

fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
