//! The labels in force on a thread.
//!
//! Each thread has a buffer with copies of the labels of its scopes, one scope after the other.
//! Entering a scope appends its labels, and leaving it truncates the buffer to its previous length.
//! Nothing is looked up or interned until a sample is taken.
//!
//! # Why scopes are not linked on the stack
//! A scope lives on the stack on which it was entered. A program with stackful coroutines has many
//! stacks per thread. Its safe code may leave scopes in any order, on another thread or never, and
//! may free stacks, so a list of scopes would end in freed memory. The buffer holds copies and no
//! addresses, so a wrong order can at worst leave wrong labels in force.
//!
//! Interning a set of labels when its scope is entered would be as safe. But interned sets are kept
//! until the session ends and there is room for few, so a program with a label for each request
//! would fill the table without taking a single sample. Besides, a scope that was entered before
//! the session began would have no labels in it.
//!
//! # Scopes that are left out of order
//! Each scope has an identity, and the buffer stores that of the innermost one. If another scope is
//! left, the scopes of the thread do not nest. The buffer is then emptied and a new *epoch* begins.
//! Leaving a scope of an earlier epoch or of another thread changes nothing.
//!
//! Hence every scope that the buffer refers to, directly or as the outer scope of another, was
//! entered on this thread in this epoch and has not been left. Its labels are intact, because
//! everything after them in the buffer belongs to scopes further in.

use std::cell::{Cell, UnsafeCell};

use super::local;
use crate::engine::recording::label_table::GatheredLabels;

/// The size of a thread's buffer in bytes. It also holds labels that are overridden; a set of
/// labels has at most 1,024 bytes.
const CAPACITY: usize = 2048;

/// The size of the header of a scope, which is the position of the next outer scope.
const SCOPE_BYTES: usize = 2;

/// The size of the header of a label, which is the lengths of its key and its value.
const LABEL_BYTES: usize = 4;

/// The position of the innermost scope in the buffer. It is one word because it is copied with each
/// scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent(u64);

impl Extent {
    /// No labels.
    const NONE: Self = Self(0);

    /// The bit that is set while the labels of an open scope did not fit into the buffer.
    const OVERFLOWED: u64 = 1 << 32;

    /// The extent of a scope inside `outer`, of which it inherits the overflow.
    fn new(start: usize, end: usize, outer: Self) -> Self {
        Self(start as u64 | (end as u64) << 16 | outer.0 & Self::OVERFLOWED)
    }

    fn overflowed(self) -> Self {
        Self(self.0 | Self::OVERFLOWED)
    }

    fn is_overflowed(self) -> bool {
        self.0 & Self::OVERFLOWED != 0
    }

    /// The start of the innermost scope.
    fn start(self) -> usize {
        usize::from(self.0 as u16)
    }

    /// The end (exclusive) of the innermost scope.
    fn end(self) -> usize {
        usize::from((self.0 >> 16) as u16)
    }
}

/// The scopes of one thread.
struct Scopes {
    /// The identity of the innermost scope; 0 if no scope is open.
    innermost: Cell<u64>,
    extent: Cell<Extent>,
    /// The number of scopes that were entered, modulo 2³².
    entered_count: Cell<u32>,
    /// The value of `entered_count` when the epoch began.
    epoch_start: Cell<u32>,
    /// The number of the thread; 0 until it enters a scope.
    thread: Cell<u32>,
    text: UnsafeCell<[u8; CAPACITY]>,
}

thread_local! {
    static SCOPES: Scopes = const { Scopes::new() };
}

const _: () = assert!(!std::mem::needs_drop::<Scopes>());

/// An open scope, and the state to which leaving it returns.
struct ScopeGuard {
    /// The identity of the scope: the number of its thread in the upper half, and the number of the
    /// scope on the thread in the lower half.
    scope: u64,
    outer: u64,
    outer_extent: Extent,
}

impl Drop for ScopeGuard {
    fn drop(&mut self) {
        SCOPES.with(|scopes| scopes.leave(self));
    }
}

/// Scopes with labels.
pub(crate) struct LabelScope;

