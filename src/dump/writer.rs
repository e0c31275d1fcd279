//! Writes files atomically.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::{error, fmt};

use super::temporary::Temporary;
use crate::os;

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
    // A write beyond the process's limit on file sizes would raise a signal that kills it.
    os::without_write_signals(|| write_atomically(path, fill))
        .map_err(|error| WriteError { path: path.to_owned(), error })
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
    check_replaceable(path)?;
    let mut temporary = Temporary::create(folder, name)?;
    fill(&mut temporary.file)?;
    // Without the sync, a crash of the machine could leave an empty file under the final name.
    temporary.file.sync_all()?;
    // Filling takes time, in which another program may have created something.
    check_replaceable(path)?;
    temporary.rename(path)
}

/// Checks that renaming to `path` would replace nothing but a regular file. As root it could
/// replace `/dev/null`, and in a shared folder another user may have planted a symbolic link.
fn check_replaceable(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        // What else is wrong with the path will show when the file is created.
        Err(_) => return Ok(()),
    };
    if kind.is_file() {
        return Ok(());
    }
    let found = if kind.is_dir() {
        "a folder"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else {
        "a device, FIFO or socket"
    };
    let message = format!("expected a regular file or none to replace, found {found}");
    Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
}
