//! The registry of modules (the executable and its libraries): their addresses and identities.
//!
//! The registry only grows. *Permanent* modules stay loaded for as long as this code can run (see
//! `loader/permanent.rs`): the program and its dependencies. All others are *dynamic*, whether they
//! were loaded before or after recording started: they may be unloaded, and others may be mapped at
//! their addresses. So each walk through a dynamic module checks, by its program headers, its
//! build-id and its path, that it is still the registered one. If not, it asks glibc's
//! `_dl_find_object` (2.35 and later; lock-free and async-signal-safe) for the current module at
//! that address and registers it if it is new. A stack stores the number of the newest dynamic
//! module in it, and its addresses are resolved among modules up to that number.
//!
//! Without `_dl_find_object`, modules that are loaded later are registered when a snapshot is
//! taken; until then stacks are truncated at their frames.
//!
//! # What may be read
//! The memory of a permanent module is read in place: it is neither unmapped nor remapped while any
//! of this code runs. The memory of a dynamic module may vanish at any instruction, since another
//! thread may close it, and an address that seems to lie in it may be stale. Hence
//! - no pointer into it is dereferenced. The kernel copies what is needed ([`sys::copy_mapped`])
//!   and stops at unmapped memory;
//! - a copy is used only if the module's program headers, build-id and path still match their
//!   description afterwards;
//! - its unwind tables are copied when a walk first meets it, and charged to the budget. Walks,
//!   snapshots and reports read the copy, which lives as long as the registry. If there is no room
//!   for it, stacks are truncated at the module's frames;
//! - when recording starts all modules are described under the loader's lock, which `dlclose` has
//!   to wait for.
//!
//! The hook holds no lock, and stacks without frames in dynamic modules cost nothing extra. A walk
//! through a dynamic module costs one system call per module, about a microsecond.
//!
//! FreeBSD and macOS have no such system call and no `_dl_find_object`, so stacks are truncated at
//! the frames of dynamic modules. If a Linux kernel refuses to copy, the bytes are read in place.
//! The module is then kept loaded only by its function on the walked stack, provided that the
//! stack's contents are genuine. The standard library's unwinder, which walks stacks that the
//! thread does not own, relies on that everywhere.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::entry::{Entry, Identity};
use super::loader::{Description, Finder, loaded_modules};
use super::rules;
use super::tables::UnwindTables;
use super::try_lock::TryLock;
use crate::engine::recording::arena::{Budget, Table, UpTo};
use crate::engine::recording::sys;
use crate::engine::recording::unwind::module_info::ModuleInfo;

/// Maximum number of modules in a session.
const MAX_MODULES: usize = 4096;

/// Maximum number of bytes of copied unwind tables, whatever the budget allows.
const MAX_COPIED: u64 = 1 << 30;

/// The registry of modules.
#[derive(Debug)]
pub(crate) struct Modules {
    entries: Table<Entry>,
    len: AtomicU32,
    /// Locked while an entry or a copy is added; no thread waits for it.
    write_lock: TryLock<()>,
    permanent: u32,
    /// Start, end and number of each permanent module, sorted by address. A search over the
    /// entries, of 400 bytes each, took a cache miss per module.
    permanent_ranges: Box<[(u64, u64, u32)]>,
    finder: Option<Finder>,
    /// Copies of the unwind tables of dynamic modules.
    copies: Table<AtomicU8>,
    /// The number of used bytes in `copies`. Only the holder of `write_lock` changes it.
    copied_bytes: AtomicU64,
    budget: &'static Budget,
}

impl Modules {
    /// Registers the modules that are currently loaded. Takes the loader's lock, so the hook must
    /// not call it.
    pub(crate) fn with_budget(budget: &'static Budget) -> io::Result<Self> {
        let mut modules = Self {
            entries: Table::new(MAX_MODULES)?,
            len: AtomicU32::new(0),
            write_lock: TryLock::new(()),
            permanent: 0,
            permanent_ranges: Box::default(),
            finder: Finder::new(),
            copies: Table::new(budget.cap().min(MAX_COPIED) as usize)?,
            copied_bytes: AtomicU64::new(0),
            budget,
        };
        let loaded = loaded_modules();
        // Permanent modules come first, and the program is the first of them.
        for is_permanent in [true, false] {
            for module in loaded.iter().filter(|module| module.is_permanent == is_permanent) {
                modules.add(&module.description, &module.path);
            }
            if is_permanent {
                modules.permanent = modules.len();
            }
        }
        let range = |module| {
            let (start, end) = modules.tables(module).range;
            (start, end, module)
        };
        let mut ranges: Vec<_> = (0..modules.permanent).map(range).collect();
        ranges.sort_unstable();
        modules.permanent_ranges = ranges.into();
        Ok(modules)
    }

