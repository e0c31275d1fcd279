//! Pages of the range of slots: which are in use, and the memory of those that are not.

use std::io;
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use super::classes::SPAN;
use crate::arena::{Budget, Table, UpTo};
use crate::sys::{PAGE, Reservation};

/// State of a page: live slots that overlap it, and two flags.
const COMMITTED: u32 = 1 << 30;
/// Being given back; no slot on it may be handed out until that is done.
const LEAVING: u32 = 1 << 31;

/// How often a thread looks whether a page that it needs has been given back, which takes a call to
/// the kernel. After that the thread that does it is off the processor, or was lost in a fork.
const LOOKS: usize = 64;

/// Whether a slot can be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Entered,
    /// The budget has no room for a page.
    Refused,
    /// A page is being given back all the time.
    Leaving,
}

/// A range of addresses, page by page.
#[derive(Debug)]
pub(super) struct Pages {
    range: Reservation,
    states: Table<AtomicU32>,
    /// Committed bytes less bytes of live objects, and what is known of slots; charged to the budget.
    slack: AtomicI64,
}

impl Pages {
    pub(super) fn new(range: Reservation) -> io::Result<Self> {
        range.forbid_huge_pages();
        let states = Table::new(range.len() / PAGE)?;
        Ok(Self { range, states, slack: AtomicI64::new(0) })
    }

    /// How far into the range an address is, if it is in it.
    #[inline]
    pub(super) fn offset(&self, address: usize) -> Option<usize> {
        let offset = address.wrapping_sub(self.range.start());
        (offset < self.range.len()).then_some(offset)
    }

    #[inline]
    pub(super) fn block(&self, offset: usize) -> *mut u8 {
        self.range.as_ptr().wrapping_add(offset)
    }

    /// Makes the memory of a span usable. It is not taken before it is used.
    pub(super) fn commit_span(&self, span: usize) -> bool {
        self.range.commit(span * SPAN, SPAN)
    }

    pub(super) fn slack(&self) -> i64 {
        // Relaxed, here and wherever slack is counted: no memory is published through it.
        self.slack.load(Ordering::Relaxed)
    }

    /// Marks the pages of a slot in use, or does nothing.
    pub(super) fn enter(&self, pages: RangeInclusive<usize>, budget: &Budget) -> Entry {
        for page in pages.clone() {
            let entry = self.enter_page(page, budget);
            if entry != Entry::Entered {
                (*pages.start()..page).for_each(|page| _ = self.leave_page(page));
                return entry;
            }
        }
        Entry::Entered
    }

    fn enter_page(&self, page: usize, budget: &Budget) -> Entry {
        let state = self.states.get(page);
        // Relaxed: the exchange decides.
        let mut now = state.load(Ordering::Relaxed);
        let mut looks = 0..LOOKS;
        loop {
            if now & LEAVING != 0 {
                match looks.next() {
                    Some(0..8) => std::hint::spin_loop(),
                    Some(_) => std::thread::yield_now(),
                    None => return Entry::Leaving,
                }
                now = state.load(Ordering::Relaxed);
                continue;
            }
            let is_new = now & COMMITTED == 0;
            if is_new && !budget.try_charge(PAGE as u64, UpTo::Hard) {
                return Entry::Refused;
            }
            // Acquire: pairs with the release in `give_back`: the kernel is done with the page.
            let entered = state.compare_exchange_weak(
                now,
                (now + 1) | COMMITTED,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match (entered, is_new) {
                (Ok(_), true) => _ = self.slack.fetch_add(PAGE as i64, Ordering::Relaxed),
                (Err(_), true) => budget.adjust(-(PAGE as i64)),
                _ => {}
            }
            match entered {
                Ok(_) => return Entry::Entered,
                Err(other) => now = other,
            }
        }
    }

    /// Marks the pages of a slot as no more in use by it, and gives memory back if it is too much.
    pub(super) fn leave(&self, pages: RangeInclusive<usize>, budget: &Budget) {
        for page in pages {
            if self.leave_page(page) {
                self.spare(page, budget);
            }
        }
    }

    /// Returns whether the page is without a live slot now.
    fn leave_page(&self, page: usize) -> bool {
        // Release: what was done in the slot happens before the page is given back. Pairs with the
        // acquire in `begin_leaving`.
        self.states.get(page).fetch_sub(1, Ordering::Release) == COMMITTED + 1
    }

    /// Adds to the slack and to what the budget holds.
    pub(super) fn settle(&self, bytes: i64, budget: &Budget) {
        self.slack.fetch_add(bytes, Ordering::Relaxed);
        budget.adjust(bytes);
    }

    /// Gives back memory that is too much, now that a page has no live slot. Slack is kept for reuse up
    /// to a sixteenth of the cap, or half of that where the cap is half used: giving a page back costs
    /// about a microsecond, and another when it is used again. Beyond that a whole span is given back at
    /// once when all of it is empty, and beyond twice as much each page by itself.
    fn spare(&self, page: usize, budget: &Budget) {
        let slack = self.slack.load(Ordering::Relaxed);
        let spare = budget.cap() as i64 / if budget.held() > budget.cap() / 2 { 32 } else { 16 };
        if slack > 2 * spare {
            self.give_back(page..page + 1, budget);
        } else if slack > spare {
            let first = page - page % (SPAN / PAGE);
            let states = self.states.some(first, SPAN / PAGE);
            if states.iter().all(|state| state.load(Ordering::Relaxed) & !COMMITTED == 0) {
                self.give_back(first..first + states.len(), budget);
            }
        }
    }

    /// Gives back those of some pages that are empty, neighbours by one call.
    pub(super) fn give_back(&self, pages: Range<usize>, budget: &Budget) {
        let mut next = pages.start;
        while next < pages.end {
            let first = next;
            while next < pages.end && self.begin_leaving(next) {
                next += 1;
            }
            if first == next {
                next += 1;
                continue;
            }
            let bytes = (next - first) * PAGE;
            // SAFETY: no slot on these pages is live, and none is handed out while LEAVING is set.
            unsafe { self.range.decommit(first * PAGE, bytes) };
            self.settle(-(bytes as i64), budget);
            for page in first..next {
                // Release: pairs with `enter_page`.
                self.states.get(page).store(0, Ordering::Release);
            }
        }
    }

    /// Keeps slots of a page from being handed out, if it is committed and none is live.
    fn begin_leaving(&self, page: usize) -> bool {
        let state = self.states.get(page);
        // Acquire: pairs with the releases of those who left. Looked at first: most are in use.
        state.load(Ordering::Relaxed) == COMMITTED
            && state
                .compare_exchange(COMMITTED, LEAVING, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }
}
