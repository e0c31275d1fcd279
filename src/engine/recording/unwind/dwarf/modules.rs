//! The executable and its libraries: where they are mapped, and what identifies them.
//!
//! A registry that only grows. *Permanent* modules are there for as long as this code can run, see
//! `loader/permanent.rs`: the program and what it is linked to. All others are *dynamic*:
//! whether they were loaded before recording started or after, they may go, and others may take
//! their addresses. So each walk through a dynamic module looks whether it is still the one that is
//! known there, by its headers, its build-id and its path, and otherwise asks glibc's
//! `_dl_find_object` (2.35 and later; lock-free and async-signal-safe) for the module that is there
//! now. One that is not in the registry is added. A stack keeps the number of the newest dynamic
//! module in it, and addresses of that stack are resolved among modules up to that number.
//!
//! Without `_dl_find_object` modules that are loaded later become known when a snapshot is taken;
//! stacks are cut at their frames until then.
//!
//! # What may be read
//! The memory of a permanent module is read in place: it is neither unmapped nor mapped anew while
//! any of this code runs. The memory of a dynamic module may vanish at any instruction, since
//! another thread may close it, and an address that looks like one in it may be a stale one. Hence
//! - nobody follows a pointer into it. What is needed is copied by the kernel
//!   ([`sys::copy_mapped`]), which misses what is not mapped;
//! - a copy is believed only if the module's headers, build-id and path are as described
//!   afterwards;
//! - its unwind tables are copied when a walk first meets it, and charged to the budget. Walks,
//! snapshots and reports read the copy, which stays as long as the registry. Where there is no room
//!   for it, stacks are cut at the module's frames;
//! - when recording starts all modules are described under the loader's lock, which `dlclose` waits
//!   for.
//!
//! No lock is held in the hook, and a program without dynamic modules in its stacks pays nothing. A
//! walk through one costs a system call a module, about a microsecond.
//!
//! Where there is no such call (FreeBSD, macOS) and no `_dl_find_object`, stacks are cut at the
//! frames of dynamic modules. Where a Linux kernel refuses to copy, the bytes are read in place.
//! What keeps a module there is then the function of it that is on the walked stack, as long as the
//! stack tells the truth. The standard library's unwinder, which walks stacks that are not the
//! thread's own, depends on that everywhere.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::entry::{Entry, Identity};
use super::loader::{Description, Finder, loaded};
use super::rules;
use super::tables::UnwindTables;
use super::try_lock::TryLock;
use crate::engine::recording::arena::{Budget, Table, UpTo};
use crate::engine::recording::sys;
use crate::engine::recording::unwind::module_info::ModuleInfo;

/// The most modules a session can know.
const MAX_MODULES: usize = 4096;

/// The most bytes of unwind tables that are copied, whatever the budget.
const MAX_COPIED: u64 = 1 << 30;

/// The registry.
#[derive(Debug)]
pub(crate) struct Modules {
    entries: Table<Entry>,
    len: AtomicU32,
    /// TryLockGuard while an entry or a copy is added; never waited for.
    adding: TryLock<()>,
    permanent: u32,
    /// Where each permanent module begins and ends, and its number; by address. Looking at entries,
    /// 400 bytes each, took a cache miss a module.
    permanent_ranges: Box<[(u64, u64, u32)]>,
    finder: Option<Finder>,
    /// Unwind tables of dynamic modules.
    copies: Table<AtomicU8>,
    /// How much of that is taken. Changed by whoever has `adding`.
    copied: AtomicU64,
    budget: &'static Budget,
}

impl Modules {
    /// The modules that are loaded now. Takes the loader's lock: not for the hook.
    pub(crate) fn with_budget(budget: &'static Budget) -> io::Result<Self> {
        let mut modules = Self {
            entries: Table::new(MAX_MODULES)?,
            len: AtomicU32::new(0),
            adding: TryLock::new(()),
            permanent: 0,
            permanent_ranges: Box::default(),
            finder: Finder::new(),
            copies: Table::new(budget.cap().min(MAX_COPIED) as usize)?,
            copied: AtomicU64::new(0),
            budget,
        };
        let loaded = loaded();
        // Permanent ones first; the program is the first of them.
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
        // Acquire: pairs with the release in `add`.
        self.len.load(Ordering::Acquire)
    }