    #[cfg(test)]
    pub(crate) fn new() -> io::Result<Self> {
        Self::with_budget(Box::leak(Box::new(Budget::new(1 << 26))))
    }

    pub(crate) fn len(&self) -> u32 {
        // Acquire: pairs with the release in `add`, which follows the writes to the entry.
        self.len.load(Ordering::Acquire)
    }

    /// Registers modules that have been loaded since, if the hook cannot find them itself. Takes
    /// the loader's lock, so the hook must not call it.
    pub(crate) fn refresh(&self) {
        if self.finder.is_none() {
            for module in loaded_modules() {
                self.add(&module.description, &module.path);
            }
        }
    }

    fn entry(&self, module: u32) -> &Entry {
        self.entries.get(module as usize)
    }

    /// The permanent module at an address.
    pub(super) fn permanent_at(&self, address: u64) -> Option<u32> {
        let after = self.permanent_ranges.partition_point(|(start, ..)| *start <= address);
        let (_, end, module) = self.permanent_ranges[..after].last()?;
        (address < *end).then_some(*module)
    }

    /// The start of the function at an address in a module, from its unwind table. `None` for a
    /// dynamic module whose tables no walk has needed.
    pub(crate) fn function_start(&self, module: u32, address: u64) -> Option<u64> {
        rules::function_start(&self.tables(module), address)
    }

    /// The number of permanent modules, which have the lowest numbers.
    pub(super) fn permanent(&self) -> u32 {
        self.permanent
    }

    /// The dynamic module that is currently at an address; registers it if it is new. Takes no
    /// lock.
    pub(super) fn dynamic_at(&self, address: u64) -> Option<u32> {
        let known = self.newest_dynamic_at(address, self.len());
        if let Some(known) = known.filter(|known| self.is_unchanged(*known)) {
            return Some(known);
        }
        let module = self.finder?.describe(address)?;
        self.add(&module, module.path())
    }

    /// Whether a module is still mapped where it was, with the same content.
    pub(super) fn is_unchanged(&self, module: u32) -> bool {
        if !sys::detects_unmapped() {
            // Its memory must not be accessed. The finder, if there is one, tells which module is
            // mapped.
            return false;
        }
        let entry = self.entry(module);
        // Relaxed: written before the module's number was published, see `entry`.
        entry.content_location().content_hash() == Some(entry.content_hash.load(Ordering::Relaxed))
    }

    /// Whether data that was copied from a module belongs to it, as far as can be determined.
    fn copy_matches_module(&self, module: u32) -> bool {
        self.is_unchanged(module) || !sys::detects_unmapped()
    }

    /// The newest module with a number below `limit` that covers an address.
    pub(crate) fn newest_at(&self, address: u64, limit: u32) -> Option<u32> {
        let dynamic = self.newest_dynamic_at(address, limit.min(self.len()));
        dynamic.or_else(|| self.permanent_at(address).filter(|module| *module < limit))
    }

    fn newest_dynamic_at(&self, address: u64, limit: u32) -> Option<u32> {
        let covers = |module: &u32| {
            let entry = self.entry(*module);
            (entry.start.load(Ordering::Relaxed)..entry.end.load(Ordering::Relaxed))
                .contains(&address)
        };
        (self.permanent..limit).rev().find(covers)
    }

    /// The unwind tables of a module. Those of a dynamic module without a copy are empty.
    pub(super) fn tables(&self, module: u32) -> UnwindTables {
        let entry = self.entry(module);
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let (mut eh_frame_hdr, mut eh_frame) = entry.sections();
        if module >= self.permanent {
            // Acquire: pairs with the release in `copy_tables`, after which the copied bytes do not
            // change.
            match entry.copy.load(Ordering::Acquire) {
                0 => (eh_frame_hdr.len, eh_frame.len) = (0, 0),
                after => {
                    eh_frame.len = load(&entry.copied_eh_frame);
                    let (first, len) = (after - 1, eh_frame_hdr.len + eh_frame.len);
                    eh_frame_hdr.bytes =
                        self.copies.slice(first as usize, len as usize).as_ptr() as u64;
                    eh_frame.bytes = eh_frame_hdr.bytes + eh_frame_hdr.len;
                }
            }
        }
        UnwindTables {
            range: (load(&entry.start), load(&entry.end)),
            bias: load(&entry.bias),
            eh_frame_hdr,
            eh_frame,
        }
    }

