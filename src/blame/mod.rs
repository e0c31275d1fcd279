//! Whose code allocated: the crate, its version, and whether it is the service's own.
//!
//! The debug information of a binary says where each of its crates was compiled. [`Packages`]
//! derives kinds and versions from that, and [`blame`] picks the frame of a stack that is
//! responsible.

mod manifest;
mod packages;
mod rule;

pub use crate::report::{Blame, Frame, Kind};
pub use packages::{Package, Packages, crate_of_main};
pub use rule::blame;
