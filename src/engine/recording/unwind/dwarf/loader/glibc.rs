//! glibc's `_dl_find_object` (2.35 and later), which finds the module at an address without a lock.

use std::ffi::{c_int, c_void};

use super::elf::Description;
use crate::engine::recording::sys;

/// `_dl_find_object`, if this glibc has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finder(FindObject);

impl Finder {
    pub(crate) fn new() -> Option<Self> {
        find_object().map(Self)
    }

    /// Describes the module that is currently at an address. It may be unloaded meanwhile.
    pub(crate) fn describe(self, address: u64) -> Option<Description> {
        self.find(address)?.describe()
    }

    /// The start of the module at an address, and the address of the loader's description of it.
    /// Finds only modules that are completely mapped: the loader registers a module after mapping
    /// it, and removes it before it unmaps anything.
    pub(crate) fn loaded_at(self, address: u64) -> Option<(u64, u64)> {
        self.find(address).map(|found| (found.start as u64, found.link_map as u64))
    }

    fn find(self, address: u64) -> Option<DlFindObject> {
        let mut found = DlFindObject::default();
        // SAFETY: this is glibc's function of this signature, see `find_object`. It accepts any
        // address and writes only to the struct.
        let result = unsafe { self.0(address as *mut c_void, &raw mut found) };
        (result == 0).then_some(found)
    }
}

/// Size of the public fields at the start of the loader's `struct link_map`: the bias, and the
/// address of the path.
const LINK_MAP_BYTES: usize = 16;

/// glibc's `struct dl_find_object`, for architectures that do not add a data base address to it.
#[repr(C)]
struct DlFindObject {
    flags: u64,
    start: *mut c_void,
    end: *mut c_void,
    link_map: *mut c_void,
    eh_frame: *mut c_void,
    reserved: [u64; 7],
}

impl Default for DlFindObject {
    fn default() -> Self {
        let none = std::ptr::null_mut();
        Self { flags: 0, start: none, end: none, link_map: none, eh_frame: none, reserved: [0; 7] }
    }
}

impl DlFindObject {
    /// Describes the module by its headers in memory. It may be unloaded meanwhile.
    fn describe(&self) -> Option<Description> {
        const HEADER_BYTES: usize = size_of::<libc::Elf64_Ehdr>();
        let mut bytes = [0; HEADER_BYTES + LINK_MAP_BYTES];
        // In practice the ELF header is at the start of the first segment. Its magic number is
        // checked before anything else is used.
        let sources = [(self.start as u64, HEADER_BYTES), (self.link_map as u64, LINK_MAP_BYTES)];
        if sys::copy_mapped(&sources, &mut bytes) != bytes.len() || !bytes.starts_with(b"\x7fELF") {
            return None;
        }
        let half = |at: usize| u16::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
        let (offset, size, count) = (word(32), half(54), half(56));
        if usize::from(size) != size_of::<libc::Elf64_Phdr>() {
            return None;
        }
        let headers = (self.start as u64).wrapping_add(offset);
        let (bias, path) = (word(HEADER_BYTES), word(HEADER_BYTES + 8));
        Description::read(bias, (headers, count.into()), path)
    }
}

type FindObject = unsafe extern "C" fn(*mut c_void, *mut DlFindObject) -> c_int;

fn find_object() -> Option<FindObject> {
    // SAFETY: the call only looks up a symbol; the name is a NUL-terminated string.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()) };
    // SAFETY: a null pointer becomes `None`; any other one is glibc's function of this type.
    unsafe { std::mem::transmute::<*mut c_void, Option<FindObject>>(symbol) }
}
