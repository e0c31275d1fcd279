//! glibc's `_dl_find_object` (2.35 and later): which module is at an address, without a lock.

use std::ffi::{c_int, c_void};

use super::elf::Description;
use crate::engine::recording::sys;

/// The function, where there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finder(FindObject);

impl Finder {
    pub(crate) fn new() -> Option<Self> {
        find_object().map(Self)
    }

    /// The module that is at an address now, described. It may have gone meanwhile.
    pub(crate) fn describe(self, address: u64) -> Option<Description> {
        self.find(address)?.describe()
    }

    /// Where the module at an address begins, and where the loader keeps its description. Finds
    /// only modules that are mapped as a whole: the loader makes a module known after that, and
    /// forgets it before it unmaps anything.
    pub(crate) fn loaded_at(self, address: u64) -> Option<(u64, u64)> {
        self.find(address).map(|found| (found.start as u64, found.link_map as u64))
    }

    fn find(self, address: u64) -> Option<FoundObject> {
        let mut found = FoundObject::default();
        // SAFETY: glibc's function of this signature; it takes any address, and fills the struct.
        let result = unsafe { self.0(address as *mut c_void, &raw mut found) };
        (result == 0).then_some(found)
    }
}

/// The public beginning of the loader's `struct link_map`: the bias, and where the path is.
const LINK_MAP_BYTES: usize = 16;

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
    /// The module as its headers in memory have it. It may have gone meanwhile.
    fn describe(&self) -> Option<Description> {
        const HEADER_BYTES: usize = size_of::<libc::Elf64_Ehdr>();
        let mut bytes = [0; HEADER_BYTES + LINK_MAP_BYTES];
        // The ELF header is at the start of the first segment in practice; its magic is checked
        // before anything is believed.
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

type FindObject = unsafe extern "C" fn(*mut c_void, *mut FoundObject) -> c_int;

fn find_object() -> Option<FindObject> {
    // SAFETY: a lookup by name.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()) };
    // SAFETY: null is `None`; otherwise glibc's function of this type.
    unsafe { std::mem::transmute::<*mut c_void, Option<FindObject>>(symbol) }
}
