//! The executable and its libraries: where they are mapped, and what identifies them.
//!
//! A registry that only grows. Modules that were there when recording started are *permanent*: they
//! are the executable and what it is linked to, which the loader never unloads. Whatever else turns
//! up in a stack was loaded by `dlopen` and is *dynamic*: it may go, and another may take its
//! addresses. So each frame in a dynamic module asks glibc's `_dl_find_object` (2.35 and later;
//! lock-free and async-signal-safe), which module is there now; one that is not in the registry is
//! added, from its headers in memory. A stack keeps the number of the newest dynamic module in it,
//! and addresses of that stack are resolved among modules up to that number.
//!
//! Without `_dl_find_object` dynamic modules become known when a snapshot is taken; stacks are cut
//! at their frames until then.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::loader::{FindObject, Found, each_loaded};
use super::module_info::ModuleInfo;
use super::rules;
use super::tables::UnwindTables;
use crate::engine::recording::arena::{Table, Zeroed};

/// The most modules a session can know.
const MAX_MODULES: usize = 4096;

/// The longest path that is kept; longer ones lose their beginning.
const PATH_WORDS: usize = 32;

/// The longest build-id that is kept. GNU's are 20 bytes, lld's 8 to 20.
const BUILD_ID_WORDS: usize = 4;

/// What tells one mapping from another at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) link_map: u64,
    pub(super) start: u64,
    pub(super) eh_frame_hdr: u64,
    /// Of the path and the build-id. The loader may put the next library of the same shape into the
    /// same place, and describe it in the same memory.
    pub(super) content_hash: u64,
}

#[derive(Debug)]
struct Entry {
    path_len: AtomicU32,
    build_id_len: AtomicU32,
    link_map: AtomicU64,
    bias: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
    file_offset: AtomicU64,
    code_start: AtomicU64,
    code_end: AtomicU64,
    eh_frame_hdr: AtomicU64,
    content_hash: AtomicU64,
    eh_frame_hdr_end: AtomicU64,
    eh_frame: AtomicU64,
    eh_frame_end: AtomicU64,
    build_id: [AtomicU64; BUILD_ID_WORDS],
    path: [AtomicU64; PATH_WORDS],
}

// SAFETY: atomics only; zero is an entry beyond the length, which nobody looks at.
unsafe impl Zeroed for Entry {}

/// The registry.
#[derive(Debug)]
pub(crate) struct Modules {
    entries: Table<Entry>,
    len: AtomicU32,
    /// Taken while an entry is added; never waited for.
    adding: AtomicBool,
    permanent: u32,
    /// Where each permanent module begins and ends, and its number; by address. Looking at entries, 400
    /// bytes each, took a cache miss a module.
    permanent_ranges: Box<[(u64, u64, u32)]>,
    find_object: Option<FindObject>,
}

impl Modules {
    /// The modules that are loaded now. Takes the loader's lock: not for the hook.
    pub(crate) fn new() -> io::Result<Self> {
        let mut modules = Self {
            entries: Table::new(MAX_MODULES)?,
            len: AtomicU32::new(0),
            adding: AtomicBool::new(false),
            permanent: 0,
            permanent_ranges: Box::default(),
            find_object: FindObject::new(),
        };
        modules.add_loaded();
        modules.permanent = modules.len();
        let range = |module| {
            let (start, end) = modules.tables(module).range;
            (start, end, module)
        };
        let mut ranges: Vec<_> = (0..modules.permanent).map(range).collect();
        ranges.sort_unstable();
        modules.permanent_ranges = ranges.into();
        Ok(modules)
    }

    pub(crate) fn len(&self) -> u32 {
        // Acquire: pairs with the release in `add`.
        self.len.load(Ordering::Acquire)
    }

    /// Adds what is loaded now and not known. Takes the loader's lock: not for the hook. Only needed
    /// where the hook cannot find modules itself.
    pub(crate) fn refresh(&self) {
        if self.find_object.is_none() {
            self.add_loaded();
        }
    }

    fn add_loaded(&self) {
        each_loaded(|module| {
            let range = module.range();
            if range.is_empty() {
                return;
            }
            let identity = Identity {
                link_map: 0,
                start: range.start,
                eh_frame_hdr: module.eh_frame_hdr().start,
                content_hash: module.content_hash(),
            };
            self.add(module, identity);
        });
    }

    fn entry(&self, module: u32) -> &Entry {
        self.entries.get(module as usize)
    }

    /// The module at an address, if it is one that never goes away.
    pub(super) fn permanent_at(&self, address: u64) -> Option<u32> {
        let after = self.permanent_ranges.partition_point(|(start, ..)| *start <= address);
        let (_, end, module) = self.permanent_ranges[..after].last()?;
        (address < *end).then_some(*module)
    }

    /// Where the function at an address begins, by its unwind table; `None` outside of permanent
    /// modules, whose tables alone are sure to be there.
    pub(crate) fn function_start(&self, address: u64) -> Option<u64> {
        rules::function_start(&self.tables(self.permanent_at(address)?), address)
    }

    /// How many modules are permanent; their numbers are below.
    pub(super) fn permanent(&self) -> u32 {
        self.permanent
    }

