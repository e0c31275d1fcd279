//! The table of interned label sets. It is append-only and bounded, and lookups are lock-free.
//!
//! A set is stored as text in a canonical form, `key NUL value NUL …` sorted by key, so that equal
//! sets have equal bytes.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::engine::recording::arena::{Budget, Table, UpTo, Zeroed};
use crate::engine::recording::index::Index;
use crate::hash::mix;

/// The maximum number of labels in a set.
pub(crate) const MAX_LABELS: usize = 16;

/// The maximum number of bytes of a set in its canonical form.
const MAX_BYTES: usize = 1024;

/// The maximum number of sets in the table.
const MAX_SETS: usize = 4096;

/// The maximum number of bytes of all sets.
const MAX_TEXT: usize = 1 << 20;

// SAFETY: an atomic byte may be zero.
unsafe impl Zeroed for AtomicU8 {}

/// A set, as the range of its bytes in the text.
#[derive(Debug)]
struct Set {
    first: AtomicU32,
    len: AtomicU32,
}

// SAFETY: all fields are atomics, which may be zero. Two zeros are the empty set.
unsafe impl Zeroed for Set {}

/// The labels in force on a thread, gathered from the innermost scope outward.
#[derive(Debug, Default)]
pub(crate) struct GatheredLabels<'a> {
    labels: [(&'a [u8], &'a [u8]); MAX_LABELS],
    len: usize,
    overflowed: bool,
}

impl<'a> GatheredLabels<'a> {
    /// Adds a label, unless a label with the same key was added before, from a scope further in.
    pub(crate) fn add(&mut self, key: &'a [u8], value: &'a [u8]) {
        let is_overridden = self.labels[..self.len].iter().any(|(other, _)| *other == key);
        // A NUL byte would end a key or value early in the canonical form.
        if is_overridden || key.contains(&0) || value.contains(&0) {
            return;
        }
        match self.labels.get_mut(self.len) {
            Some(unused) => {
                *unused = (key, value);
                self.len += 1;
            }
            None => self.overflowed = true,
        }
    }

    /// Marks the set as one that cannot be interned, because labels are missing.
    pub(crate) fn mark_overflowed(&mut self) {
        self.overflowed = true;
    }

    /// Writes the canonical form into `buffer` and returns it; `None` if it is too long.
    fn canonical<'b>(&mut self, buffer: &'b mut [u8; MAX_BYTES]) -> Option<&'b [u8]> {
        if self.overflowed {
            return None;
        }
        let labels = &mut self.labels[..self.len];
        labels.sort_unstable();
        let mut len = 0;
        for text in labels.iter().flat_map(|(key, value)| [key, value]) {
            let end = len + text.len();
            buffer.get_mut(len..end)?.copy_from_slice(text);
            *buffer.get_mut(end)? = 0;
            len = end + 1;
        }
        Some(&buffer[..len])
    }
}

/// The table of label sets. Set 0 is the empty set.
#[derive(Debug)]
pub(crate) struct LabelTable {
    sets: Table<Set>,
    text: Table<AtomicU8>,
    index: Index,
    next_set: AtomicU32,
    next_byte: AtomicU32,
}

