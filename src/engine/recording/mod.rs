//! Recording: the hook that allocations pass through, and the parts that it is made of.
//!
//! ```text
//!   alloc ── countdown ──► decide ──► capture stack ──► intern ──► locate ──► record ──► sums
//!   free  ── address, size ──────────────────────────────────────► locate ──► claim ───► sums
//! ```
//! Nothing on this path parks, and no thread waits for a lock. A thread that vanished in the middle
//! of it (a forked child has only one of its parent's threads) costs a lane, an unwinder or a
//! sample.

mod analysis;
#[allow(unsafe_code)]
mod arena;
mod baseline;
mod control;
mod counters;
#[allow(unsafe_code)]
mod hook;
mod index;
#[allow(unsafe_code)]
mod label_scope;
#[allow(unsafe_code)]
mod label_table;
mod live;
#[allow(unsafe_code)]
mod live_set;
#[allow(unsafe_code)]
mod local;
mod names;
mod observation;
#[allow(unsafe_code)]
mod recorder;
mod sampler;
#[allow(unsafe_code)]
mod session;
mod snapshot;
#[allow(unsafe_code)]
mod stack_table;
mod symbols;
mod sync;
#[allow(unsafe_code)]
mod sys;
mod thinner;
#[allow(unsafe_code)]
mod unwind;
#[allow(unsafe_code)]
mod waker;

pub(super) use analysis::Analysis;
pub(super) use hook::{alloc, alloc_zeroed, dealloc, realloc};
pub(super) use label_scope::LabelScope;
pub(super) use live_set::may_be_sampled;
pub(super) use local::{is_due, muted};
pub(super) use session::Session;
pub(super) use waker::Waker;
