//! Maps a file into memory.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::slice;

/// A regular file that is mapped into memory, and is not empty.
///
/// If the file is truncated while it is mapped, the process is killed. That is no new hazard for
/// the files this is used for: the loader has mapped executables and libraries already, and package
/// managers replace debug files by writing a new file and renaming it.
#[derive(Debug)]
pub(super) struct Mapped {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is read-only, and its address does not depend on a thread.
unsafe impl Send for Mapped {}
// SAFETY: the mapping is read-only, so threads may read it at the same time.
unsafe impl Sync for Mapped {}

impl Mapped {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let metadata = path.metadata()?;
        // Opening a pipe could block forever.
        if !metadata.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let file = File::open(path)?;
        // The length is that of the opened file: another file may have taken the path meanwhile.
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let (protection, flags, descriptor) =
            (libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd());
        // SAFETY: this makes a new mapping of an open file, at an address that the system chooses.
        // The system refuses an empty one.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, descriptor, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, len })
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the memory is mapped for reading until `self` is dropped, and nobody changes the
        // code of a running program in place; see above.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping that `open` made, and all borrows of it have ended.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_has_the_contents_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let text: Vec<u8> = (0..9999_u32).map(|i| i as u8).collect();
        std::fs::write(&path, &text).unwrap();
        assert_eq!(*Mapped::open(&path).unwrap(), text[..]);
    }

    #[test]
    fn directories_and_empty_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Mapped::open(folder.path()).is_err());
        let path = folder.path().join("empty");
        File::create(&path).unwrap();
        assert!(Mapped::open(&path).is_err());
    }
}
