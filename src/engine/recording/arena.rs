//! The profiler's own memory: a budget, and tables that grow in place.
//!
//! Invariant: what tables and slots have charged to the budget never exceeds its cap. No memory
//! here comes from the profiled heap.

use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use crate::engine::recording::sys::{Access, Reservation};

/// Counts the bytes that the profiler holds against a cap.
///
/// Records and stacks may fill seven eighths of the cap. The last eighth is reserved for the slots
/// of sampled objects, so that a full table of records never leaves new samples without a slot.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Signed: different threads add the two sides of the difference that is the slack, so the
    /// total can be below zero for a moment.
    held: AtomicI64,
    cap: AtomicI64,
}

/// The limit that a charge must respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpTo {
    /// Seven eighths of the cap.
    Soft,
    /// The cap.
    Hard,
}

// All orderings are Relaxed: these are counters, and no memory is published through them.
impl Budget {
    pub(crate) const fn new(cap: i64) -> Self {
        Self { held: AtomicI64::new(0), cap: AtomicI64::new(cap) }
    }

    pub(crate) fn set_cap(&self, cap: u64) {
        self.cap.store(i64::try_from(cap).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    fn limit(&self, up_to: UpTo) -> i64 {
        let cap = self.cap.load(Ordering::Relaxed);
        if up_to == UpTo::Soft { cap / 8 * 7 } else { cap }
    }

    /// Charges `bytes` if the total then stays within the limit.
    pub(crate) fn try_charge(&self, bytes: u64, up_to: UpTo) -> bool {
        let (bytes, limit) = (bytes as i64, self.limit(up_to));
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                (held + bytes <= limit).then_some(held + bytes)
            })
            .is_ok()
    }

    /// Adds `bytes`, which may be negative, without checking a limit.
    pub(crate) fn adjust(&self, bytes: i64) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether a charge of `bytes` would be refused.
    pub(crate) fn refuses(&self, bytes: u64, up_to: UpTo) -> bool {
        self.held.load(Ordering::Relaxed) + bytes as i64 > self.limit(up_to)
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed).max(0) as u64
    }

    pub(crate) fn cap(&self) -> u64 {
        self.limit(UpTo::Hard) as u64
    }
}

/// Types that are valid when all their bytes are zero and that threads may share: atomics, and
/// structs of atomics.
///
/// # Safety
/// All bytes zero must be a valid value of the type.
pub(crate) unsafe trait Zeroed: Sync {}

// SAFETY: an atomic integer whose bytes are zero is the integer 0.
unsafe impl Zeroed for AtomicU32 {}
// SAFETY: an atomic integer whose bytes are zero is the integer 0.
unsafe impl Zeroed for AtomicU64 {}

/// A fixed number of `T` in address space of its own. The system provides memory for an entry when
/// it is first written, and entries never move.
#[derive(Debug)]
pub(crate) struct Table<T> {
    memory: Reservation,
    len: usize,
    entries: PhantomData<T>,
}

impl<T: Zeroed> Table<T> {
    /// Reserves a table of `len` zeroed entries.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let memory = Reservation::new((len * size_of::<T>()).max(1), Access::ReadWrite, None)?;
        // Accesses are scattered, so a huge page would mostly hold untouched entries.
        memory.forbid_huge_pages();
        Ok(Self { memory, len, entries: PhantomData })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The size of one entry in bytes, as charged to a budget.
    pub(crate) const fn entry_bytes() -> u64 {
        size_of::<T>() as u64
    }

    /// The `count` entries from `first` on.
    ///
    /// # Panics
    /// If the range does not lie inside the table, as for [`get`](Self::get).
    #[inline]
    pub(crate) fn slice(&self, first: usize, count: usize) -> &[T] {
        let end = first.checked_add(count);
        assert!(end.is_some_and(|end| end <= self.len), "indices inside the table");
        let entries = self.memory.as_ptr().cast::<T>().wrapping_add(first);
        // SAFETY: the range was checked above, and what `get` says of one entry holds for each of
        // them.
        unsafe { std::slice::from_raw_parts(entries, count) }
    }

    /// The entry at `index`.
    ///
    /// # Panics
    /// If `index` is out of range. Indices come only from this crate's own tables.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> &T {
        assert!(index < self.len, "an index inside the table");
        let entry = self.memory.as_ptr().cast::<T>().wrapping_add(index);
        // SAFETY: the entry is inside the mapping and aligned, since mappings are aligned to pages.
        // Its bytes are zero, which `T: Zeroed` allows, or were written through `&T`, and `T:
        // Sync`.
        unsafe { &*entry }
    }
}
