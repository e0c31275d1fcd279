//! Large objects: a lock-free hash table from address to cell.
//!
//! Large blocks stay with the inner allocator, so that a 1 GiB `Vec` still grows by `mremap`, and a
//! free must look the address up. The table is made of buckets of one cache line: seven addresses
//! and a counter of entries that had to go further along the table because this bucket was full. A
//! search ends at the first bucket with a zero counter, so removals need no tombstones, and a
//! search for an address that is not there reads one line.
//!
//! Since only the owner of an address adds, finds or removes it (invariant 1 of the live set),
//! there are no races on one address, only on free entries.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::RecordId;
use crate::arena::{Table, Zeroed};
use crate::hash::mix;

const KEYS: usize = 7;

#[derive(Debug)]
#[repr(C, align(32))]
struct Bucket {
    /// Addresses; 0 is a free entry.
    keys: [AtomicU64; KEYS],
    /// Entries whose search begins here, or before, and passes on.
    passed: AtomicU64,
    /// The cells of the keys.
    cells: [AtomicU32; KEYS],
    _rest: AtomicU32,
}

// SAFETY: atomics only; zero is an empty bucket.
unsafe impl Zeroed for Bucket {}

/// Addresses of large sampled objects.
#[derive(Debug)]
pub(crate) struct LargeIndex {
    buckets: Table<Bucket>,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
struct Entry {
    home: usize,
    distance: usize,
    key: usize,
}

impl LargeIndex {
    /// Bytes of a table of `buckets` buckets.
    pub(crate) const fn bytes(buckets: usize) -> u64 {
        buckets as u64 * Table::<Bucket>::entry_bytes()
    }

    /// A table of `buckets` buckets, a power of two, of seven entries each.
    pub(crate) fn new(buckets: usize) -> io::Result<Self> {
        assert!(buckets.is_power_of_two());
        Ok(Self { buckets: Table::new(buckets)? })
    }

    fn bucket(&self, home: usize, distance: usize) -> &Bucket {
        self.buckets.get((home + distance) & (self.buckets.len() - 1))
    }

    fn home(&self, address: usize) -> usize {
        mix(address as u64) as usize & (self.buckets.len() - 1)
    }

    /// Adds an address. `false` when the table is full.
    pub(crate) fn insert(&self, address: usize, record: RecordId) -> bool {
        let home = self.home(address);
        for distance in 0..self.buckets.len() {
            let bucket = self.bucket(home, distance);
            for key in 0..KEYS {
                // Acquire: pairs with the release in `remove`. The cell that is cleared there is
                // written below, and the last to write must be this. Otherwise relaxed: the address
                // reaches the thread that frees it through the program's own synchronization, and
                // with it everything done here.
                if bucket.keys[key].load(Ordering::Relaxed) == 0
                    && bucket.keys[key]
                        .compare_exchange(0, address as u64, Ordering::Acquire, Ordering::Relaxed)
                        .is_ok()
                {
                    bucket.cells[key].store(record.to_cell(), Ordering::Relaxed);
                    return true;
                }
            }
            bucket.passed.fetch_add(1, Ordering::Relaxed);
        }
        self.leave(home, self.buckets.len());
        false
    }

    /// Undoes the counters of an entry that was `distance` buckets from home.
    fn leave(&self, home: usize, distance: usize) {
        for distance in 0..distance {
            // Relaxed: who looks for its own address sees its own count, and those of others make a
            // search longer at most.
            self.bucket(home, distance).passed.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn find(&self, address: usize) -> Option<Entry> {
        let home = self.home(address);
        for distance in 0..self.buckets.len() {
            let bucket = self.bucket(home, distance);
            // Relaxed: the address was inserted before it reached this thread, see `insert`.
            let found = |key: &usize| bucket.keys[*key].load(Ordering::Relaxed) == address as u64;
            if let Some(key) = (0..KEYS).find(found) {
                return Some(Entry { home, distance, key });
            }
            if bucket.passed.load(Ordering::Relaxed) == 0 {
                return None;
            }
        }
        None
    }

    /// Removes an address, for its owner. `None` if it is not there; `Some(None)` if it is, but its
    /// record was thinned. `claim` is called while the entry still stands.
    pub(crate) fn remove<T>(
        &self,
        address: usize,
        claim: impl FnOnce(Option<RecordId>) -> T,
    ) -> Option<T> {
        let entry = self.find(address)?;
        let bucket = self.bucket(entry.home, entry.distance);
        let record = RecordId::from_cell(bucket.cells[entry.key].load(Ordering::Relaxed));
        let claimed = claim(record);
        bucket.cells[entry.key].store(0, Ordering::Relaxed);
        // Release: the cell is cleared before the entry can be taken by another address. Pairs with
        // the acquire in `insert`.
        bucket.keys[entry.key].store(0, Ordering::Release);
        self.leave(entry.home, entry.distance);
        Some(claimed)
    }

    /// Clears the cell of a record that was thinned, unless its owner has done so.
    pub(crate) fn forget(&self, address: usize, record: RecordId) {
        if let Some(entry) = self.find(address) {
            let cell = &self.bucket(entry.home, entry.distance).cells[entry.key];
            // Relaxed: fails if the entry is another's by now, whose record is another.
            let _ =
                cell.compare_exchange(record.to_cell(), 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// A naive twin, and a table so small that buckets overflow all the time.
    #[test]
    fn behaves_like_a_map_when_buckets_overflow() {
        let index = LargeIndex::new(8).unwrap();
        let mut twin: HashMap<usize, u32> = HashMap::new();
        let mut random = crate::sampler::Random::new(3, 0);
        for step in 0..200_000 {
            let address = (1 + random.next() as usize % 80) << 12;
            let record = RecordId::from_cell(step % 1000 + 1).unwrap();
            if let Some(cell) = twin.remove(&address) {
                assert_eq!(index.remove(address, |r| r.map(RecordId::to_cell)), Some(Some(cell)));
            } else {
                assert_eq!(index.remove(address, |_| ()), None);
                let inserted = index.insert(address, record);
                assert_eq!(inserted, twin.len() < 8 * KEYS);
                if inserted {
                    twin.insert(address, record.to_cell());
                }
            }
        }
        for (address, _) in twin {
            index.remove(address, |_| ()).unwrap();
        }
        assert!((0..8).all(|b| index.buckets.get(b).passed.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn a_forgotten_record_leaves_its_address_behind() {
        let index = LargeIndex::new(8).unwrap();
        let (record, other) = (RecordId::from_cell(5).unwrap(), RecordId::from_cell(6).unwrap());
        assert!(index.insert(4096, record));
        index.forget(4096, other);
        assert_eq!(index.find(4096).map(|e| e.distance), Some(0));
        index.forget(4096, record);
        assert_eq!(index.remove(4096, |record| record), Some(None));
    }
}
