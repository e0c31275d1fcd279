//! From live sets, tick by tick, to a report of what leaks.

mod births;
mod candidates;
mod container;
pub(crate) mod detector;
mod finding;
mod history;
mod naming;
mod nodes;
pub(crate) mod observation;
mod path;
mod replay;
mod scene;
mod survival;
mod tally;
mod track;
mod tree;

pub use naming::Names;
pub use replay::Replay;