impl LabelTable {
    /// The bytes that the table takes from the start, which are those of the index.
    pub(crate) const FIXED_BYTES: u64 = Index::bytes(MAX_SETS);

    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            sets: Table::new(MAX_SETS)?,
            text: Table::new(MAX_TEXT)?,
            index: Index::new(MAX_SETS)?,
            next_set: AtomicU32::new(1),
            next_byte: AtomicU32::new(0),
        })
    }

    /// Returns the number of a set, which is added if it is new. `None` if the set is too large or
    /// the table has no room.
    pub(crate) fn intern(&self, mut labels: GatheredLabels<'_>, budget: &Budget) -> Option<u32> {
        let mut buffer = [0; MAX_BYTES];
        let text = labels.canonical(&mut buffer)?;
        if text.is_empty() {
            return Some(0);
        }
        let hash = mix(text.iter().fold(text.len() as u64, |hash, byte| {
            (hash.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        }));
        let matches = |set| self.bytes(set).eq(text.iter().copied());
        self.index.find_or_insert_with(hash, matches, || self.create(text, budget))
    }

    /// Stores a new set, which the index then publishes.
    fn create(&self, text: &[u8], budget: &Budget) -> Option<u32> {
        let bytes = text.len() as u64 + Table::<Set>::entry_bytes();
        if !budget.try_charge(bytes, UpTo::Soft) {
            return None;
        }
        // Relaxed: threads only have to reserve different ranges.
        let reserve = |next: &AtomicU32, count: usize, len: usize| {
            next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |first| {
                (first as usize + count <= len).then_some(first + count as u32)
            })
            .ok()
        };
        let reserved = reserve(&self.next_byte, text.len(), MAX_TEXT)
            .and_then(|first| Some((first, reserve(&self.next_set, 1, MAX_SETS)?)));
        let Some((first, set)) = reserved else {
            budget.adjust(-(bytes as i64));
            return None;
        };
        // Relaxed: the index publishes the set with Release, and whoever finds its number there
        // reads it with Acquire.
        for (i, byte) in text.iter().enumerate() {
            self.text.get(first as usize + i).store(*byte, Ordering::Relaxed);
        }
        let entry = self.sets.get(set as usize);
        entry.first.store(first, Ordering::Relaxed);
        entry.len.store(text.len() as u32, Ordering::Relaxed);
        Some(set)
    }

    /// The canonical form of a set.
    fn bytes(&self, set: u32) -> impl Iterator<Item = u8> + '_ {
        // Relaxed: see `create`.
        let entry = self.sets.get(set as usize);
        let first = entry.first.load(Ordering::Relaxed) as usize;
        let len = entry.len.load(Ordering::Relaxed) as usize;
        (first..first + len).map(|i| self.text.get(i).load(Ordering::Relaxed))
    }

    /// Returns the labels of a set that a site refers to.
    pub(crate) fn view(&self, set: u32) -> BTreeMap<String, String> {
        let text = String::from_utf8_lossy(&self.bytes(set).collect::<Vec<u8>>()).into_owned();
        let mut texts = text.split_terminator('\0').map(str::to_owned);
        let mut labels = BTreeMap::new();
        while let (Some(key), Some(value)) = (texts.next(), texts.next()) {
            labels.insert(key, value);
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intern(table: &LabelTable, labels: &[(&str, &str)]) -> Option<u32> {
        let mut gathered = GatheredLabels::default();
        labels.iter().for_each(|(key, value)| gathered.add(key.as_bytes(), value.as_bytes()));
        table.intern(gathered, &Budget::new(1 << 20))
    }

    #[test]
    fn order_does_not_matter_and_the_inner_scope_wins() {
        let table = LabelTable::new().unwrap();
        let set = intern(&table, &[("b", "2"), ("a", "1"), ("b", "outer")]).unwrap();
        assert_eq!(intern(&table, &[("a", "1"), ("b", "2")]), Some(set));
        assert_ne!(intern(&table, &[("a", "1"), ("b", "outer")]), Some(set));
        let expected = [("a", "1"), ("b", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(table.view(set), BTreeMap::from(expected));
        assert_eq!(intern(&table, &[]), Some(0));
        assert_eq!(table.view(0), BTreeMap::new());
    }

    #[test]
    fn sets_that_exceed_the_limits_are_rejected() {
        let table = LabelTable::new().unwrap();
        let long = "x".repeat(MAX_BYTES);
        assert_eq!(intern(&table, &[("key", &long)]), None);
        let keys: Vec<String> = (0..=MAX_LABELS).map(|i| i.to_string()).collect();
        let many: Vec<_> = keys.iter().map(|key| (key.as_str(), "v")).collect();
        assert_eq!(intern(&table, &many), None);
        assert!(intern(&table, &many[1..]).is_some());
    }

    #[test]
    fn any_number_of_different_values_fills_the_table_and_no_more() {
        let table = LabelTable::new().unwrap();
        let rejected = (0..10_000).filter(|i| intern(&table, &[("id", &i.to_string())]).is_none());
        assert_eq!(rejected.count(), 10_000 - (MAX_SETS - 1));
    }
}
