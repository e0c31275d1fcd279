//! Free lists of indices, whose links are stored outside the indexed objects: a Treiber stack for
//! all threads, and a plain stack for one lane.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A stack of free indices, shared by all threads. The owner decides where the link of an index is
/// stored; the link belongs to this list from `push` to `pop`.
///
/// The head carries a count of operations as a tag beside the index, so that a `pop` that was
/// suspended while the same index was popped and pushed notices it (the ABA problem). It would take
/// exactly 2³² operations within one `pop` to defeat the tag.
#[derive(Debug, Default)]
pub(crate) struct FreeList {
    /// High half: the count of operations. Low half: the index of the first entry + 1, or 0 if
    /// there is none.
    head: AtomicU64,
}

const INDEX: u64 = u32::MAX as u64;
const TAG_INCREMENT: u64 = 1 << 32;

impl FreeList {
    /// Pushes an index that no other thread uses.
    // Relaxed: the exchange below fails if the value is stale.
    pub(crate) fn push(&self, index: u32, link: &AtomicU32) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // Relaxed: the exchange below publishes the link.
            link.store((head & INDEX) as u32, Ordering::Relaxed);
            let new = (head & !INDEX).wrapping_add(TAG_INCREMENT) | (u64::from(index) + 1);
            // Release: pairs with the Acquire in `pop`, whose thread then sees the link and
            // everything that was done with the index before.
            match self.head.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Pops an index. `link` returns the link of an index.
    pub(crate) fn pop<'a>(&self, link: impl Fn(u32) -> &'a AtomicU32) -> Option<u32> {
        // Acquire, here and in the exchange: pairs with the Release in `push`.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let first = (head & INDEX) as u32;
            let index = first.checked_sub(1)?;
            // Relaxed: the link may be stale if another thread popped this index, but then the head
            // has changed and the exchange fails.
            let next = link(index).load(Ordering::Relaxed);
            let new = (head & !INDEX).wrapping_add(TAG_INCREMENT) | u64::from(next);
            match self.head.compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }
}

/// A short stack of free indices that belongs to one lane. Its operations are Relaxed and not
/// atomic as a whole, because no other thread is in the lane.
#[derive(Debug, Default)]
pub(crate) struct LaneFreeList {
    /// The index of the first entry + 1, or 0 if there is none.
    head: AtomicU32,
    len: AtomicU32,
}

impl LaneFreeList {
    /// Pushes an index that no other thread uses, unless the list already holds `max` indices.
    #[inline]
    pub(crate) fn push(&self, index: u32, link: &AtomicU32, max: u32) -> bool {
        let len = self.len.load(Ordering::Relaxed);
        if len >= max {
            return false;
        }
        link.store(self.head.load(Ordering::Relaxed), Ordering::Relaxed);
        self.head.store(index + 1, Ordering::Relaxed);
        self.len.store(len + 1, Ordering::Relaxed);
        true
    }

    /// Pops an index. `link` returns the link of an index.
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
    fn a_lane_free_list_returns_what_it_had_room_for() {
        let links: Vec<AtomicU32> = (0..4).map(|_| AtomicU32::new(0)).collect();
        let list = LaneFreeList::default();
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
