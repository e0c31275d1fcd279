//! glibc's search of the module at an address: `_dl_find_object`, of 2.35 and later. It is lock-free
//! and async-signal-safe.

use std::ffi::{c_char, c_int, c_void};

use libc::{Elf64_Ehdr as ElfHeader, Elf64_Phdr as Header};

use super::Identity;
use super::elf::{Found, text};

type Function = unsafe extern "C" fn(*mut c_void, *mut FoundObject) -> c_int;

/// The function, where this glibc has it.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine::recording::unwind) struct FindObject(Function);

impl FindObject {
    pub(in crate::engine::recording::unwind) fn new() -> Option<Self> {
        // SAFETY: a lookup by name.
        let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()) };
        // SAFETY: null is `None`; otherwise glibc's function of this type.
        let function = unsafe { std::mem::transmute::<*mut c_void, Option<Function>>(symbol) };
        function.map(Self)
    }

    /// Calls back with the module that is at an address now, if there is one. Takes no lock.
    pub(in crate::engine::recording::unwind) fn at<R>(
        self,
        address: u64,
        call: impl FnOnce(&Found<'_>, Identity) -> Option<R>,
    ) -> Option<R> {
        let mut found = FoundObject::default();
        // SAFETY: glibc's function of this signature; it fills the struct.
        if unsafe { (self.0)(address as *mut c_void, &raw mut found) } != 0 {
            return None;
        }
        let module = found.module()?;
        let identity = Identity {
            link_map: found.link_map as u64,
            start: found.start as u64,
            eh_frame_hdr: found.eh_frame as u64,
            content_hash: module.content_hash(),
        };
        call(&module, identity)
    }
}

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
        Some(Found::new(path, link_map.bias as u64, headers))
    }
}
