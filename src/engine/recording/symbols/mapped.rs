//! Maps a file into memory.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::slice;

/// A mapped regular file that is not empty.
///
/// A file that is cut short while it is mapped ends the process. That is no new hazard for the files
/// that this is for: executables and libraries that the loader has mapped already. Debug files
/// are replaced by package managers, which write a new file and rename it.
#[derive(Debug)]
pub(super) struct Mapped {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is only read.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let metadata = path.metadata()?;
        // Opening a pipe could block for ever.
        if !metadata.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let file = File::open(path)?;
        // Of the file that was opened: the path may have got another one meanwhile.
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let (protection, flags, descriptor) =
            (libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd());
        // SAFETY: a new mapping at an address of the system's choice, of an open file. An empty one
        // is refused by the system.
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
        // SAFETY: mapped for reading until `self` is dropped, and nobody changes the code of a
        // running program in place; see above.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, made by `open`; what was borrowed from it is gone.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_what_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let text: Vec<u8> = (0..9999_u32).map(|i| i as u8).collect();
        std::fs::write(&path, &text).unwrap();
        assert_eq!(*Mapped::open(&path).unwrap(), text[..]);
    }

    #[test]
    fn what_is_no_file_or_empty_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Mapped::open(folder.path()).is_err());
        let path = folder.path().join("empty");
        File::create(&path).unwrap();
        assert!(Mapped::open(&path).is_err());
    }
}
