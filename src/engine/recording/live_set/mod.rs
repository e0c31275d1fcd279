//! The live set: the sampled objects that have not been freed.
//!
//! ```text
//!            small object                       large object (from 32 KiB)
//!   address ──► slot ──► cell ──┐      address ──► bucket ──► cell ──┐
//!             (slots.rs)        ▼                 (large.rs)         ▼
//!                        records.rs: state, address, size, stack, birth
//! ```
//! A *location* leads from an address to its sample: a slot for small objects, an entry of a hash
//! table for large ones. Its *cell* holds the index of the record, or nothing when the record was
//! thinned.
//!
//! Invariants:
//! 1. Only the owner of an address adds or removes it: the thread that allocated the block, or the
//!    one that was handed it to free. So no two threads ever add or look up the same address at
//!    once.
//! 2. A record leaves the state *live* by one compare-and-exchange, and whoever wins it removes the
//!    record: the owner on free, or the thinner.
//! 3. A record that the thinner has won is reused only after its cell was cleared, so a cell never
//!    points to another object's record for longer than its owner needs to notice.
//! 4. On free the record is removed first and the memory is released afterwards. Otherwise another
//!    thread could be given the address, and its record would be removed.

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

/// Where the sample of an object is found again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SampleLocation<'a> {
    /// A small object: in the cell of its slot.
    SlotCell(&'a AtomicU32),
    /// A large object: by its address in the [`LargeIndex`].
    LargeIndex,
}
