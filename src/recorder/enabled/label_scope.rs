//! Labels in force on a thread.
//!
//! Each thread has a buffer that the labels of its scopes are copied into, one scope after the
//! other. Entering a scope appends to it, and leaving cuts it back to where it ended before.
//! Nothing is looked up or interned until a sample is taken.
//!
//! # Why not a list of the scopes on the stack
//! A scope lives on the stack that it was entered on. A program with stackful coroutines has many
//! stacks on one thread, leaves scopes in any order, on any thread or never, and frees stacks, all
//! of it in safe code: a list of their addresses ends in freed memory. The buffer holds copies and
//! no addresses, so that the worst a wrong order can do is to leave wrong labels in force.
//!
//! Interning a set when its scope is entered would be as safe. But sets of labels are kept for the
//! length of a session and there is room for few, so a program with a label for each request would
//! fill the table without a single sample; and a scope that was entered before the session began
//! would have no labels in it.
//!
//! # Scopes that are left out of order
//! Each scope has an identity, and the buffer knows that of the innermost one. Whoever leaves
//! another scope than that has proved that scopes do not nest: the buffer is emptied, and a new
//! *epoch* begins. Scopes of earlier epochs, or of other threads, then change nothing when they are
//! left. Hence every scope that the buffer refers to, directly or as the outer one of another, was
//! entered on this thread in this epoch and has not been left, and its labels are intact: all that
//! was appended after them belongs to scopes further in.

use std::cell::{Cell, UnsafeCell};

use super::local;
use crate::label_table::Gathered;

/// Bytes of the labels in force on a thread, those that are overridden included. A set of labels
/// has at most 1,024.
const CAPACITY: usize = 2048;

/// The scope before, ahead of the labels of a scope: where it begins.
const SCOPE_BYTES: usize = 2;

/// The lengths of key and value, ahead of each label.
const LABEL_BYTES: usize = 4;

/// Where the labels in force are in the buffer. One word, since it is copied with each scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent(u64);

impl Extent {
    /// No labels.
    const NONE: Self = Self(0);

    /// Set while the labels of a scope have no room.
    const OVERFLOWED: u64 = 1 << 32;

    /// The labels of the innermost scope, with what is told of those around it.
    fn new(start: usize, end: usize, outer: Self) -> Self {
        Self(start as u64 | (end as u64) << 16 | outer.0 & Self::OVERFLOWED)
    }

    fn overflowed(self) -> Self {
        Self(self.0 | Self::OVERFLOWED)
    }

    fn is_overflowed(self) -> bool {
        self.0 & Self::OVERFLOWED != 0
    }

    /// Where the labels of the innermost scope begin.
    fn start(self) -> usize {
        usize::from(self.0 as u16)
    }

    /// Where they end.
    fn end(self) -> usize {
        usize::from((self.0 >> 16) as u16)
    }
}

/// The scopes of one thread.
struct Scopes {
    /// The innermost; 0 is none.
    innermost: Cell<u64>,
    extent: Cell<Extent>,
    /// Scopes that were entered, modulo 2³².
    entered: Cell<u32>,
    /// How many of them were before this epoch.
    before_epoch: Cell<u32>,
    /// The number of the thread; 0 until it has entered a scope.
    thread: Cell<u32>,
    text: UnsafeCell<[u8; CAPACITY]>,
}

thread_local! {
    static SCOPES: Scopes = const { Scopes::new() };
}

const _: () = assert!(!std::mem::needs_drop::<Scopes>());

/// A scope that was entered, and what was in force before.
struct Entered {
    /// The number of the thread, and which of its scopes this is.
    scope: u64,
    outer: u64,
    outer_extent: Extent,
}

impl Drop for Entered {
    fn drop(&mut self) {
        SCOPES.with(|scopes| scopes.leave(self));
    }
}

/// Labels of one scope.
pub(crate) struct LabelScope;

impl LabelScope {
    /// Runs `scope` with labels in force.
    pub(crate) fn run<R>(labels: &[(&str, &str)], scope: impl FnOnce() -> R) -> R {
        let _entered = enter(labels);
        scope()
    }

    /// As [`run`](Self::run), with labels that a future owns.
    pub(crate) fn run_owned<R>(labels: &[(Box<str>, Box<str>)], scope: impl FnOnce() -> R) -> R {
        let _entered = enter_owned(labels);
        scope()
    }
}

