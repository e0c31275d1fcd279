//! Lists the loaded ELF modules with `dl_iterate_phdr`.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;

use super::elf::Description;
use super::permanent::{Linkage, permanent_modules};

/// The bytes of a C string, or an empty slice for a null pointer.
///
/// # Safety
/// The pointer is null, or points to a NUL-terminated string that lives and does not change for
/// `'a`.
unsafe fn c_string_bytes<'a>(string: *const c_char) -> &'a [u8] {
    if string.is_null() {
        return b"";
    }
    // SAFETY: the pointer is not null, and the caller guarantees the string.
    unsafe { CStr::from_ptr(string) }.to_bytes()
}

/// A module that is currently loaded.
#[derive(Clone, Debug)]
pub(crate) struct LoadedModule {
    pub(crate) description: Description,
    pub(crate) path: Vec<u8>,
    /// Whether the module stays loaded for as long as this code can run.
    pub(crate) is_permanent: bool,
}

/// Lists the modules that are currently loaded, the program first. Takes the loader's lock.
pub(crate) fn loaded_modules() -> Vec<LoadedModule> {
    let mut loaded: Vec<(LoadedModule, Linkage)> = Vec::new();
    // SAFETY: `on_loaded` has the declared type and its contract is met: the argument is the list,
    // which outlives the call and is not used otherwise meanwhile.
    unsafe { libc::dl_iterate_phdr(Some(on_loaded), (&raw mut loaded).cast()) };
    let (mut loaded, linkage): (Vec<LoadedModule>, Vec<Linkage>) = loaded.into_iter().unzip();
    for (module, is_permanent) in loaded.iter_mut().zip(permanent_modules(&linkage)) {
        module.is_permanent = is_permanent;
    }
    loaded
}

/// Adds a module to the list.
///
/// # Safety
/// `info` is valid during the call, as `dl_iterate_phdr` guarantees, and `loaded` points to a
/// `Vec<(LoadedModule, Linkage)>` to which no other reference exists.
unsafe extern "C" fn on_loaded(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    loaded: *mut c_void,
) -> c_int {
    // SAFETY: the caller passes the list, to which no other reference exists now.
    let loaded = unsafe { &mut *loaded.cast::<Vec<(LoadedModule, Linkage)>>() };
    // SAFETY: the caller passes a description that is valid during the callback.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    let headers = (info.dlpi_phdr as u64, info.dlpi_phnum.into());
    let description = Description::read(info.dlpi_addr, headers, info.dlpi_name as u64);
    let Some(description) = description.filter(|module| !module.range().is_empty()) else {
        return 0;
    };
    // SAFETY: the string belongs to the loader, which holds its lock during the callback.
    let mut path = unsafe { c_string_bytes(info.dlpi_name) }.to_vec();
    // The executable comes first. glibc gives it no name, and musl gives it this one if it is
    // statically linked.
    if loaded.is_empty() && (path.is_empty() || path == b"/proc/self/exe") {
        let executable = std::env::current_exe().unwrap_or_default();
        path = OsStr::as_bytes(executable.as_os_str()).to_vec();
    }
    // SAFETY: the module stays loaded, since the loader holds its lock during the callback.
    let linkage = unsafe { Linkage::read(&description, &path) };
    loaded.push((LoadedModule { description, path, is_permanent: false }, linkage));
    0
}