impl LabelScope {
    /// Runs `scope` with `labels` in force.
    pub(crate) fn run<R>(labels: &[(&str, &str)], scope: impl FnOnce() -> R) -> R {
        let _guard = enter(labels);
        scope()
    }

    /// Like [`run`](Self::run), for labels that a future owns.
    pub(crate) fn run_owned<R>(labels: &[(Box<str>, Box<str>)], scope: impl FnOnce() -> R) -> R {
        let _guard = enter_owned(labels);
        scope()
    }
}

// These two are not generic over the scope, so that the code that copies labels is compiled once.
fn enter(labels: &[(&str, &str)]) -> ScopeGuard {
    let labels = labels.iter().copied();
    SCOPES.with(|scopes| scopes.enter(labels))
}

fn enter_owned(labels: &[(Box<str>, Box<str>)]) -> ScopeGuard {
    let labels = labels.iter().map(|(key, value)| (&**key, &**value));
    SCOPES.with(|scopes| scopes.enter(labels))
}

/// Passes the labels in force on this thread to `intern`. Returns `None` if there are none.
#[inline]
pub(super) fn gather_labels<R>(intern: impl FnOnce(GatheredLabels<'_>) -> R) -> Option<R> {
    SCOPES.with(|scopes| scopes.gather(intern))
}

impl Scopes {
    const fn new() -> Self {
        Self {
            innermost: Cell::new(0),
            extent: Cell::new(Extent::NONE),
            entered_count: Cell::new(0),
            epoch_start: Cell::new(0),
            thread: Cell::new(0),
            text: UnsafeCell::new([0; CAPACITY]),
        }
    }

    fn enter<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> ScopeGuard {
        if self.thread.get() == 0 {
            self.thread.set(local::number());
        }
        let (outer, outer_extent) = (self.innermost.get(), self.extent.get());
        let number = self.entered_count.get().wrapping_add(1);
        self.entered_count.set(number);
        let scope = u64::from(self.thread.get()) << 32 | u64::from(number);
        // SAFETY: `Scopes` is not `Sync`, so only this thread uses the buffer. It is borrowed only
        // here and in `gather`, and neither calls code that could borrow it again.
        let text = unsafe { &mut *self.text.get() };
        let extent = append(text, outer_extent, labels);
        self.extent.set(extent.unwrap_or_else(|| outer_extent.overflowed()));
        self.innermost.set(scope);
        ScopeGuard { scope, outer, outer_extent }
    }

    fn leave(&self, guard: &ScopeGuard) {
        if self.innermost.get() == guard.scope {
            self.innermost.set(guard.outer);
            self.extent.set(guard.outer_extent);
        } else {
            self.leave_out_of_order(guard);
        }
    }

    #[cold]
    fn leave_out_of_order(&self, guard: &ScopeGuard) {
        let (start, count) = (self.epoch_start.get(), self.entered_count.get());
        let (thread, number) = ((guard.scope >> 32) as u32, guard.scope as u32);
        // Numbers are compared relative to the start of the epoch, so the count may wrap around.
        let is_of_epoch = (1..=count.wrapping_sub(start)).contains(&number.wrapping_sub(start));
        if thread == self.thread.get() && is_of_epoch {
            self.epoch_start.set(count);
            self.innermost.set(0);
            self.extent.set(Extent::NONE);
        }
    }

    #[inline]
    fn gather<R>(&self, intern: impl FnOnce(GatheredLabels<'_>) -> R) -> Option<R> {
        let extent = self.extent.get();
        if extent == Extent::NONE {
            return None;
        }
        // SAFETY: as in `enter`. `intern` writes to the profiler's tables and enters no scope.
        let text = unsafe { &*self.text.get() };
        let mut gathered = GatheredLabels::default();
        if extent.is_overflowed() {
            gathered.mark_overflowed();
        } else {
            // `None` only says that gathering ended early or at the outermost scope.
            let _ = gather_scopes(&mut gathered, text, extent);
        }
        Some(intern(gathered))
    }
}

/// Splits `len` bytes off the beginning of `free`. `None` if there are fewer.
fn take<'a>(free: &mut &'a mut [u8], len: usize) -> Option<&'a mut [u8]> {
    let (taken, rest) = std::mem::take(free).split_at_mut_checked(len)?;
    *free = rest;
    Some(taken)
}