// Not generic, so that callers do not each get a copy of the copying.
fn enter(labels: &[(&str, &str)]) -> Entered {
    let labels = labels.iter().copied();
    SCOPES.with(|scopes| scopes.enter(labels))
}

fn enter_owned(labels: &[(Box<str>, Box<str>)]) -> Entered {
    let labels = labels.iter().map(|(key, value)| (&**key, &**value));
    SCOPES.with(|scopes| scopes.enter(labels))
}

/// Gathers the labels in force on this thread; `None` if there is none.
#[inline]
pub(super) fn in_force<R>(intern: impl FnOnce(Gathered<'_>) -> R) -> Option<R> {
    SCOPES.with(|scopes| scopes.gather(intern))
}

impl Scopes {
    const fn new() -> Self {
        Self {
            innermost: Cell::new(0),
            extent: Cell::new(Extent::NONE),
            entered: Cell::new(0),
            before_epoch: Cell::new(0),
            thread: Cell::new(0),
            text: UnsafeCell::new([0; CAPACITY]),
        }
    }

    fn enter<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Entered {
        if self.thread.get() == 0 {
            self.thread.set(local::number());
        }
        let (outer, outer_extent) = (self.innermost.get(), self.extent.get());
        let entered = self.entered.get().wrapping_add(1);
        self.entered.set(entered);
        let scope = u64::from(self.thread.get()) << 32 | u64::from(entered);
        // SAFETY: the buffer is this thread's, and borrowed here and in `gather` only. Neither
        // calls code of others while it is.
        let text = unsafe { &mut *self.text.get() };
        let extent = append(text, outer_extent, labels);
        self.extent.set(extent.unwrap_or_else(|| outer_extent.overflowed()));
        self.innermost.set(scope);
        Entered { scope, outer, outer_extent }
    }

    fn leave(&self, entered: &Entered) {
        if self.innermost.get() == entered.scope {
            self.innermost.set(entered.outer);
            self.extent.set(entered.outer_extent);
        } else {
            self.leave_out_of_order(entered);
        }
    }

    #[cold]
    fn leave_out_of_order(&self, entered: &Entered) {
        let before = self.before_epoch.get();
        let (thread, number) = ((entered.scope >> 32) as u32, entered.scope as u32);
        // Counted from the beginning of the epoch, so that it does not matter when the count begins
        // anew.
        let is_of_epoch =
            (1..=self.entered.get().wrapping_sub(before)).contains(&number.wrapping_sub(before));
        if thread == self.thread.get() && is_of_epoch {
            self.before_epoch.set(self.entered.get());
            self.innermost.set(0);
            self.extent.set(Extent::NONE);
        }
    }

    #[inline]
    fn gather<R>(&self, intern: impl FnOnce(Gathered<'_>) -> R) -> Option<R> {
        let extent = self.extent.get();
        if extent == Extent::NONE {
            return None;
        }
        // SAFETY: as in `enter`. Interning writes to the profiler's tables and enters no scope.
        let text = unsafe { &*self.text.get() };
        let mut gathered = Gathered::default();
        if extent.is_overflowed() {
            gathered.overflow();
        } else {
            let _ = gather(&mut gathered, text, extent);
        }
        Some(intern(gathered))
    }
}

/// Copies the labels of a scope behind those that are in force. `None` if there is no room.
fn append<'a>(
    text: &mut [u8; CAPACITY],
    outer: Extent,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
) -> Option<Extent> {
    let start = outer.end();
    let mut free = text.get_mut(start..)?;
    free.split_off_mut(..SCOPE_BYTES)?.copy_from_slice(&(outer.start() as u16).to_ne_bytes());
    for (key, value) in labels {
        let lengths = free.split_off_mut(..LABEL_BYTES)?;
        // If one does not fit into 16 bits, there is no room either.
        lengths[..2].copy_from_slice(&(key.len() as u16).to_ne_bytes());
        lengths[2..].copy_from_slice(&(value.len() as u16).to_ne_bytes());
        free.split_off_mut(..key.len())?.copy_from_slice(key.as_bytes());
        free.split_off_mut(..value.len())?.copy_from_slice(value.as_bytes());
    }
    let end = CAPACITY - free.len();
    // A function that calls itself, in a scope of the same labels: they are in force already.
    let is_again = start - outer.start() == end - start
        && text[outer.start() + SCOPE_BYTES..start] == text[start + SCOPE_BYTES..end];
    Some(if is_again { outer } else { Extent::new(start, end, outer) })
}

/// Adds the labels of all scopes, from the innermost outward. Ends early where the text makes no
/// sense, which would take a scope that is left after 2³² others were entered.
fn gather<'a>(gathered: &mut Gathered<'a>, text: &'a [u8; CAPACITY], extent: Extent) -> Option<()> {
    let number = |at: usize| {
        let bytes = text.get(at..at + 2)?;
        Some(usize::from(u16::from_ne_bytes([bytes[0], bytes[1]])))
    };
    let (mut start, mut end) = (extent.start(), extent.end());
    loop {
        let mut at = start + SCOPE_BYTES;
        while at < end {
            let key = at + LABEL_BYTES;
            let value = key + number(at)?;
            let next = value + number(at + 2)?;
            gathered.add(text.get(key..value)?, text.get(value..next)?);
            at = next;
        }
        let outer = number(start).filter(|outer| *outer < start)?;
        (start, end) = (outer, start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Budget;
    use crate::label_table::LabelTable;
    use crate::sampler::Random;

    impl Scopes {
        fn of_thread(number: u32) -> Self {
            Self { thread: Cell::new(number), ..Self::new() }
        }

        fn enter_one(&self, key: &str, value: &str) -> Forgotten {
            Forgotten(std::mem::ManuallyDrop::new(self.enter([(key, value)].into_iter())))
        }

        /// The labels in force, as `key=value` words; `None` where they had no room.
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

    /// A scope that is left by a call, of the scopes of a test.
    struct Forgotten(std::mem::ManuallyDrop<Entered>);

    impl Forgotten {
        fn leave(&self, scopes: &Scopes) {
            scopes.leave(&self.0);
        }
    }

    #[test]
    fn the_inner_scope_overrides_and_the_outer_comes_back() {
        let scopes = Scopes::of_thread(7);
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
    fn a_scope_that_is_left_before_its_inner_one_takes_all_labels_away() {
        let scopes = Scopes::of_thread(7);
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
    fn a_scope_that_is_left_on_another_thread_changes_nothing_there() {
        let (here, there) = (Scopes::of_thread(7), Scopes::of_thread(8));
        let moved = here.enter_one("moved", "1");
        let own = there.enter_one("own", "2");
        moved.leave(&there);
        assert_eq!(there.labels().unwrap(), "own=2");
        own.leave(&there);
        assert_eq!(there.labels().unwrap(), "");
    }

    #[test]
    fn scopes_beyond_the_room_leave_no_labels_in_force_and_those_outside_come_back() {
        let scopes = Scopes::of_thread(7);
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
    fn a_recursion_in_the_same_labels_needs_no_more_room() {
        let scopes = Scopes::of_thread(7);
        let outer = scopes.enter_one("a", "1");
        let all: Vec<_> = (0..10_000).map(|_| scopes.enter_one("phase", "render")).collect();
        assert_eq!(scopes.labels().unwrap(), "a=1 phase=render");
        all.iter().rev().for_each(|scope| scope.leave(&scopes));
        assert_eq!(scopes.labels().unwrap(), "a=1");
        outer.leave(&scopes);
        assert_eq!(scopes.labels().unwrap(), "");
    }

    /// Scopes that are left in any order, as by coroutines: what is in force was entered, and has
    /// not been left.
    #[test]
    fn in_any_order_only_labels_of_open_scopes_are_in_force() {
        let scopes = Scopes::of_thread(7);
        let mut random = Random::new(11, 0);
        let mut open: Vec<(String, Forgotten)> = Vec::new();
        let mut seen = 0;
        for number in 0..20_000 {
            // Now and then all are left, in some order.
            let limit = if number / 100 % 2 == 0 { 12 } else { 1 };
            if random.next() as usize % limit >= open.len() {
                // Of different lengths, so that a wrong end would not be the end of a label.
                let value = number.to_string().repeat(random.next() as usize % 5);
                let scope = scopes.enter_one("id", &value);
                open.push((format!("id={value}"), scope));
            } else {
                // Often the innermost, as where scopes nest.
                let at = match random.next() % 4 {
                    0 => random.next() as usize % open.len(),
                    _ => open.len() - 1,
                };
                open.remove(at).1.leave(&scopes);
            }
            let labels = scopes.labels().unwrap();
            assert!(labels.is_empty() || open.iter().any(|(open, _)| *open == labels), "{labels}");
            assert!(!open.is_empty() || labels.is_empty(), "none is open: {labels}");
            seen += usize::from(!labels.is_empty());
        }
        assert!(seen > 1000, "labels in force {seen} times are no test");
    }
}
