//! Interned sets of labels: append-only, lock-free to look up, bounded.
//!
//! A set is kept as text in one canonical form, `key NUL value NUL …` sorted by key, so equal sets
//! have equal bytes.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::arena::{Budget, Table, UpTo, Zeroed};
use crate::hash::mix;
use crate::index::Index;

/// The most labels of one set.
pub(crate) const MAX_LABELS: usize = 16;

/// The most bytes of one set in its canonical form.
const MAX_BYTES: usize = 1024;

/// Sets, and bytes of text, that the table has room for.
const MAX_SETS: usize = 4096;
const MAX_TEXT: usize = 1 << 20;

// SAFETY: zero is a byte.
unsafe impl Zeroed for AtomicU8 {}

#[derive(Debug)]
struct Set {
    first: AtomicU32,
    len: AtomicU32,
}

// SAFETY: atomics only; zero is the empty set.
unsafe impl Zeroed for Set {}

/// The labels in force, gathered from the innermost scope outward.
#[derive(Debug, Default)]
pub(crate) struct Gathered<'a> {
    labels: [(&'a [u8], &'a [u8]); MAX_LABELS],
    len: usize,
    overflow: bool,
}

impl<'a> Gathered<'a> {
    /// Adds a label of an outer scope; an inner one of the same key stays.
    pub(crate) fn add(&mut self, key: &'a [u8], value: &'a [u8]) {
        let known = self.labels[..self.len].iter().any(|(other, _)| *other == key);
        // A NUL would end the text early. Nobody writes one.
        if known || key.contains(&0) || value.contains(&0) {
            return;
        }
        match self.labels.get_mut(self.len) {
            Some(free) => {
                *free = (key, value);
                self.len += 1;
            }
            None => self.overflow = true,
        }
    }

    /// Notes that there are more labels than can be told.
    pub(crate) fn overflow(&mut self) {
        self.overflow = true;
    }

    /// The canonical form; `None` where it is too long.
    fn canonical<'b>(&mut self, buffer: &'b mut [u8; MAX_BYTES]) -> Option<&'b [u8]> {
        if self.overflow {
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

/// The table of sets. Set 0 is the empty one.
#[derive(Debug)]
pub(crate) struct LabelTable {
    sets: Table<Set>,
    text: Table<AtomicU8>,
    index: Index,
    next_set: AtomicU32,
    next_byte: AtomicU32,
}

impl LabelTable {
    /// Bytes taken at once: the index.
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

    /// The number of a set. `None` when it is too long or there is no room.
    pub(crate) fn intern(&self, mut labels: Gathered<'_>, budget: &Budget) -> Option<u32> {
        let mut buffer = [0; MAX_BYTES];
        let text = labels.canonical(&mut buffer)?;
        if text.is_empty() {
            return Some(0);
        }
        let hash = mix(text.iter().fold(text.len() as u64, |hash, byte| {
            (hash.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        }));
        let is = |set| self.bytes(set).eq(text.iter().copied());
        self.index.find_or_make(hash, is, || self.make(text, budget))
    }

    fn make(&self, text: &[u8], budget: &Budget) -> Option<u32> {
        let bytes = text.len() as u64 + Table::<Set>::entry_bytes();
        if !budget.try_charge(bytes, UpTo::Soft) {
            return None;
        }
        // Relaxed: only uniqueness matters.
        let take = |next: &AtomicU32, count: usize, len: usize| {
            next.try_update(Ordering::Relaxed, Ordering::Relaxed, |first| {
                (first as usize + count <= len).then_some(first + count as u32)
            })
            .ok()
        };
        let room = take(&self.next_byte, text.len(), MAX_TEXT)
            .and_then(|first| Some((first, take(&self.next_set, 1, MAX_SETS)?)));
        let Some((first, set)) = room else {
            budget.adjust(-(bytes as i64));
            return None;
        };
        // Relaxed: published by the release in `Index::find_or_make`.
        for (i, byte) in text.iter().enumerate() {
            self.text.get(first as usize + i).store(*byte, Ordering::Relaxed);
        }
        let entry = self.sets.get(set as usize);
        entry.first.store(first, Ordering::Relaxed);
        entry.len.store(text.len() as u32, Ordering::Relaxed);
        Some(set)
    }

    fn bytes(&self, set: u32) -> impl Iterator<Item = u8> + '_ {
        let entry = self.sets.get(set as usize);
        // Relaxed: the number came from the index or from a site, which were acquired.
        let first = entry.first.load(Ordering::Relaxed) as usize;
        let len = entry.len.load(Ordering::Relaxed) as usize;
        (first..first + len).map(|i| self.text.get(i).load(Ordering::Relaxed))
    }

    /// The labels of a set that a site refers to.
    pub(crate) fn view(&self, set: u32) -> BTreeMap<String, String> {
        let text = String::from_utf8_lossy(&self.bytes(set).collect::<Vec<u8>>()).into_owned();
        let mut parts = text.split_terminator('\0').map(str::to_owned);
        let mut labels = BTreeMap::new();
        while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
            labels.insert(key, value);
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intern(table: &LabelTable, labels: &[(&str, &str)]) -> Option<u32> {
        let mut gathered = Gathered::default();
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
    fn sets_beyond_the_limits_are_refused() {
        let table = LabelTable::new().unwrap();
        let long = "x".repeat(MAX_BYTES);
        assert_eq!(intern(&table, &[("key", &long)]), None);
        let keys: Vec<String> = (0..=MAX_LABELS).map(|i| i.to_string()).collect();
        let many: Vec<_> = keys.iter().map(|key| (key.as_str(), "v")).collect();
        assert_eq!(intern(&table, &many), None);
        assert!(intern(&table, &many[1..]).is_some());
    }

    #[test]
    fn values_without_end_fill_the_table_and_nothing_else() {
        let table = LabelTable::new().unwrap();
        let refused = (0..10_000).filter(|i| intern(&table, &[("id", &i.to_string())]).is_none());
        assert_eq!(refused.count(), 10_000 - (MAX_SETS - 1));
    }
}