    /// The dynamic module that is at an address now, added if it was not known. Takes no lock.
    pub(super) fn dynamic_at(&self, address: u64) -> Option<u32> {
        let Some(find_object) = self.find_object else {
            return self.newest_at(address, self.len());
        };
        find_object.at(address, |module, identity| {
            let known = (self.permanent..self.len()).rev().find(|m| self.identity(*m) == identity);
            known.or_else(|| self.add(module, identity))
        })
    }

    fn identity(&self, module: u32) -> Identity {
        let entry = self.entry(module);
        Identity {
            link_map: entry.link_map.load(Ordering::Relaxed),
            start: entry.start.load(Ordering::Relaxed),
            eh_frame_hdr: entry.eh_frame_hdr.load(Ordering::Relaxed),
            content_hash: entry.content_hash.load(Ordering::Relaxed),
        }
    }

    /// The newest module, of those numbered below `limit`, that covers an address.
    pub(crate) fn newest_at(&self, address: u64, limit: u32) -> Option<u32> {
        let covers = |module: &u32| {
            let entry = self.entry(*module);
            (entry.start.load(Ordering::Relaxed)..entry.end.load(Ordering::Relaxed))
                .contains(&address)
        };
        let dynamic = (self.permanent..limit.min(self.len())).rev().find(covers);
        dynamic.or_else(|| self.permanent_at(address).filter(|module| *module < limit))
    }

    pub(super) fn tables(&self, module: u32) -> UnwindTables {
        let entry = self.entry(module);
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        UnwindTables {
            range: (load(&entry.start), load(&entry.end)),
            bias: load(&entry.bias),
            eh_frame_hdr: (load(&entry.eh_frame_hdr), load(&entry.eh_frame_hdr_end)),
            eh_frame: (load(&entry.eh_frame), load(&entry.eh_frame_end)),
        }
    }

    /// What is added to a module's own addresses to get those in memory.
    pub(crate) fn bias(&self, module: u32) -> u64 {
        self.entry(module).bias.load(Ordering::Relaxed)
    }

    /// A module's particulars, for a snapshot.
    pub(crate) fn info(&self, module: u32) -> ModuleInfo {
        let entry = self.entry(module);
        let bytes = |words: &[AtomicU64], len: &AtomicU32| {
            let mut bytes: Vec<u8> =
                words.iter().flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes()).collect();
            bytes.truncate(len.load(Ordering::Relaxed) as usize);
            bytes
        };
        ModuleInfo {
            path: bytes(&entry.path, &entry.path_len),
            build_id: bytes(&entry.build_id, &entry.build_id_len),
            bias: entry.bias.load(Ordering::Relaxed),
            range: entry.start.load(Ordering::Relaxed)..entry.end.load(Ordering::Relaxed),
            file_offset: entry.file_offset.load(Ordering::Relaxed),
            code: entry.code_start.load(Ordering::Relaxed)..entry.code_end.load(Ordering::Relaxed),
        }
    }

    /// Adds a module unless it is known. `None` when another thread is adding one, or there is no room.
    fn add(&self, module: &Found<'_>, identity: Identity) -> Option<u32> {
        // Acquire and release around the addition: one at a time.
        if self.adding.swap(true, Ordering::Acquire) {
            return None;
        }
        let known = (0..self.len()).rev().find(|m| self.identity(*m) == identity);
        let added = known.or_else(|| {
            let number = self.len();
            ((number as usize) < self.entries.len()).then(|| {
                self.entry(number).fill(module, identity);
                // Release: pairs with the acquire in `len`.
                self.len.store(number + 1, Ordering::Release);
                number
            })
        });
        self.adding.store(false, Ordering::Release);
        added
    }
}

impl Entry {
    fn fill(&self, module: &Found<'_>, identity: Identity) {
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
        let range = module.range();
        let (hdr, eh_frame) = (module.eh_frame_hdr(), module.eh_frame());
        store(&self.link_map, identity.link_map);
        // The start as the loader's own tables have it, which `identity` is compared by.
        store(&self.start, if identity.start == 0 { range.start } else { identity.start });
        store(&self.content_hash, identity.content_hash);
        store(&self.end, range.end);
        store(&self.bias, module.bias());
        store(&self.eh_frame_hdr, hdr.start);
        store(&self.eh_frame_hdr_end, hdr.end);
        store(&self.eh_frame, eh_frame.start);
        store(&self.eh_frame_end, eh_frame.end);
        let (file_offset, code) = module.code();
        store(&self.file_offset, file_offset);
        store(&self.code_start, code.start);
        store(&self.code_end, code.end);
        text(&self.build_id, &self.build_id_len, module.build_id());
        text(&self.path, &self.path_len, module.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a snapshot does where the hook cannot find modules itself.
    #[test]
    fn what_is_known_is_not_added_again() {
        let modules = Modules::new().unwrap();
        let known = modules.len();
        modules.add_loaded();
        let added: Vec<_> = (known..modules.len()).map(|module| modules.info(module)).collect();
        assert_eq!(added, []);
    }

    #[test]
    fn the_executable_comes_first_and_has_its_path() {
        let modules = Modules::new().unwrap();
        let path = std::env::current_exe().unwrap();
        assert_eq!(modules.info(0).path, path.as_os_str().as_encoded_bytes());
    }
}
