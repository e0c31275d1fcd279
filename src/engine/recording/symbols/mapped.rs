//! A file as memory.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Maps a regular file.
///
/// A file that is cut short while it is mapped ends the process. That is no new hazard for the files
/// that this is for: executables and libraries that the loader has mapped already. Debug files
/// are replaced by package managers, which write a new file and rename it.
pub(super) fn map(path: &Path) -> io::Result<Mmap> {
    // Opening a pipe could block for ever.
    if !path.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let file = File::open(path)?;
    // SAFETY: only read, and nobody changes the code of a running program in place; see above.
    unsafe { Mmap::map(&file) }
}
