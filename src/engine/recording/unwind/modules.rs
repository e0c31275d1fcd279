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

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

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
    link_map: u64,
    start: u64,
    eh_frame_hdr: u64,
    /// Of the path and the build-id. The loader may put the next library of the same shape into the
    /// same place, and describe it in the same memory.
    content_hash: u64,
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
            find_object: find_object(),
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
        let this = std::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the callback matches the declared type, and `self` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(on_loaded), this) };
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
        let mut found = FoundObject::default();
        // SAFETY: glibc's function of this signature; it fills the struct.
        if unsafe { find_object(address as *mut c_void, &raw mut found) } != 0 {
            return None;
        }
        let module = found.module()?;
        let identity = Identity {
            link_map: found.link_map as u64,
            start: found.start as u64,
            eh_frame_hdr: found.eh_frame as u64,
            content_hash: module.content_hash(),
        };
        let known = (self.permanent..self.len()).rev().find(|m| self.identity(*m) == identity);
        known.or_else(|| self.add(&module, identity))
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

use libc::{Elf64_Ehdr as ElfHeader, Elf64_Phdr as Header};

/// The public beginning of the loader's `struct link_map`.
#[repr(C)]
struct LinkMap {
    bias: usize,
    name: *const c_char,
}

/// glibc's `struct dl_find_object`, of the architectures that do not add a data base to it.
#[repr(C)]
struct FoundObject {
    flags: u64,
    start: *mut c_void,
    end: *mut c_void,
    link_map: *mut c_void,
    eh_frame: *mut c_void,
    reserved: [u64; 7],
}

impl Default for FoundObject {
    fn default() -> Self {
        let none = std::ptr::null_mut();
        Self { flags: 0, start: none, end: none, link_map: none, eh_frame: none, reserved: [0; 7] }
    }
}

impl FoundObject {
    /// The module as its headers in memory have it.
    fn module(&self) -> Option<Found<'_>> {
        // SAFETY: glibc hands out the link map of a module that code is running in, so it stays.
        let link_map = unsafe { self.link_map.cast::<LinkMap>().as_ref() }?;
        // SAFETY: a string of the loader.
        let path = unsafe { text(link_map.name) };
        let header = self.start.cast::<ElfHeader>();
        // SAFETY: the ELF header is at the start of the first segment in practice; its magic is
        // checked before anything is believed.
        let header = unsafe { header.as_ref() }?;
        let is_elf = header.e_ident.starts_with(b"\x7fELF");
        if !is_elf || usize::from(header.e_phentsize) != size_of::<Header>() {
            return None;
        }
        let headers = self.start.wrapping_byte_add(header.e_phoff as usize).cast::<Header>();
        // SAFETY: the program headers follow the ELF header in the first segment.
        let headers = unsafe { std::slice::from_raw_parts(headers, header.e_phnum.into()) };
        Some(Found { path, bias: link_map.bias as u64, headers })
    }
}

type FindObject = unsafe extern "C" fn(*mut c_void, *mut FoundObject) -> c_int;

fn find_object() -> Option<FindObject> {
    // SAFETY: a lookup by name.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()) };
    // SAFETY: null is `None`; otherwise glibc's function of this type.
    unsafe { std::mem::transmute::<*mut c_void, Option<FindObject>>(symbol) }
}

/// The bytes of a C string, or none of a null pointer.
///
/// # Safety
/// The string stays for `'a`.
unsafe fn text<'a>(string: *const c_char) -> &'a [u8] {
    if string.is_null() {
        return b"";
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { CStr::from_ptr(string) }.to_bytes()
}

/// A module as the loader describes it.
struct Found<'a> {
    path: &'a [u8],
    bias: u64,
    headers: &'a [Header],
}

