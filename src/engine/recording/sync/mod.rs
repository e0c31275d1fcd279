//! Lock-free parts: fixed-point and floating-point sums, stacks of free indices, lanes.
//!
//! Nothing here parks, so a thread that vanished (in a forked child) blocks nobody.

mod atomic_f64;
mod atomic_fixed;
mod free_list;
mod lane;

pub(crate) use atomic_f64::AtomicF64;
pub(crate) use atomic_fixed::{AtomicFixed, Fixed};
pub(crate) use free_list::{FreeList, OwnList};
pub(crate) use lane::{Added, LANES, Lane, Pending};
