//! A hash index over an append-only table: lock-free to look up, never moved, never emptied.
//!
//! Open addressing. An entry is the upper half of a hash and the number of what is indexed, which is
//! never 0; so an entry is one atomic word, and 0 is a free one.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::recording::arena::Table;

/// Numbers by hash.
#[derive(Debug)]
pub(crate) struct Index {
    entries: Table<AtomicU64>,
}

/// The half of an entry that holds the upper half of the hash.
const UPPER: u64 = !(u32::MAX as u64);

impl Index {
    /// Bytes of an index of `count` numbers.
    pub(crate) const fn bytes(count: usize) -> u64 {
        // Twice as many entries: at most half full, so a probe is short.
        count as u64 * 2 * 8
    }

    /// For up to `count` numbers, a power of two.
    pub(crate) fn new(count: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two());
        Ok(Self { entries: Table::new(count * 2)? })
    }

    /// The number with this hash that is what is looked for; made, if there is none. `None` when it
    /// cannot be made or the index is full.
    ///
    /// What two threads make at once may be the same: then one of the two stays behind unused.
    pub(crate) fn find_or_make(
        &self,
        hash: u64,
        is: impl Fn(u32) -> bool,
        make: impl Fn() -> Option<u32>,
    ) -> Option<u32> {
        let mask = self.entries.len() - 1;
        let mut made = None;
        for distance in 0..self.entries.len() {
            let cell = self.entries.get((hash as usize).wrapping_add(distance) & mask);
            // Acquire: pairs with the release below, which publishes what was made.
            let mut entry = cell.load(Ordering::Acquire);
            if entry == 0 {
                let number = made.map_or_else(&make, Some)?;
                made = Some(number);
                let new = (hash & UPPER) | u64::from(number);
                match cell.compare_exchange(0, new, Ordering::Release, Ordering::Acquire) {
                    Ok(_) => return made,
                    // Another thread's entry, perhaps of the same.
                    Err(other) => entry = other,
                }
            }
            let number = (entry & !UPPER) as u32;
            if entry & UPPER == hash & UPPER && is(number) {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All hashes alike, and as many entries as there are.
    #[test]
    fn what_collides_is_told_apart_until_the_index_is_full() {
        let index = Index::new(4).unwrap();
        for number in 1..=8 {
            assert_eq!(index.find_or_make(7, |_| false, || Some(number)), Some(number));
        }
        for number in 1..=8 {
            assert_eq!(index.find_or_make(7, |found| found == number, || None), Some(number));
        }
        assert_eq!(index.find_or_make(7, |_| false, || Some(9)), None);
    }
}
