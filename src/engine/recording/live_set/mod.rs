//! The live samples: which sampled objects have not been freed.
//!
//! ```text
//!            small object                       large object (from 32 KiB)
//!   address ──► slot ──► cell ──┐      address ──► bucket ──► cell ──┐
//!             (slots.rs)        ▼                 (large.rs)         ▼
//!                        records.rs: state, address, size, stack, birth
//! ```
//! A *place* knows a sampled address again: a slot for small objects, an entry of a hash table for
//! large ones. Its *cell* holds the index of the record, or nothing where the record was thinned.
//!
//! Invariants:
//! 1. An address is added and removed by its owner only, the thread that allocated it or the one
//!    that was handed it to free. So no two threads ever add, or look up, the same address at once.
//! 2. A record leaves the state *live* by one compare-and-exchange; whoever wins it removes the
//!    record: the owner on free, or the thinner.
//! 3. A record that the thinner has won is reused only after its cell was cleared, so a cell never
//!    points to somebody else's record for longer than its owner needs to notice.
//! 4. On free the record goes first and the memory after. Otherwise another thread could be given
//!    the address, and its record be taken.

use std::sync::atomic::AtomicU32;

mod classes;
mod large;
mod pages;
mod records;
mod slots;
mod window;

pub(crate) use large::LargeIndex;
pub(crate) use records::{NewSample, Record, RecordId, Records, Sample, SampledObject, Thinned};
pub(crate) use slots::{Slot, Slots};
pub(crate) use window::{LARGE, may_be_sampled};

/// Where a sampled object is known again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// A small one: in its slot's cell.
    Cell(&'a AtomicU32),
    /// A large one: at its address.
    Address,
}
