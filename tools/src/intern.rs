//! Interning: each distinct value is stored once and named by its index.

use std::collections::HashMap;
use std::hash::Hash;

/// The index of `value` in `values`, to which it is added if it is new.
pub(crate) fn intern<T: Clone + Eq + Hash>(
    index: &mut HashMap<T, u32>,
    values: &mut Vec<T>,
    value: T,
) -> u32 {
    if let Some(&at) = index.get(&value) {
        return at;
    }
    let at = u32::try_from(values.len()).expect("fewer than 2^32 distinct values fit in a dump");
    values.push(value.clone());
    index.insert(value, at);
    at
}