impl Found<'_> {
    fn segments(&self, kind: u32) -> impl Iterator<Item = (Range<u64>, &Header)> {
        self.headers.iter().filter(move |header| header.p_type == kind).map(|header| {
            let start = self.bias.wrapping_add(header.p_vaddr);
            (start..start + header.p_memsz, header)
        })
    }

    /// FNV-1a (Fowler, Noll and Vo) of the path and the build-id: some seventy bytes.
    fn content_hash(&self) -> u64 {
        self.path.iter().chain(self.build_id()).fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
        })
    }

    fn range(&self) -> Range<u64> {
        self.segments(libc::PT_LOAD)
            .map(|(range, _)| range)
            .reduce(|all, one| all.start.min(one.start)..all.end.max(one.end))
            .unwrap_or_default()
    }

    fn eh_frame_hdr(&self) -> Range<u64> {
        self.segments(libc::PT_GNU_EH_FRAME).map(|(range, _)| range).next().unwrap_or_default()
    }

    /// `.eh_frame` from the pointer in `.eh_frame_hdr` to the end of its segment: where it ends is
    /// written nowhere, and is found by the terminator when it is read.
    fn eh_frame(&self) -> Range<u64> {
        /// `DW_EH_PE_pcrel | DW_EH_PE_sdata4`: the only encoding that linkers write here.
        const RELATIVE: u8 = 0x1b;
        let hdr = self.eh_frame_hdr();
        if hdr.end - hdr.start < 8 {
            return 0..0;
        }
        // SAFETY: eight bytes inside a mapped segment.
        let head = unsafe { (hdr.start as *const [u8; 8]).read() };
        if head[0] != 1 || head[1] != RELATIVE {
            return 0..0;
        }
        let offset = i32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let start = (hdr.start + 4).wrapping_add_signed(offset.into());
        self.segments(libc::PT_LOAD)
            .find(|(range, _)| range.contains(&start))
            .map_or(0..0, |(range, _)| start..range.end)
    }

    fn build_id(&self) -> &[u8] {
        for (range, header) in self.segments(libc::PT_NOTE) {
            // SAFETY: a note segment is mapped where its header says.
            let mut notes = unsafe {
                std::slice::from_raw_parts(range.start as *const u8, header.p_memsz as usize)
            };
            while let [a, b, c, d, e, f, g, h, kind @ ..] = notes {
                let name_len = u32::from_ne_bytes([*a, *b, *c, *d]) as usize;
                let data_len = u32::from_ne_bytes([*e, *f, *g, *h]) as usize;
                let align = if header.p_align == 8 { 8 } else { 4_usize };
                let data = 12 + name_len.next_multiple_of(4);
                let data = data.next_multiple_of(align);
                let is_build_id =
                    kind.starts_with(&3_u32.to_ne_bytes()) && notes.get(12..16) == Some(b"GNU\0");
                if is_build_id {
                    return notes.get(data..data + data_len).unwrap_or_default();
                }
                notes = notes.get((data + data_len).next_multiple_of(align)..).unwrap_or_default();
            }
        }
        &[]
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
        store(&self.bias, module.bias);
        store(&self.eh_frame_hdr, hdr.start);
        store(&self.eh_frame_hdr_end, hdr.end);
        store(&self.eh_frame, eh_frame.start);
        store(&self.eh_frame_end, eh_frame.end);
        let mut loaded = module.segments(libc::PT_LOAD).map(|(_, header)| header);
        let code = loaded.find(|header| header.p_flags & libc::PF_X != 0);
        store(&self.file_offset, code.map_or(0, |header| header.p_offset));
        store(&self.code_start, code.map_or(0, |header| header.p_vaddr));
        store(&self.code_end, code.map_or(0, |header| header.p_vaddr + header.p_memsz));
        text(&self.build_id, &self.build_id_len, module.build_id());
        text(&self.path, &self.path_len, module.path);
    }
}

unsafe extern "C" fn on_loaded(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    modules: *mut c_void,
) -> c_int {
    // SAFETY: the registry that was passed to `dl_iterate_phdr`.
    let modules = unsafe { &*modules.cast::<Modules>() };
    // SAFETY: valid during the callback.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the loader's own headers of a loaded module.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    // SAFETY: a string of the loader.
    let mut path = unsafe { text(info.dlpi_name) };
    // The executable comes first, without a name.
    let executable = std::env::current_exe().unwrap_or_default();
    if path.is_empty() && modules.len() == 0 {
        path = OsStr::as_bytes(executable.as_os_str());
    }
    let module = Found { path, bias: info.dlpi_addr, headers };
    let identity = Identity {
        link_map: 0,
        start: module.range().start,
        eh_frame_hdr: module.eh_frame_hdr().start,
        content_hash: module.content_hash(),
    };
    if !module.range().is_empty() {
        modules.add(&module, identity);
    }
    0
}
