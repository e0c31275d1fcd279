//! Stacks of free indices, whose links stand outside the indexed objects: one for all threads
//! (Treiber's), and one for whoever is alone with it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Indices that are free, last in first out. The link of index `i` is wherever the owner keeps it,
/// and belongs to this list from `push` to `pop`.
///
/// The head carries a count of all operations beside the index, so that a `pop` that slept through
/// a `pop` and a `push` of the same index notices (the ABA problem); 2³² operations within one
/// `pop` would be needed to fool it.
#[derive(Debug, Default)]
pub(crate) struct FreeList {
    /// High half: operations. Low half: index + 1 of the first, 0 for none.
    head: AtomicU64,
}

const INDEX: u64 = u32::MAX as u64;
const ONE_OPERATION: u64 = 1 << 32;

impl FreeList {
    /// Adds an index that nobody else uses.
    pub(crate) fn push(&self, index: u32, link: &AtomicU32) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // Relaxed: published by the exchange below.
            link.store((head & INDEX) as u32, Ordering::Relaxed);
            let new = (head & !INDEX).wrapping_add(ONE_OPERATION) | (u64::from(index) + 1);
            // Release: what was done with the index before, and its link, are seen by the `pop`
            // that acquires this head.
            match self.head.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes an index; `link` finds the link of an index.
    pub(crate) fn pop<'a>(&self, link: impl Fn(u32) -> &'a AtomicU32) -> Option<u32> {
        // Acquire: pairs with the release in `push`.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let first = (head & INDEX) as u32;
            let index = first.checked_sub(1)?;
            // Relaxed: may be stale when another thread popped this index, in which case the head
            // has moved on and the exchange fails.
            let next = link(index).load(Ordering::Relaxed);
            let new = (head & !INDEX).wrapping_add(ONE_OPERATION) | u64::from(next);
            match self.head.compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }
}

/// A few free indices, last in first out, of one lane. Relaxed, and in steps: nobody else is here.
#[derive(Debug, Default)]
pub(crate) struct OwnList {
    /// Index + 1 of the first, 0 for none.
    head: AtomicU32,
    len: AtomicU32,
}

impl OwnList {
    /// Adds an index that nobody else uses, unless there are `most`.
    #[inline]
    pub(crate) fn push(&self, index: u32, link: &AtomicU32, most: u32) -> bool {
        let len = self.len.load(Ordering::Relaxed);
        if len >= most {
            return false;
        }
        link.store(self.head.load(Ordering::Relaxed), Ordering::Relaxed);
        self.head.store(index + 1, Ordering::Relaxed);
        self.len.store(len + 1, Ordering::Relaxed);
        true
    }

    /// Takes an index; `link` finds the link of an index.
    #[inline]
    pub(crate) fn pop<'a>(&self, link: impl Fn(u32) -> &'a AtomicU32) -> Option<u32> {
        let index = self.head.load(Ordering::Relaxed).checked_sub(1)?;
        self.head.store(link(index).load(Ordering::Relaxed), Ordering::Relaxed);
        self.len.store(self.len.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_list_gives_back_what_it_has_room_for() {
        let links: Vec<AtomicU32> = (0..4).map(|_| AtomicU32::new(0)).collect();
        let list = OwnList::default();
        let pushed: Vec<bool> = (0..4).map(|i| list.push(i, &links[i as usize], 3)).collect();
        assert_eq!(pushed, [true, true, true, false]);
        let left = std::iter::from_fn(|| list.pop(|i| &links[i as usize]));
        assert_eq!(left.collect::<Vec<_>>(), [2, 1, 0]);
        assert!(list.push(3, &links[3], 3));
    }

    #[test]
    fn threads_that_pop_and_push_never_hold_the_same_index() {
        const INDICES: u32 = 16;
        let links: Vec<AtomicU32> = (0..INDICES).map(|_| AtomicU32::new(0)).collect();
        let held: Vec<AtomicU32> = (0..INDICES).map(|_| AtomicU32::new(0)).collect();
        let list = FreeList::default();
        (0..INDICES).for_each(|i| list.push(i, &links[i as usize]));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        let Some(i) = list.pop(|i| &links[i as usize]) else { continue };
                        assert_eq!(held[i as usize].fetch_add(1, Ordering::AcqRel), 0);
                        held[i as usize].fetch_sub(1, Ordering::AcqRel);
                        list.push(i, &links[i as usize]);
                    }
                });
            }
        });
        let mut left: Vec<u32> = std::iter::from_fn(|| list.pop(|i| &links[i as usize])).collect();
        left.sort_unstable();
        assert_eq!(left, (0..INDICES).collect::<Vec<_>>());
    }
}