/// Appends the labels of a scope inside `outer` and returns the new extent; `None` if there is no
/// room.
fn append<'a>(
    text: &mut [u8; CAPACITY],
    outer: Extent,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
) -> Option<Extent> {
    let start = outer.end();
    let mut free = text.get_mut(start..)?;
    take(&mut free, SCOPE_BYTES)?.copy_from_slice(&(outer.start() as u16).to_ne_bytes());
    for (key, value) in labels {
        let lengths = take(&mut free, LABEL_BYTES)?;
        // A length that does not fit into 16 bits is cut off here, but then there is no room for
        // the text either.
        lengths[..2].copy_from_slice(&(key.len() as u16).to_ne_bytes());
        lengths[2..].copy_from_slice(&(value.len() as u16).to_ne_bytes());
        take(&mut free, key.len())?.copy_from_slice(key.as_bytes());
        take(&mut free, value.len())?.copy_from_slice(value.as_bytes());
    }
    let end = CAPACITY - free.len();
    // A recursive function may enter a scope with the same labels again. They are in force already
    // and need no more room.
    let repeats_outer = start - outer.start() == end - start
        && text[outer.start() + SCOPE_BYTES..start] == text[start + SCOPE_BYTES..end];
    Some(if repeats_outer { outer } else { Extent::new(start, end, outer) })
}

