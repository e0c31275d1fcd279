//! Lock-free building blocks: fixed-point and floating-point sums, free lists, lanes.
//!
//! Nothing here parks, so a thread that vanished (in a forked child) blocks no other.

mod atomic_f64;
mod atomic_fixed;
mod free_list;
mod lane;

pub(crate) use atomic_f64::AtomicF64;
pub(crate) use atomic_fixed::{AtomicFixed, Fixed};
pub(crate) use free_list::{FreeList, LaneFreeList};
pub(crate) use lane::{Added, LANES, Lane, UnflushedSum};
