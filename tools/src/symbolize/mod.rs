//! Names for the addresses of a dump, from files on this machine.
//!
//! ```text
//! symbolizer            asks the dump, the cache and the files, in this order
//!   locate              makes stacks of named frames
//!   embedded, cache     names that are known already
//!   binaries ── elf     which files belong to a module: build-ids
//!   lookup              what the files say of addresses, by blazesym
//!     async_names, dwo  what blazesym leaves out, by gimli ── dwarf
//! leaks, packages       names for leak reports, and whose code a frame is
//! ```

mod async_names;
mod binaries;
pub mod cache;
mod cpp;
mod dwarf;
mod dwo;
mod elf;
mod embedded;
pub mod leaks;
mod locate;
mod lookup;
mod modules;
pub mod packages;
pub mod symbolizer;
mod threads;
