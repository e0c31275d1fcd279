//! What the platform's loader knows about modules. Each platform has its own file, with the same
//! items.
//!
//! | item | meaning |
//! | --- | --- |
//! | `loaded_modules` | lists the currently loaded modules, the executable first; takes the loader's lock |
//! | `LoadedModule` | a module, and whether it stays loaded for as long as this code can run |
//! | `Description` | a module's bias and build-id, and the addresses of its code and unwind tables |
//! | `framehop_module` | describes a module's unwind tables to framehop |
//! | `Finder` | the loader's lock-free search by address, for the hook, where it exists |
//!
//! Linux and FreeBSD use ELF and `dl_iterate_phdr`, Apple's systems Mach-O and `dyld`.

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
pub(super) use dl_iterate::loaded_modules;
#[cfg(target_vendor = "apple")]
pub(super) use dyld::{Description, framehop_module, loaded_modules};
#[cfg(not(target_vendor = "apple"))]
pub(super) use elf::{Description, framehop_module};
#[cfg(target_env = "gnu")]
pub(super) use glibc::Finder;
#[cfg(not(target_env = "gnu"))]
pub(super) use no_finder::Finder;