    /// Adds what is loaded now and not known. Takes the loader's lock: not for the hook. Only
    /// needed where the hook cannot find modules itself.
    pub(crate) fn refresh(&self) {
        if self.finder.is_none() {
            for module in loaded() {
                self.add(&module.description, &module.path);
            }
        }
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

    /// Where the function at an address in a module begins, by its unwind table; `None` of a
    /// dynamic module whose tables no walk has needed.
    pub(crate) fn function_start(&self, module: u32, address: u64) -> Option<u64> {
        rules::function_start(&self.tables(module), address)
    }

    /// How many modules are permanent; their numbers are below.
    pub(super) fn permanent(&self) -> u32 {
        self.permanent
    }

    /// The dynamic module that is at an address now, added if it was not known. Takes no lock.
    pub(super) fn dynamic_at(&self, address: u64) -> Option<u32> {
        let known = self.newest_dynamic_at(address, self.len());
        if let Some(known) = known.filter(|known| self.is_still(*known)) {
            return Some(known);
        }
        let module = self.finder?.describe(address)?;
        self.add(&module, module.path())
    }

    /// Whether a module is where it was, and the same.
    pub(super) fn is_still(&self, module: u32) -> bool {
        if !sys::copies_only_what_is_mapped() {
            // Its memory must not be touched. Where there is a finder, it tells which module is
            // there.
            return false;
        }
        let entry = self.entry(module);
        // Relaxed, as in `identity`.
        entry.places().content_hash() == Some(entry.content_hash.load(Ordering::Relaxed))
    }

    /// Whether what was copied of a module was of it, as far as can be told.
    fn is_described(&self, module: u32) -> bool {
        self.is_still(module) || !sys::copies_only_what_is_mapped()
    }

    /// The newest module, of those numbered below `limit`, that covers an address.
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

    /// The tables of a module; without their bytes, of a dynamic one that has none copied.
    pub(super) fn tables(&self, module: u32) -> UnwindTables {
        let entry = self.entry(module);
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let (mut eh_frame_hdr, mut eh_frame) = entry.sections();
        if module >= self.permanent {
            // Acquire: pairs with the release in `copy_tables`, after which the bytes do not
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

    /// The tables of a dynamic module, copied if they were not. `None` when there is no room, when
    /// another thread is adding something, or when the module has gone.
    pub(super) fn copied_tables(&self, module: u32) -> Option<UnwindTables> {
        // Relaxed: whoever reads the copy looks again.
        if self.entry(module).copy.load(Ordering::Relaxed) == 0 {
            self.copy_tables(module)?;
        }
        Some(self.tables(module))
    }

    #[cold]
    fn copy_tables(&self, module: u32) -> Option<()> {
        let _adding = self.adding.take()?;
        let entry = self.entry(module);
        // Relaxed: whoever had `adding` before has released it.
        let first = self.copied.load(Ordering::Relaxed);
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
        // SAFETY: `copied` is not beyond here, so nobody else knows of this part; it is made of
        // atomics, and may be written to.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(room.as_ptr().cast_mut().cast::<u8>(), room.len())
        };
        let sources = [eh_frame_hdr, eh_frame].map(|section| (section.start, section.len as usize));
        // The loader maps the headers of a module before its other segments, so a module that is
        // being loaded may have other memory where its tables will be.
        let loaded = || self.finder.map(|finder| finder.loaded_at(eh_frame_hdr.start));
        let before = loaded();
        let is_copied = before != Some(None)
            && sys::copy_mapped(&sources, bytes) == bytes.len()
            && self.is_described(module)
            && loaded() == before;
        if !is_copied {
            self.budget.adjust(-(len as i64));
            return None;
        }
        let end = rules::eh_frame_len(&bytes[sources[0].1..]) as u64;
        self.budget.adjust(end as i64 - eh_frame.len as i64);
        entry.copied_eh_frame.store(end, Ordering::Relaxed);
        self.copied.store(first + eh_frame_hdr.len + end, Ordering::Relaxed);
        // Release: pairs with the acquire in `tables`.
        entry.copy.store(first + 1, Ordering::Release);
        Some(())
    }

    /// What is added to a module's own addresses to get those in memory.
    pub(crate) fn bias(&self, module: u32) -> u64 {
        self.entry(module).bias.load(Ordering::Relaxed)
    }

    /// A module's particulars, for a snapshot.
    pub(crate) fn info(&self, module: u32) -> ModuleInfo {
        self.entry(module).info()
    }

    /// Adds a module unless it is known. `None` when another thread is adding one, or there is no
    /// room.
    fn add(&self, module: &Description, path: &[u8]) -> Option<u32> {
        let _adding = self.adding.take()?;
        let identity = Identity::of(module);
        if module.range().is_empty() {
            return None;
        }
        if let Some(known) = (0..self.len()).rev().find(|m| self.entry(*m).identity() == identity) {
            // It has come again, and the loader has put its path elsewhere. Relaxed: whoever reads
            // the old place finds something else there, and comes here too.
            self.entry(known).places[2].store(module.places.path.0, Ordering::Relaxed);
            return Some(known);
        }
        let number = self.len();
        ((number as usize) < self.entries.len()).then(|| {
            self.entry(number).fill(module, path, identity);
            // Release: pairs with the acquire in `len`.
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

    /// A library of glibc that nobody is linked to.
    const LIBRARY: &CStr = c"libthread_db.so.1";

    /// There is one library for all tests.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    /// A library that was loaded before, and an address in it.
    fn open() -> Option<(*mut c_void, u64)> {
        // SAFETY: a library of the system.
        let handle = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_LAZY) };
        // SAFETY: an open library.
        let symbol =
            (!handle.is_null()).then(|| unsafe { libc::dlsym(handle, c"td_init".as_ptr()) })?;
        (!symbol.is_null()).then_some((handle, symbol as u64 + 1))
    }

    fn close(handle: *mut c_void) {
        // SAFETY: opened by a test, which uses it no more.
        assert_eq!(unsafe { libc::dlclose(handle) }, 0);
    }

    #[test]
    fn the_program_and_what_it_is_linked_to_are_permanent() {
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
    fn nothing_of_a_library_that_is_gone_is_read() {
        if !sys::kernel_copies() {
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
        assert!(module >= modules.permanent(), "it may be closed");
        assert_eq!(modules.permanent_at(address), None);
        assert_eq!(modules.dynamic_at(address), Some(module), "that it is met adds nothing");
        assert_eq!(modules.function_start(module, address), None, "nothing is copied yet");
        let tables = modules.copied_tables(module).unwrap();
        assert_eq!(modules.function_start(module, address), Some(address - 1));
        let copied = modules.budget.held();
        assert_eq!(copied, tables.eh_frame_hdr.len + tables.eh_frame.len);
        close(handle);
        let mut byte = [0];
        assert_eq!(sys::copy_mapped(&[(address, 1)], &mut byte), 0, "it is unmapped");
        assert!(!modules.is_still(module));
        assert_eq!(modules.dynamic_at(address), None);
        assert_eq!(modules.function_start(module, address), Some(address - 1));
        let (handle, again) = open().unwrap();
        let module = modules.dynamic_at(again).unwrap();
        modules.copied_tables(module).unwrap();
        assert_eq!(modules.function_start(module, again), Some(again - 1));
        close(handle);
    }

    /// Addresses in a library that another thread opens and closes, so that they may be stale.
    #[test]
    fn a_library_may_go_while_it_is_looked_at() {
        if !sys::kernel_copies() {
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
        let (mut there, mut gone) = (0, 0);
        std::thread::scope(|scope| {
            let closer = scope.spawn(|| {
                for _ in 0..2000 {
                    let (handle, address) = open().unwrap();
                    // Relaxed: an older address is stale, which is what this is about.
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
                    // A stale address may be anywhere in the module.
                    Some(module) if address - modules.bias(module) == offset => {
                        assert_eq!(modules.function_start(module, address), Some(address - 1));
                        there += 1;
                    }
                    Some(_) => {}
                    None => gone += 1,
                }
            }
        });
        println!("there {there} times, gone {gone} times, {} modules", modules.len());
        assert!(there > 0 && gone > 0);
    }

    #[test]
    fn tables_without_room_are_not_copied() {
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
