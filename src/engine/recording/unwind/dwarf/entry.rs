//! What the registry keeps of a module, in atomic words.
//!
//! All values are relaxed: they are written before the number of the entry is known, which the
//! length of the registry publishes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::loader::Description;
use super::places::{BUILD_ID_BYTES, Places};
use super::tables::Section;
use crate::engine::recording::arena::Zeroed;
use crate::engine::recording::unwind::module_info::ModuleInfo;

/// The longest path that is kept; longer ones lose their beginning.
const PATH_WORDS: usize = 32;

const BUILD_ID_WORDS: usize = BUILD_ID_BYTES / 8;

/// What tells one mapping from another at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    start: u64,
    eh_frame_hdr: u64,
    /// Of the headers, the build-id and the path. The loader may put the next library of the same
    /// shape into the same place, and describe it in the same memory.
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
    /// Where the content is that is hashed, see [`Places`].
    pub(super) places: [AtomicU64; 3],
    place_lens: [AtomicU32; 3],
    /// 1 + where the copy of both tables begins among the copies; 0 if there is none.
    pub(super) copy: AtomicU64,
    /// How long `.eh_frame` is in the copy.
    pub(super) copied_eh_frame: AtomicU64,
    build_id: [AtomicU64; BUILD_ID_WORDS],
    path: [AtomicU64; PATH_WORDS],
}

// SAFETY: atomics only; zero is an entry beyond the length, which nobody looks at.
unsafe impl Zeroed for Entry {}

impl Entry {
    pub(super) fn identity(&self) -> Identity {
        Identity {
            start: self.start.load(Ordering::Relaxed),
            eh_frame_hdr: self.eh_frame_hdr.load(Ordering::Relaxed),
            content_hash: self.content_hash.load(Ordering::Relaxed),
        }
    }

    /// A module's particulars, for a snapshot.
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

    pub(super) fn places(&self) -> Places {
        let place = |at: usize| {
            let len = self.place_lens[at].load(Ordering::Relaxed);
            (self.places[at].load(Ordering::Relaxed), len)
        };
        Places { headers: place(0), build_id: place(1), path: place(2) }
    }

    /// `.eh_frame_hdr` and `.eh_frame` where they are mapped.
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
        let store = |place: &AtomicU64, value: u64| place.store(value, Ordering::Relaxed);
        let text = |words: &[AtomicU64], len: &AtomicU32, bytes: &[u8]| {
            let kept = &bytes[bytes.len().saturating_sub(words.len() * 8)..];
            for (word, chunk) in words.iter().zip(kept.chunks(8)) {
                let mut buffer = [0; 8];
                buffer[..chunk.len()].copy_from_slice(chunk);
                word.store(u64::from_le_bytes(buffer), Ordering::Relaxed);
            }
            len.store(kept.len() as u32, Ordering::Relaxed);
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
        let Places { headers, build_id, path: loaders_path } = module.places;
        for (at, (place, len)) in [headers, build_id, loaders_path].into_iter().enumerate() {
            store(&self.places[at], place);
            self.place_lens[at].store(len, Ordering::Relaxed);
        }
        let (file_offset, code) = module.code();
        store(&self.file_offset, file_offset);
        store(&self.code_start, code.start);
        store(&self.code_end, code.end);
        text(&self.build_id, &self.build_id_len, module.build_id());
        text(&self.path, &self.path_len, path);
    }
}
