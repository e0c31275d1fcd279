//! The walk by unwind tables.
//!
//! ```text
//!   walker ──► memo ──► frame ──► rules ──► tables
//!      │                                      ▲
//!      └─────► modules ──► entry ──► loader ──┘
//! ```
//! [`loader`] is what differs between platforms: how to list what is loaded and how to describe a
//! module.

mod arch;
mod entry;
mod frame;
mod loader;
mod memo;
mod modules;
mod places;
mod rules;
mod tables;
mod try_lock;
mod walker;

pub(crate) use modules::Modules;
pub(crate) use walker::Walker;

/// Makes the fallback's first walk, which allocates and takes locks.
pub(crate) fn warm_up() {
    super::system::walk(|_| true);
}
