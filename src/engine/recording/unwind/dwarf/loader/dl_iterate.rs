//! The list of loaded ELF modules: `dl_iterate_phdr`.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;

use super::elf::Description;
use super::permanent::{Links, permanent};

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

/// A module that is loaded now.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) description: Description,
    pub(crate) path: Vec<u8>,
    /// Whether it stays for as long as this code can run.
    pub(crate) is_permanent: bool,
}

/// What is loaded now, the program first. Takes the loader's lock.
pub(crate) fn loaded() -> Vec<Loaded> {
    let mut loaded: Vec<(Loaded, Links)> = Vec::new();
    // SAFETY: the callback matches the declared type, and the list outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(on_loaded), (&raw mut loaded).cast()) };
    let (mut loaded, links): (Vec<Loaded>, Vec<Links>) = loaded.into_iter().unzip();
    for (module, is_permanent) in loaded.iter_mut().zip(permanent(&links)) {
        module.is_permanent = is_permanent;
    }
    loaded
}

unsafe extern "C" fn on_loaded(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    loaded: *mut c_void,
) -> c_int {
    // SAFETY: the list that was passed to `dl_iterate_phdr`.
    let loaded = unsafe { &mut *loaded.cast::<Vec<(Loaded, Links)>>() };
    // SAFETY: valid during the callback.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    let headers = (info.dlpi_phdr as u64, info.dlpi_phnum.into());
    let description = Description::read(info.dlpi_addr, headers, info.dlpi_name as u64);
    let Some(description) = description.filter(|module| !module.range().is_empty()) else {
        return 0;
    };
    // SAFETY: a string of the loader, which holds its lock.
    let mut path = unsafe { text(info.dlpi_name) }.to_vec();
    // The executable comes first. glibc has no name for it, and musl this one if it is linked
    // statically.
    if loaded.is_empty() && (path.is_empty() || path == b"/proc/self/exe") {
        let executable = std::env::current_exe().unwrap_or_default();
        path = OsStr::as_bytes(executable.as_os_str()).to_vec();
    }
    // SAFETY: the loader holds its lock during the callback.
    let links = unsafe { Links::read(&description, &path) };
    loaded.push((Loaded { description, path, is_permanent: false }, links));
    0
}
