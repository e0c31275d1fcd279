//! Stack walks that follow unwind tables.
//!
//! ```text
//!   walker ──► memo ──► frame ──► rules ──► tables
//!      │                                      ▲
//!      └─────► modules ──► entry ──► loader ──┘
//! ```
//! [`loader`] hides how platforms differ: how loaded modules are listed and how a module is
//! described.

mod arch;
mod entry;
mod frame;
mod loader;
mod memo;
mod module_content;
mod modules;
mod rules;
mod system;
mod tables;
mod try_lock;
mod walker;

pub(crate) use modules::Modules;
pub(crate) use walker::Walker;

/// Performs the fallback's first walk, which allocates and takes locks.
pub(crate) fn warm_up() {
    system::walk(|_| true);
}
