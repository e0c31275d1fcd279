//! What the platform's loader tells about modules: one file for each platform, with the same items.
//!
//! | item | what it is |
//! | --- | --- |
//! | `loaded` | every module that is loaded now, the executable first; takes the loader's lock |
//! | `Loaded` | a module, and whether it stays for as long as this code can run |
//! | `Description` | a module: its bias and build-id, and where its code and its unwind tables are mapped |
//! | `framehop_module` | a module's unwind tables, in framehop's terms |
//! | `Finder` | the loader's search by address for the hook, lock-free, where there is one |
//!
//! Linux and FreeBSD have ELF and `dl_iterate_phdr`, Apple's systems Mach-O and `dyld`.

#[cfg(not(target_vendor = "apple"))]
mod dl_iterate;
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
mod no_finder;
#[cfg(not(target_vendor = "apple"))]
mod permanent;

#[cfg(not(target_vendor = "apple"))]
pub(super) use dl_iterate::loaded;
#[cfg(target_vendor = "apple")]
pub(super) use dyld::{Description, framehop_module, loaded};
#[cfg(not(target_vendor = "apple"))]
pub(super) use elf::{Description, framehop_module};
#[cfg(target_env = "gnu")]
pub(super) use glibc::Finder;
#[cfg(not(target_env = "gnu"))]
pub(super) use no_finder::Finder;
