//! Maps a file into memory.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Maps a regular file into memory.
///
/// If the file is truncated while it is mapped, the process is killed. That is no new hazard for
/// the files this is used for: the loader has mapped executables and libraries already, and package
/// managers replace debug files by writing a new file and renaming it.
pub(super) fn map(path: &Path) -> io::Result<Mmap> {
    // Opening a pipe could block forever.
    if !path.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let file = File::open(path)?;
    // SAFETY: the mapping is only read, and nobody modifies the code of a running program in place;
    // see above.
    unsafe { Mmap::map(&file) }
}