/// Adds the labels of all scopes, from the innermost outward. It ends early if the buffer is
/// inconsistent, which takes a scope that is left after 2³² others were entered.
fn gather_scopes<'a>(
    gathered: &mut GatheredLabels<'a>,
    text: &'a [u8; CAPACITY],
    extent: Extent,
) -> Option<()> {
    let length = |at: usize| {
        let bytes = text.get(at..at + 2)?;
        Some(usize::from(u16::from_ne_bytes([bytes[0], bytes[1]])))
    };
    let (mut start, mut end) = (extent.start(), extent.end());
    loop {
        let mut at = start + SCOPE_BYTES;
        while at < end {
            let key = at + LABEL_BYTES;
            let value = key + length(at)?;
            let next = value + length(at + 2)?;
            gathered.add(text.get(key..value)?, text.get(value..next)?);
            at = next;
        }
        let outer = length(start).filter(|outer| *outer < start)?;
        (start, end) = (outer, start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::recording::arena::Budget;
    use crate::engine::recording::label_table::LabelTable;
    use crate::engine::recording::sampler::Random;

    impl Scopes {
        fn for_thread(number: u32) -> Self {
            Self { thread: Cell::new(number), ..Self::new() }
        }

        fn enter_one(&self, key: &str, value: &str) -> OpenScope {
            OpenScope(std::mem::ManuallyDrop::new(self.enter([(key, value)].into_iter())))
        }

        /// The labels in force, as `key=value` words; `None` if they did not fit.
        fn labels(&self) -> Option<String> {
            let table = LabelTable::new().unwrap();
            let budget = Budget::new(1 << 20);
            let set = self.gather(|labels| table.intern(labels, &budget)).unwrap_or(Some(0))?;
            let labels = table.view(set);
            Some(
                labels
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect::<Vec<_>>()
                    .join(" "),
            )
        }
    }

    /// A scope of a test, which is left by a call instead of by dropping it.
    struct OpenScope(std::mem::ManuallyDrop<ScopeGuard>);

    impl OpenScope {
        fn leave(&self, scopes: &Scopes) {
            scopes.leave(&self.0);
        }
    }

    #[test]
    fn the_inner_scope_overrides_and_the_outer_comes_back() {
        let scopes = Scopes::for_thread(7);
        assert_eq!(scopes.labels().unwrap(), "");
        let outer = scopes.enter_one("route", "/a");
        let inner = scopes.enter_one("tenant", "x");
        let innermost = scopes.enter_one("route", "/b");
        assert_eq!(scopes.labels().unwrap(), "route=/b tenant=x");
        innermost.leave(&scopes);
        assert_eq!(scopes.labels().unwrap(), "route=/a tenant=x");
        inner.leave(&scopes);
        assert_eq!(scopes.labels().unwrap(), "route=/a");
        outer.leave(&scopes);
        assert_eq!(scopes.labels().unwrap(), "");
    }

    #[test]
    fn leaving_a_scope_before_its_inner_scope_ends_all_labels() {
        let scopes = Scopes::for_thread(7);
        let a = scopes.enter_one("a", "1");
        let b = scopes.enter_one("b", "2");
        a.leave(&scopes);
        assert_eq!(scopes.labels().unwrap(), "");
        let c = scopes.enter_one("c", "3");
        b.leave(&scopes);
        assert_eq!(scopes.labels().unwrap(), "c=3", "a scope of another epoch changes nothing");
        c.leave(&scopes);
        assert_eq!(scopes.labels().unwrap(), "");
    }

    #[test]
    fn leaving_a_scope_on_another_thread_changes_nothing_there() {
        let (here, there) = (Scopes::for_thread(7), Scopes::for_thread(8));
        let moved = here.enter_one("moved", "1");
        let own = there.enter_one("own", "2");
        moved.leave(&there);
        assert_eq!(there.labels().unwrap(), "own=2");
        own.leave(&there);
        assert_eq!(there.labels().unwrap(), "");
    }

    #[test]
    fn a_scope_that_does_not_fit_hides_all_labels_until_it_is_left() {
        let scopes = Scopes::for_thread(7);
        let outer = scopes.enter_one("a", "1");
        let long = scopes.enter_one("long", &"x".repeat(CAPACITY));
        assert_eq!(scopes.labels(), None);
        let inner = scopes.enter_one("b", "2");
        assert_eq!(scopes.labels(), None);
        inner.leave(&scopes);
        long.leave(&scopes);
        assert_eq!(scopes.labels().unwrap(), "a=1");
        outer.leave(&scopes);
        assert_eq!(scopes.labels().unwrap(), "");
    }

    #[test]
    fn recursion_into_the_same_labels_needs_no_more_room() {
        let scopes = Scopes::for_thread(7);
        let outer = scopes.enter_one("a", "1");
        let inner: Vec<_> = (0..10_000).map(|_| scopes.enter_one("phase", "render")).collect();
        assert_eq!(scopes.labels().unwrap(), "a=1 phase=render");
        inner.iter().rev().for_each(|scope| scope.leave(&scopes));
        assert_eq!(scopes.labels().unwrap(), "a=1");
        outer.leave(&scopes);
        assert_eq!(scopes.labels().unwrap(), "");
    }

    /// Scopes may be left in any order, as coroutines do. Whatever is in force must have been
    /// entered and not left.
    #[test]
    fn in_any_order_only_labels_of_open_scopes_are_in_force() {
        let scopes = Scopes::for_thread(7);
        let mut random = Random::new(11, 0);
        let mut open: Vec<(String, OpenScope)> = Vec::new();
        let mut times_in_force = 0;
        for number in 0..20_000 {
            // Every other hundred steps, all scopes but one at most are left, in some order.
            let limit = if number / 100 % 2 == 0 { 12 } else { 1 };
            if random.next() as usize % limit >= open.len() {
                // The values differ in length, so that a wrong position would not be the end of a
                // label.
                let value = number.to_string().repeat(random.next() as usize % 5);
                let scope = scopes.enter_one("id", &value);
                open.push((format!("id={value}"), scope));
            } else {
                // Most often the innermost scope is left, as if scopes nested.
                let at = match random.next() % 4 {
                    0 => random.next() as usize % open.len(),
                    _ => open.len() - 1,
                };
                open.remove(at).1.leave(&scopes);
            }
            let labels = scopes.labels().unwrap();
            assert!(labels.is_empty() || open.iter().any(|(open, _)| *open == labels), "{labels}");
            assert!(!open.is_empty() || labels.is_empty(), "no scope is open, found {labels}");
            times_in_force += usize::from(!labels.is_empty());
        }
        assert!(times_in_force > 1000, "too few to test: {times_in_force}");
    }
}
