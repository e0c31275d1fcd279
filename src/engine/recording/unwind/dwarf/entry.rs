//! A module's entry in the registry, made of atomic words.
//!
//! All accesses are relaxed: an entry is written before its number is published, by the release
//! store of the registry's length in `Modules::add`, whose partner is the acquire load in
//! `Modules::len`. The exceptions say so.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::loader::Description;
use super::module_content::{ContentLocation, MAX_BUILD_ID_BYTES};
use super::tables::Section;
use crate::engine::recording::arena::Zeroed;
use crate::engine::recording::unwind::module_info::ModuleInfo;

/// The longest stored path, in words. Longer paths lose their beginning.
const MAX_PATH_WORDS: usize = 32;

const MAX_BUILD_ID_WORDS: usize = MAX_BUILD_ID_BYTES / 8;

/// Distinguishes a module from others that are mapped at the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    start: u64,
    eh_frame_hdr: u64,
    /// The hash of the program headers, the build-id and the path. The loader may map the next
    /// library with the same layout at the same address, and describe it in the same memory.
    content_hash: u64,
}

impl Identity {
    pub(super) fn of(module: &Description) -> Self {
        Self {
            start: module.range().start,
            eh_frame_hdr: module.eh_frame_hdr().start,
            content_hash: module.content_hash(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    path_len: AtomicU32,
    build_id_len: AtomicU32,
    pub(super) bias: AtomicU64,
    pub(super) start: AtomicU64,
    pub(super) end: AtomicU64,
    file_offset: AtomicU64,
    code_start: AtomicU64,
    code_end: AtomicU64,
    eh_frame_hdr: AtomicU64,
    pub(super) content_hash: AtomicU64,
    eh_frame_hdr_end: AtomicU64,
    eh_frame: AtomicU64,
    eh_frame_end: AtomicU64,
    /// The start addresses of the hashed content, see [`ContentLocation`].
    pub(super) content_starts: [AtomicU64; 3],
    content_lens: [AtomicU32; 3],
    /// 1 + the offset of the copy of both tables in `Modules::copies`; 0 if there is no copy.
    pub(super) copy: AtomicU64,
    /// The length of `.eh_frame` in the copy.
    pub(super) copied_eh_frame: AtomicU64,
    build_id: [AtomicU64; MAX_BUILD_ID_WORDS],
    path: [AtomicU64; MAX_PATH_WORDS],
}

// SAFETY: all fields are atomic integers, for which zero bytes are a valid value. A zeroed entry
// lies beyond the registry's length and is never read.
unsafe impl Zeroed for Entry {}

impl Entry {
    pub(super) fn identity(&self) -> Identity {
        Identity {
            start: self.start.load(Ordering::Relaxed),
            eh_frame_hdr: self.eh_frame_hdr.load(Ordering::Relaxed),
            content_hash: self.content_hash.load(Ordering::Relaxed),
        }
    }

    /// The module's description, for a snapshot.
    pub(super) fn info(&self) -> ModuleInfo {
        let bytes = |words: &[AtomicU64], len: &AtomicU32| {
            let mut bytes: Vec<u8> =
                words.iter().flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes()).collect();
            bytes.truncate(len.load(Ordering::Relaxed) as usize);
            bytes
        };
        ModuleInfo {
            path: bytes(&self.path, &self.path_len),
            build_id: bytes(&self.build_id, &self.build_id_len),
            bias: self.bias.load(Ordering::Relaxed),
            range: self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed),
            file_offset: self.file_offset.load(Ordering::Relaxed),
            code: self.code_start.load(Ordering::Relaxed)..self.code_end.load(Ordering::Relaxed),
        }
    }

    pub(super) fn content_location(&self) -> ContentLocation {
        let range = |at: usize| {
            let len = self.content_lens[at].load(Ordering::Relaxed);
            (self.content_starts[at].load(Ordering::Relaxed), len)
        };
        ContentLocation { headers: range(0), build_id: range(1), path: range(2) }
    }

    /// `.eh_frame_hdr` and `.eh_frame` at the addresses where the loader mapped them.
    pub(super) fn sections(&self) -> (Section, Section) {
        let section = |start: &AtomicU64, end: &AtomicU64| {
            let (start, end) = (start.load(Ordering::Relaxed), end.load(Ordering::Relaxed));
            Section { start, len: end.saturating_sub(start), bytes: start }
        };
        (
            section(&self.eh_frame_hdr, &self.eh_frame_hdr_end),
            section(&self.eh_frame, &self.eh_frame_end),
        )
    }

    pub(super) fn fill(&self, module: &Description, path: &[u8], identity: Identity) {
        let store = |word: &AtomicU64, value: u64| word.store(value, Ordering::Relaxed);
        let store_bytes = |words: &[AtomicU64], len: &AtomicU32, bytes: &[u8]| {
            let stored = &bytes[bytes.len().saturating_sub(words.len() * 8)..];
            for (word, chunk) in words.iter().zip(stored.chunks(8)) {
                let mut buffer = [0; 8];
                buffer[..chunk.len()].copy_from_slice(chunk);
                word.store(u64::from_le_bytes(buffer), Ordering::Relaxed);
            }
            len.store(stored.len() as u32, Ordering::Relaxed);
        };
        let (range, hdr) = (module.range(), module.eh_frame_hdr());
        store(&self.start, range.start);
        store(&self.end, range.end);
        store(&self.content_hash, identity.content_hash);
        store(&self.bias, module.bias);
        store(&self.eh_frame_hdr, hdr.start);
        store(&self.eh_frame_hdr_end, hdr.end);
        store(&self.eh_frame, module.eh_frame.start);
        store(&self.eh_frame_end, module.eh_frame.end);
        let ContentLocation { headers, build_id, path: loaders_path } = module.content_location;
        for (at, (start, len)) in [headers, build_id, loaders_path].into_iter().enumerate() {
            store(&self.content_starts[at], start);
            self.content_lens[at].store(len, Ordering::Relaxed);
        }
        let (file_offset, code) = module.code();
        store(&self.file_offset, file_offset);
        store(&self.code_start, code.start);
        store(&self.code_end, code.end);
        store_bytes(&self.build_id, &self.build_id_len, module.build_id());
        store_bytes(&self.path, &self.path_len, path);
    }
}
