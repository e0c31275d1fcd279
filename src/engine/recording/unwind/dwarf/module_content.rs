//! The content that distinguishes a module from another one that is later mapped at the same
//! addresses.

use crate::engine::recording::sys;

/// Maximum size of the program headers that are read: 48 headers of 56 bytes. Linkers write about
/// ten.
pub(super) const MAX_HEADERS_BYTES: usize = 48 * 56;

/// Maximum length of a stored build-id. Build-ids by GNU ld have 20 bytes, those by lld 8 to 20.
pub(super) const MAX_BUILD_ID_BYTES: usize = 32;

/// Maximum length of a path that is read.
pub(super) const MAX_PATH_BYTES: usize = 1024;

/// Maximum size of the whole content.
pub(super) const MAX_CONTENT_BYTES: usize = MAX_HEADERS_BYTES + MAX_BUILD_ID_BYTES + MAX_PATH_BYTES;

/// The addresses of the content that distinguishes a module from others at the same addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ContentLocation {
    /// Address and length of the program headers; the other fields likewise.
    pub(super) headers: (u64, u32),
    pub(super) build_id: (u64, u32),
    /// The path, as the loader stores it.
    pub(super) path: (u64, u32),
}

impl ContentLocation {
    pub(super) fn ranges(&self) -> [(u64, usize); 3] {
        [self.headers, self.build_id, self.path].map(|(start, len)| (start, len as usize))
    }

    /// The hash of the current content, or `None` if part of it is not mapped.
    #[inline(never)]
    pub(super) fn content_hash(&self) -> Option<u64> {
        let mut bytes = [0; MAX_CONTENT_BYTES];
        Some(hash(self.copy(&mut bytes)?))
    }

    /// Copies the current content; `None` if part of it is not mapped.
    pub(super) fn copy<'a>(&self, bytes: &'a mut [u8; MAX_CONTENT_BYTES]) -> Option<&'a [u8]> {
        let ranges = self.ranges();
        let len = ranges.iter().map(|(_, len)| len).sum();
        let bytes = bytes.get_mut(..len)?;
        (sys::copy_mapped(&ranges, bytes) == len).then_some(bytes)
    }
}

/// Hashes word by word; a module's content has about ninety words.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(bytes.len() as u64, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash.rotate_left(5) ^ u64::from_ne_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    })
}
