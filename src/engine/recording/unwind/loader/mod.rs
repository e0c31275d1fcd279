//! What the platform's loader tells about modules: one file a platform, each with the same items.
//!
//! | item | what it is |
//! | --- | --- |
//! | `each_loaded` | calls back with every module that is loaded now, the executable first; takes the loader's lock |
//! | `Found` | a module: its path, bias and build-id, and where its code and its unwind tables are mapped |
//! | `framehop_module` | a module's unwind tables, as framehop wants them |
//! | `FindObject` | the loader's search by address for the hook, lock-free, where there is one |
//!
//! Linux and FreeBSD have ELF and `dl_iterate_phdr`, Apple's systems Mach-O and `dyld`.

#[cfg(target_vendor = "apple")]
mod dyld;
#[cfg(not(target_vendor = "apple"))]
mod elf;
#[cfg(target_env = "gnu")]
mod glibc;
// Pure functions: their tests run on every platform.
#[cfg(any(target_vendor = "apple", test))]
mod macho;
#[cfg(not(target_env = "gnu"))]
mod no_find_object;

#[cfg(target_vendor = "apple")]
pub(super) use dyld::{Found, each_loaded, framehop_module};
#[cfg(not(target_vendor = "apple"))]
pub(super) use elf::{Found, each_loaded, framehop_module};
#[cfg(target_env = "gnu")]
pub(super) use glibc::FindObject;
#[cfg(not(target_env = "gnu"))]
pub(super) use no_find_object::FindObject;

use super::modules::Identity;
use super::tables::UnwindTables;

type Tables = &'static [u8];

impl Found<'_> {
    /// FNV-1a (Fowler, Noll and Vo) of the path and the build-id: some seventy bytes.
    pub(super) fn content_hash(&self) -> u64 {
        self.path().iter().chain(self.build_id()).fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
        })
    }
}
