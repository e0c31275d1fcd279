//! A least-recently-used cache of response bodies, in slots that are linked from the newest to the
//! oldest.
//!
//! Invariant: the index and the list have the same slots, at most `capacity` of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Cache {
    capacity: usize,
    /// Whether the slot of an evicted entry is reused. If it is not, its memory leaks.
    reuses_slots: bool,
    /// Slots by key.
    index: HashMap<u64, usize>,
    slots: Vec<Slot>,
    /// Slots without an entry.
    free: Vec<usize>,
    newest: Option<usize>,
    oldest: Option<usize>,
    made: Instant,
    hits: u64,
    evictions: u64,
    first_eviction_after: Option<Duration>,
}

#[derive(Debug)]
struct Slot {
    key: u64,
    body: Option<Arc<[u8]>>,
    newer: Option<usize>,
    older: Option<usize>,
}

/// The statistics of a cache.
#[derive(Debug)]
pub(crate) struct CacheStats {
    pub(crate) entries: usize,
    pub(crate) bodies: usize,
    pub(crate) hits: u64,
    pub(crate) evictions: u64,
    pub(crate) first_eviction_after: Option<Duration>,
}

impl Cache {
    /// The faulty cache of the outage, or the repaired one.
    pub(crate) fn new(capacity: usize, fixed: bool) -> Self {
        Self {
            capacity,
            reuses_slots: fixed,
            index: HashMap::with_capacity(capacity),
            slots: Vec::with_capacity(capacity),
            free: Vec::new(),
            newest: None,
            oldest: None,
            made: Instant::now(),
            hits: 0,
            evictions: 0,
            first_eviction_after: None,
        }
    }

    /// Returns the body of `key`, which becomes the newest entry.
    pub(crate) fn get(&mut self, key: u64) -> Option<Arc<[u8]>> {
        let &slot = self.index.get(&key)?;
        self.unlink(slot);
        self.link_as_newest(slot);
        self.hits += 1;
        self.slots[slot].body.clone()
    }

    /// Copies `body` into the cache under `key`, in place of the oldest entry if it is full.
    pub(crate) fn insert(&mut self, key: u64, body: &[u8]) {
        if self.index.contains_key(&key) {
            // Two requests have rendered the same article. The first result stays.
            return;
        }
        if self.index.len() >= self.capacity {
            self.evict_oldest();
        }
        let entry = Slot { key, body: Some(Arc::from(body)), newer: None, older: None };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = entry;
                slot
            }
            None => {
                self.slots.push(entry);
                self.slots.len() - 1
            }
        };
        self.index.insert(key, slot);
        self.link_as_newest(slot);
    }

    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats {
            entries: self.index.len(),
            bodies: self.slots.iter().filter(|slot| slot.body.is_some()).count(),
            hits: self.hits,
            evictions: self.evictions,
            first_eviction_after: self.first_eviction_after,
        }
    }

    fn evict_oldest(&mut self) {
        let Some(slot) = self.oldest else { return };
        self.unlink(slot);
        self.index.remove(&self.slots[slot].key);
        // The faulty cache does not do this.
        if self.reuses_slots {
            self.slots[slot].body = None;
            self.free.push(slot);
        }
        self.evictions += 1;
        self.first_eviction_after.get_or_insert_with(|| self.made.elapsed());
    }

    fn unlink(&mut self, slot: usize) {
        let Slot { newer, older, .. } = self.slots[slot];
        match newer {
            Some(newer) => self.slots[newer].older = older,
            None => self.newest = older,
        }
        match older {
            Some(older) => self.slots[older].newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_as_newest(&mut self, slot: usize) {
        let older = self.newest.replace(slot);
        self.slots[slot].newer = None;
        self.slots[slot].older = older;
        match older {
            Some(older) => self.slots[older].newer = Some(slot),
            None => self.oldest = Some(slot),
        }
    }
}
