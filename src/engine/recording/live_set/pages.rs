//! The pages of the slot range: which ones are in use, and the memory of those that are not.

use std::io;
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use super::classes::SPAN;
use crate::engine::recording::arena::{Budget, Table, UpTo};
use crate::engine::recording::sys::{PAGE, Reservation};

/// The state of a page is the number of acquired slots that overlap it, and two flags. This flag
/// says that the page has memory.
const COMMITTED: u32 = 1 << 30;
/// The page is being decommitted; no slot on it may be handed out until that is done.
const DECOMMITTING: u32 = 1 << 31;

/// How often a thread polls a page that it needs while another thread decommits it, which takes one
/// system call. After this many polls that thread is off the processor, or vanished in a fork.
const MAX_POLLS: usize = 64;

/// The outcome of acquiring the pages of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acquisition {
    Acquired,
    /// The budget has no room for a page.
    OverBudget,
    /// A page was still being decommitted after [`MAX_POLLS`] polls.
    Decommitting,
}

/// The range of addresses that slots lie in, page by page.
#[derive(Debug)]
pub(super) struct Pages {
    range: Reservation,
    states: Table<AtomicU32>,
    /// Committed bytes minus bytes of live objects, plus the metadata of slots. It is charged to
    /// the budget. All its orderings are Relaxed: it is a counter.
    slack: AtomicI64,
}

impl Pages {
    pub(super) fn new(range: Reservation) -> io::Result<Self> {
        range.forbid_huge_pages();
        let states = Table::new(range.len() / PAGE)?;
        Ok(Self { range, states, slack: AtomicI64::new(0) })
    }

    /// The offset of an address in the range, if it lies in the range.
    #[inline]
    pub(super) fn offset(&self, address: usize) -> Option<usize> {
        let offset = address.wrapping_sub(self.range.start());
        (offset < self.range.len()).then_some(offset)
    }

    #[inline]
    pub(super) fn block(&self, offset: usize) -> *mut u8 {
        self.range.as_ptr().wrapping_add(offset)
    }

    /// Makes the addresses of a span usable. The system provides memory when a page is first used.
    pub(super) fn commit_span(&self, span: usize) -> bool {
        self.range.commit(span * SPAN, SPAN)
    }

    pub(super) fn slack(&self) -> i64 {
        self.slack.load(Ordering::Relaxed)
    }

    /// Acquires all pages of a slot, or none.
    pub(super) fn acquire(&self, pages: RangeInclusive<usize>, budget: &Budget) -> Acquisition {
        for page in pages.clone() {
            let outcome = self.acquire_page(page, budget);
            if outcome != Acquisition::Acquired {
                (*pages.start()..page).for_each(|page| _ = self.release_page(page));
                return outcome;
            }
        }
        Acquisition::Acquired
    }

    fn acquire_page(&self, page: usize, budget: &Budget) -> Acquisition {
        let state = self.states.get(page);
        let mut now = state.load(Ordering::Relaxed);
        let mut polls = 0..MAX_POLLS;
        loop {
            if now & DECOMMITTING != 0 {
                match polls.next() {
                    Some(0..8) => std::hint::spin_loop(),
                    Some(_) => std::thread::yield_now(),
                    None => return Acquisition::Decommitting,
                }
                now = state.load(Ordering::Relaxed);
                continue;
            }
            let is_new = now & COMMITTED == 0;
            if is_new && !budget.try_charge(PAGE as u64, UpTo::Hard) {
                return Acquisition::OverBudget;
            }
            // Acquire: pairs with the Release in `decommit_unused`, so that the kernel is done with
            // the page.
            let exchanged = state.compare_exchange_weak(
                now,
                (now + 1) | COMMITTED,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match (exchanged, is_new) {
                (Ok(_), true) => _ = self.slack.fetch_add(PAGE as i64, Ordering::Relaxed),
                (Err(_), true) => budget.adjust(-(PAGE as i64)),
                _ => {}
            }
            match exchanged {
                Ok(_) => return Acquisition::Acquired,
                Err(other) => now = other,
            }
        }
    }

    /// Releases the pages of a slot, and decommits memory if there is too much slack.
    pub(super) fn release(&self, pages: RangeInclusive<usize>, budget: &Budget) {
        for page in pages {
            if self.release_page(page) {
                self.trim(page, budget);
            }
        }
    }

    /// Releases a page and returns whether no slot uses it any more.
    fn release_page(&self, page: usize) -> bool {
        // Release: pairs with the Acquire in `try_begin_decommit`, so that what was done in the
        // slot happens before its page is decommitted.
        self.states.get(page).fetch_sub(1, Ordering::Release) == COMMITTED + 1
    }

    /// Adds `bytes` to the slack and to what the budget holds.
    pub(super) fn charge_slack(&self, bytes: i64, budget: &Budget) {
        self.slack.fetch_add(bytes, Ordering::Relaxed);
        budget.adjust(bytes);
    }

    /// Decommits memory if there is too much slack, now that `page` has no live slot.
    ///
    /// Slack is kept for reuse up to a sixteenth of the cap, or a 32nd once half of the cap is
    /// held: decommitting a page costs about a microsecond, and using it again costs another. Above
    /// that allowance a whole span is decommitted at once when all of it is unused; above twice the
    /// allowance each unused page is decommitted by itself.
    fn trim(&self, page: usize, budget: &Budget) {
        let slack = self.slack.load(Ordering::Relaxed);
        let allowance =
            budget.cap() as i64 / if budget.held() > budget.cap() / 2 { 32 } else { 16 };
        if slack > 2 * allowance {
            self.decommit_unused(page..page + 1, budget);
        } else if slack > allowance {
            let first = page - page % (SPAN / PAGE);
            let states = self.states.slice(first, SPAN / PAGE);
            if states.iter().all(|state| state.load(Ordering::Relaxed) & !COMMITTED == 0) {
                self.decommit_unused(first..first + states.len(), budget);
            }
        }
    }

    /// Decommits those of `pages` that no slot uses, adjacent ones by one system call.
    pub(super) fn decommit_unused(&self, pages: Range<usize>, budget: &Budget) {
        let mut next = pages.start;
        while next < pages.end {
            let first = next;
            while next < pages.end && self.try_begin_decommit(next) {
                next += 1;
            }
            if first == next {
                next += 1;
                continue;
            }
            let bytes = (next - first) * PAGE;
            // SAFETY: no slot on these pages is live, and none is handed out while DECOMMITTING is
            // set.
            unsafe { self.range.decommit(first * PAGE, bytes) };
            self.charge_slack(-(bytes as i64), budget);
            for page in first..next {
                // Release: pairs with the Acquire in `acquire_page`.
                self.states.get(page).store(0, Ordering::Release);
            }
        }
    }

    /// Keeps slots on a page from being handed out, if the page is committed and no slot uses it.
    fn try_begin_decommit(&self, page: usize) -> bool {
        let state = self.states.get(page);
        // The Relaxed load is only a hint that saves the exchange, since most pages are in use.
        // Acquire: pairs with the Release in `release_page`.
        state.load(Ordering::Relaxed) == COMMITTED
            && state
                .compare_exchange(COMMITTED, DECOMMITTING, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }
}
