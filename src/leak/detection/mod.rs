//! From live sets, tick by tick, to a report of what leaks.

// The files of this folder and their order. A file imports only from the rows above it and, within
// its row, from the files to its left.
//
//   plain data               finding
//   input and names          observation ─► naming
//   evidence on a site       births ─► survival ─► tally
//   evidence over time       container ─► history
//   one tick                 view, path ─► tree
//   what leaks at a tick     nodes ─► search
//   what leaks over time     track
//   all of it together       detector
//   for readers              candidates
//   offline, from dumps      replay

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
mod search;
mod survival;
mod tally;
mod track;
mod tree;
mod view;

pub use naming::Names;
pub use replay::Replay;
