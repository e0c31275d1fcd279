//! What tells a module from another one that is mapped at the same addresses later.

use crate::engine::recording::sys;

/// Bytes of program headers that are looked at: 48 of 56 bytes. Linkers write about ten.
pub(super) const MAX_HEADERS_BYTES: usize = 48 * 56;

/// The longest build-id that is kept. GNU's are 20 bytes, lld's 8 to 20.
pub(super) const BUILD_ID_BYTES: usize = 32;

/// The longest path that is looked at.
pub(super) const PATH_BYTES: usize = 1024;

/// Bytes of all content together.
pub(super) const CONTENT_BYTES: usize = MAX_HEADERS_BYTES + BUILD_ID_BYTES + PATH_BYTES;

/// Where the content is that tells a module from others at the same addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Address and length of the program headers.
    pub(super) headers: (u64, u32),
    pub(super) build_id: (u64, u32),
    /// The loader's copy of the path.
    pub(super) path: (u64, u32),
}

impl Places {
    pub(super) fn all(&self) -> [(u64, usize); 3] {
        [self.headers, self.build_id, self.path].map(|(start, len)| (start, len as usize))
    }

    /// A hash of the content as it is now; `None` if something is not mapped.
    #[inline(never)]
    pub(super) fn content_hash(&self) -> Option<u64> {
        let mut bytes = [0; CONTENT_BYTES];
        Some(hash(self.copy(&mut bytes)?))
    }

    /// Copies the content; `None` if something is not mapped.
    pub(super) fn copy<'a>(&self, bytes: &'a mut [u8; CONTENT_BYTES]) -> Option<&'a [u8]> {
        let all = self.all();
        let len = all.iter().map(|(_, len)| len).sum();
        let bytes = bytes.get_mut(..len)?;
        (sys::copy_mapped(&all, bytes) == len).then_some(bytes)
    }
}

/// Hashes a word at a time; there are about ninety.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(bytes.len() as u64, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash.rotate_left(5) ^ u64::from_ne_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    })
}
