//! Large objects: a lock-free hash table from addresses to cells.
//!
//! Large blocks stay with the inner allocator, so that a 1 GiB `Vec` still grows by `mremap`; a
//! free must therefore look up the address. The table consists of buckets of one cache line: seven
//! addresses, and a count of the entries that were placed further along because this bucket was
//! full. A search ends at the first bucket whose count is zero, so removals need no tombstones, and
//! a search for an absent address reads one line.
//!
//! Only the owner of an address adds, finds or removes it (invariant 1 of the live set), so there
//! are no races on one address, only on free entries.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::RecordId;
use crate::engine::recording::arena::{Table, Zeroed};
use crate::hash::mix;

const KEYS: usize = 7;

#[derive(Debug)]
#[repr(C, align(32))]
struct Bucket {
    /// The addresses; 0 is a free entry.
    keys: [AtomicU64; KEYS],
    /// The number of entries that were placed in a later bucket because this one was full.
    overflowed: AtomicU64,
    /// The cells that belong to the keys.
    cells: [AtomicU32; KEYS],
    _rest: AtomicU32,
}

// SAFETY: all fields are atomic integers, and zero is an empty bucket.
unsafe impl Zeroed for Bucket {}

/// Maps the addresses of large sampled objects to their records.
#[derive(Debug)]
pub(crate) struct LargeIndex {
    buckets: Table<Bucket>,
}

/// The position of an entry in the table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    home: usize,
    distance: usize,
    key: usize,
}

impl LargeIndex {
    /// The size in bytes of a table of `buckets` buckets.
    pub(crate) const fn bytes(buckets: usize) -> u64 {
        buckets as u64 * Table::<Bucket>::entry_bytes()
    }

    /// Creates a table of `buckets` buckets of seven entries each. `buckets` must be a power of
    /// two.
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

    /// Adds an address; `false` when the table is full.
    pub(crate) fn insert(&self, address: usize, record: RecordId) -> bool {
        let home = self.home(address);
        for distance in 0..self.buckets.len() {
            let bucket = self.bucket(home, distance);
            for key in 0..KEYS {
                // Acquire: pairs with the Release in `remove`, which cleared the cell that is
                // written below; this store must come last. Everything else is Relaxed: the address
                // reaches the thread that frees it through the program's own synchronization, and
                // so does what is done here.
                if bucket.keys[key].load(Ordering::Relaxed) == 0
                    && bucket.keys[key]
                        .compare_exchange(0, address as u64, Ordering::Acquire, Ordering::Relaxed)
                        .is_ok()
                {
                    bucket.cells[key].store(record.to_cell(), Ordering::Relaxed);
                    return true;
                }
            }
            bucket.overflowed.fetch_add(1, Ordering::Relaxed);
        }
        self.undo_overflows(home, self.buckets.len());
        false
    }

    /// Decrements the counts of the `distance` buckets that an entry overflowed.
    fn undo_overflows(&self, home: usize, distance: usize) {
        for distance in 0..distance {
            // Relaxed: a thread that looks for its own address sees its own count, and the counts
            // of others only make a search longer.
            self.bucket(home, distance).overflowed.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn find(&self, address: usize) -> Option<Entry> {
        let home = self.home(address);
        for distance in 0..self.buckets.len() {
            let bucket = self.bucket(home, distance);
            // Relaxed: the address was inserted before it reached this thread; see `insert`.
            let found = |key: &usize| bucket.keys[*key].load(Ordering::Relaxed) == address as u64;
            if let Some(key) = (0..KEYS).find(found) {
                return Some(Entry { home, distance, key });
            }
            if bucket.overflowed.load(Ordering::Relaxed) == 0 {
                return None;
            }
        }
        None
    }

    /// Removes an address, for its owner, and returns what `claim` returned. `None` if the address
    /// is not in the table. `claim` is called while the entry is still there, with the record, or
    /// with `None` if the record was thinned.
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
        // the Acquire in `insert`.
        bucket.keys[entry.key].store(0, Ordering::Release);
        self.undo_overflows(entry.home, entry.distance);
        Some(claimed)
    }

    /// Clears the cell of a record that was thinned, unless its owner has cleared it already.
    pub(crate) fn clear_record(&self, address: usize, record: RecordId) {
        if let Some(entry) = self.find(address) {
            let cell = &self.bucket(entry.home, entry.distance).cells[entry.key];
            // Relaxed: only the value of the cell counts. The exchange fails if the entry belongs
            // to another address by now, because that one has another record.
            let _ =
                cell.compare_exchange(record.to_cell(), 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Compares with a `HashMap`, in a table so small that buckets overflow all the time.
    #[test]
    fn behaves_like_a_map_when_buckets_overflow() {
        let index = LargeIndex::new(8).unwrap();
        let mut twin: HashMap<usize, u32> = HashMap::new();
        let mut random = crate::engine::recording::sampler::Random::new(3, 0);
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
        assert!((0..8).all(|b| index.buckets.get(b).overflowed.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn clearing_a_record_leaves_its_address_in_the_table() {
        let index = LargeIndex::new(8).unwrap();
        let (record, other) = (RecordId::from_cell(5).unwrap(), RecordId::from_cell(6).unwrap());
        assert!(index.insert(4096, record));
        index.clear_record(4096, other);
        assert_eq!(index.find(4096).map(|e| e.distance), Some(0));
        index.clear_record(4096, record);
        assert_eq!(index.remove(4096, |record| record), Some(None));
    }
}
