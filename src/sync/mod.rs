//! Lock-free parts: a floating-point counter and a stack of free indices.
//!
//! Nothing here parks, so a thread that vanished (in a forked child) blocks nobody.

mod atomic_f64;
mod free_list;

pub(crate) use atomic_f64::AtomicF64;
pub(crate) use free_list::FreeList;