    /// The unwind tables of a dynamic module, copied if necessary. `None` if there is no room, if
    /// another thread is adding something, or if the module has been unloaded.
    pub(super) fn copied_tables(&self, module: u32) -> Option<UnwindTables> {
        // Relaxed: `tables` loads it again with acquire before it reads the copy.
        if self.entry(module).copy.load(Ordering::Relaxed) == 0 {
            self.copy_tables(module)?;
        }
        Some(self.tables(module))
    }

    #[cold]
    fn copy_tables(&self, module: u32) -> Option<()> {
        let _guard = self.write_lock.try_lock()?;
        let entry = self.entry(module);
        // Relaxed: both words change only under `write_lock`, whose acquire pairs with the release
        // of its previous holder.
        let first = self.copied_bytes.load(Ordering::Relaxed);
        if entry.copy.load(Ordering::Relaxed) != 0 {
            return Some(());
        }
        let (eh_frame_hdr, eh_frame) = entry.sections();
        let len = eh_frame_hdr.len + eh_frame.len;
        let has_room = len <= self.copies.len() as u64 - first;
        if !has_room || !self.budget.try_charge(len, UpTo::Soft) {
            return None;
        }
        let room = self.copies.slice(first as usize, len as usize);
        // SAFETY: `copied_bytes` ends here, so no other thread knows of this part, and this thread
        // holds `write_lock`. The part consists of atomics, so its memory may be written through a
        // shared reference.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(room.as_ptr().cast_mut().cast::<u8>(), room.len())
        };
        let sources = [eh_frame_hdr, eh_frame].map(|section| (section.start, section.len as usize));
        // The loader maps a module's headers before its other segments. While a module is being
        // loaded other memory may still be mapped where its tables will be.
        let find_loaded = || self.finder.map(|finder| finder.loaded_at(eh_frame_hdr.start));
        let before = find_loaded();
        let copy_is_valid = before != Some(None)
            && sys::copy_mapped(&sources, bytes) == bytes.len()
            && self.copy_matches_module(module)
            && find_loaded() == before;
        if !copy_is_valid {
            self.budget.adjust(-(len as i64));
            return None;
        }
        let end = rules::eh_frame_len(&bytes[sources[0].1..]) as u64;
        self.budget.adjust(end as i64 - eh_frame.len as i64);
        entry.copied_eh_frame.store(end, Ordering::Relaxed);
        self.copied_bytes.store(first + eh_frame_hdr.len + end, Ordering::Relaxed);
        // Release: pairs with the acquire in `tables` and follows the writes to the copy.
        entry.copy.store(first + 1, Ordering::Release);
        Some(())
    }

    /// The offset of a module's addresses in memory from those in its file.
    pub(crate) fn bias(&self, module: u32) -> u64 {
        self.entry(module).bias.load(Ordering::Relaxed)
    }

    /// A module's description, for a snapshot.
    pub(crate) fn info(&self, module: u32) -> ModuleInfo {
        self.entry(module).info()
    }

    /// Registers a module unless it is known. `None` if another thread is adding one, or if there
    /// is no room.
    fn add(&self, module: &Description, path: &[u8]) -> Option<u32> {
        let _guard = self.write_lock.try_lock()?;
        let identity = Identity::of(module);
        if module.range().is_empty() {
            return None;
        }
        if let Some(known) = (0..self.len()).rev().find(|m| self.entry(*m).identity() == identity) {
            // The module was loaded again and its path is stored elsewhere. Relaxed: a thread that
            // reads the old address finds other content there, takes the module for another and
            // comes here too.
            self.entry(known).content_starts[2]
                .store(module.content_location.path.0, Ordering::Relaxed);
            return Some(known);
        }
        let number = self.len();
        ((number as usize) < self.entries.len()).then(|| {
            self.entry(number).fill(module, path, identity);
            // Release: pairs with the acquire in `len` and follows the writes to the entry.
            self.len.store(number + 1, Ordering::Release);
            number
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use std::ffi::{CStr, c_void};

    use super::*;

    /// A library of glibc that no program links to.
    const LIBRARY: &CStr = c"libthread_db.so.1";

    /// All tests share this one library.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    /// Opens the library and returns its handle and an address in it; `None` if it is not
    /// installed.
    fn open() -> Option<(*mut c_void, u64)> {
        // SAFETY: the name is a NUL-terminated string, and the library's constructors are those of
        // the C library's vendor.
        let handle = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_LAZY) };
        // SAFETY: the handle is of an open library, and the name is a NUL-terminated string.
        let symbol =
            (!handle.is_null()).then(|| unsafe { libc::dlsym(handle, c"td_init".as_ptr()) })?;
        (!symbol.is_null()).then_some((handle, symbol as u64 + 1))
    }

    fn close(handle: *mut c_void) {
        // SAFETY: a test opened it and no longer uses it.
        assert_eq!(unsafe { libc::dlclose(handle) }, 0);
    }

    #[test]
    fn the_program_and_its_dependencies_are_permanent() {
        let modules = Modules::new().unwrap();
        let name = |number| String::from_utf8(modules.info(number).path).unwrap();
        assert_eq!(name(0), std::env::current_exe().unwrap().to_str().unwrap());
        let permanent: Vec<String> = (0..modules.permanent()).map(name).collect();
        if cfg!(all(target_env = "gnu", not(target_feature = "crt-static"))) {
            for library in ["libc.so.6", "libgcc_s.so.1", "/ld-linux-"] {
                assert!(permanent.iter().any(|path| path.contains(library)), "{permanent:?}");
            }
        }
        let here = open as *const () as u64;
        assert_eq!(modules.permanent_at(here), Some(0));
    }

    #[test]
    fn an_unloaded_library_is_never_read() {
        if !sys::kernel_permits_copying() {
            println!("skipped: the kernel refuses to copy");
            return;
        }
        if cfg!(target_env = "musl") {
            return;
        }
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((handle, address)) = open() else {
            println!("skipped: no {LIBRARY:?}");
            return;
        };
        let modules = Modules::new().unwrap();
        let module = modules.newest_at(address, modules.len()).unwrap();
        assert!(module >= modules.permanent(), "a dlopened library is dynamic");
        assert_eq!(modules.permanent_at(address), None);
        assert_eq!(modules.dynamic_at(address), Some(module), "meeting it again adds no entry");
        assert_eq!(modules.function_start(module, address), None, "nothing is copied yet");
        let tables = modules.copied_tables(module).unwrap();
        assert_eq!(modules.function_start(module, address), Some(address - 1));
        let copied = modules.budget.held();
        assert_eq!(copied, tables.eh_frame_hdr.len + tables.eh_frame.len);
        close(handle);
        let mut byte = [0];
        assert_eq!(sys::copy_mapped(&[(address, 1)], &mut byte), 0, "it is unmapped");
        assert!(!modules.is_unchanged(module));
        assert_eq!(modules.dynamic_at(address), None);
        assert_eq!(modules.function_start(module, address), Some(address - 1));
        let (handle, again) = open().unwrap();
        let module = modules.dynamic_at(again).unwrap();
        modules.copied_tables(module).unwrap();
        assert_eq!(modules.function_start(module, again), Some(again - 1));
        close(handle);
    }

    /// Looks up addresses in a library that another thread opens and closes, so they may be stale.
    #[test]
    fn a_library_may_be_unloaded_during_a_lookup() {
        if !sys::kernel_permits_copying() {
            println!("skipped: the kernel refuses to copy");
            return;
        }
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((handle, address)) = open() else {
            println!("skipped: no {LIBRARY:?}");
            return;
        };
        let modules = Modules::new().unwrap();
        let offset = address - modules.bias(modules.newest_at(address, modules.len()).unwrap());
        close(handle);
        let latest = AtomicU64::new(address);
        let (mut found, mut unloaded) = (0, 0);
        std::thread::scope(|scope| {
            let closer = scope.spawn(|| {
                for _ in 0..2000 {
                    let (handle, address) = open().unwrap();
                    // Relaxed: a thread may see an older, stale address, which is what this test is
                    // about.
                    latest.store(address, Ordering::Relaxed);
                    std::thread::yield_now();
                    close(handle);
                }
            });
            while !closer.is_finished() {
                let address = latest.load(Ordering::Relaxed);
                let module = modules.dynamic_at(address);
                let tables = module.and_then(|module| modules.copied_tables(module));
                match module.filter(|_| tables.is_some()) {
                    // A stale address may lie anywhere in the reloaded module.
                    Some(module) if address - modules.bias(module) == offset => {
                        assert_eq!(modules.function_start(module, address), Some(address - 1));
                        found += 1;
                    }
                    Some(_) => {}
                    None => unloaded += 1,
                }
            }
        });
        println!("found {found} times, unloaded {unloaded} times, {} modules", modules.len());
        assert!(found > 0 && unloaded > 0);
    }

    #[test]
    fn tables_beyond_the_budget_are_not_copied() {
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((handle, address)) = open() else {
            println!("skipped: no {LIBRARY:?}");
            return;
        };
        let budget: &Budget = Box::leak(Box::new(Budget::new(1 << 10)));
        let modules = Modules::with_budget(budget).unwrap();
        let module = modules.newest_at(address, modules.len()).unwrap();
        if module >= modules.permanent() {
            assert_eq!(modules.copied_tables(module), None);
            assert_eq!(budget.held(), 0);
        }
        close(handle);
    }
}
