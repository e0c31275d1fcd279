//! Names for the addresses of a dump, from files on this machine.

mod async_names;
pub(crate) mod binaries;
pub mod cache;
mod cpp;
mod dwarf;
mod dwo;
pub mod leaks;
mod lookup;
pub mod packages;
pub mod symbolizer;
