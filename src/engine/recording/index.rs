//! A hash index over an append-only table. Lookups are lock-free; entries never move and are never
//! removed.
//!
//! It uses open addressing. An entry is one atomic word: the upper half of a hash, and the number
//! of the indexed item, which is never 0. The word 0 is a free entry.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::recording::arena::Table;

/// Maps hashes to the numbers of items.
#[derive(Debug)]
pub(crate) struct Index {
    entries: Table<AtomicU64>,
}

/// The half of an entry that holds the upper half of the hash.
const UPPER: u64 = !(u32::MAX as u64);

impl Index {
    /// The size in bytes of an index of `count` numbers.
    pub(crate) const fn bytes(count: usize) -> u64 {
        // There are twice as many entries, so that the index is at most half full and probes are
        // short.
        count as u64 * 2 * 8
    }

    /// Creates an index for up to `count` numbers, which must be a power of two.
    pub(crate) fn new(count: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two());
        Ok(Self { entries: Table::new(count * 2)? })
    }

    /// Returns the number with this hash that `matches`, or inserts the one that `create` returns.
    /// `None` when `create` fails or the index is full.
    ///
    /// Two threads may create the same item at the same time; the loser's item then stays in the
    /// table unused.
    pub(crate) fn find_or_insert_with(
        &self,
        hash: u64,
        matches: impl Fn(u32) -> bool,
        create: impl Fn() -> Option<u32>,
    ) -> Option<u32> {
        let mask = self.entries.len() - 1;
        let mut created = None;
        for distance in 0..self.entries.len() {
            let cell = self.entries.get((hash as usize).wrapping_add(distance) & mask);
            // Acquire: pairs with the Release of the exchange below, which publishes the created
            // item.
            let mut entry = cell.load(Ordering::Acquire);
            if entry == 0 {
                let number = created.map_or_else(&create, Some)?;
                created = Some(number);
                let new = (hash & UPPER) | u64::from(number);
                // Release: publishes the created item to the Acquire loads above and below. Acquire
                // on failure: pairs with the Release of the thread that won.
                match cell.compare_exchange(0, new, Ordering::Release, Ordering::Acquire) {
                    Ok(_) => return created,
                    // Another thread inserted an entry, perhaps for the same item.
                    Err(other) => entry = other,
                }
            }
            let number = (entry & !UPPER) as u32;
            if entry & UPPER == hash & UPPER && matches(number) {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All hashes are equal, and there are as many items as entries.
    #[test]
    fn colliding_hashes_are_distinguished_until_the_index_is_full() {
        let index = Index::new(4).unwrap();
        for number in 1..=8 {
            assert_eq!(index.find_or_insert_with(7, |_| false, || Some(number)), Some(number));
        }
        for number in 1..=8 {
            assert_eq!(
                index.find_or_insert_with(7, |found| found == number, || None),
                Some(number)
            );
        }
        assert_eq!(index.find_or_insert_with(7, |_| false, || Some(9)), None);
    }
}
