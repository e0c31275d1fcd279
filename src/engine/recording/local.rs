//! The state that the hook keeps for each thread.
//!
//! The thread-local is constant-initialised and has no destructor. It therefore needs no
//! registration and is valid from a thread's first instruction to its last, even while other
//! thread-locals are destroyed.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use super::control::Control;
use crate::engine::recording::sampler::{Decision, Interval, RECHECK_BYTES, Random, Sampler};
use crate::engine::recording::sys;

/// The countdown of a muted thread. Allocations do not use it up.
const MUTED: i64 = i64::MAX;

/// The state of one thread.
pub(super) struct Local {
    /// The number of bytes that may be allocated before the slow path is taken. It is never
    /// negative between calls of the hook.
    countdown: Cell<i64>,
    muted: Cell<bool>,
    /// The number of the session that `sampler` has joined.
    session: Cell<u32>,
    sampler: Sampler,
    /// The number of the thread, from 1 in the order of first use; 0 until it is needed.
    number: Cell<u32>,
    /// The start and end of the thread's own stack, or two zeros if they are unknown; `None` until
    /// they are needed.
    stack: Cell<Option<(usize, usize)>>,
}

thread_local! {
    static LOCAL: Local = const {
        Local {
            countdown: Cell::new(0),
            muted: Cell::new(false),
            session: Cell::new(0),
            sampler: Sampler::idle(),
            number: Cell::new(0),
            stack: Cell::new(None),
        }
    };
}

/// How many threads have been given a number.
static NUMBERED_THREADS: AtomicU32 = AtomicU32::new(0);

const _: () = assert!(!std::mem::needs_drop::<Local>());

/// Counts an allocation down and returns whether it must take the slow path.
#[inline(always)]
pub(crate) fn is_due(size: usize) -> bool {
    LOCAL.with(|local| {
        // The subtraction cannot overflow: the countdown is not negative, and a size is at most
        // `isize::MAX`.
        let left = local.countdown.get().wrapping_sub(size as i64);
        local.countdown.set(left);
        left < 0
    })
}

/// Whether the last call of [`is_due`] on this thread returned true.
pub(super) fn was_due() -> bool {
    LOCAL.with(|local| local.countdown.get() < 0)
}

/// Decides about an allocation that is due and sets the countdown again. Returns the interval of
/// the sample, or `None` if the allocation is not sampled.
#[inline]
pub(super) fn decide(size: usize, control: &Control) -> Option<Interval> {
    LOCAL.with(|local| {
        if local.muted.get() {
            // A muted thread gets here only by asking for about half of the address space. The
            // allocation will fail.
            local.countdown.set(local.countdown.get().wrapping_add(size as i64));
            return None;
        }
        let session = control.session();
        if session == 0 {
            local.session.set(0);
            local.countdown.set(RECHECK_BYTES);
            return None;
        }
        if local.session.get() != session {
            local.session.set(session);
            local.sampler.join(control.next_random());
        }
        match local.sampler.decide(size, &local.countdown, control.interval()) {
            // While recording is paused, the points of the Poisson process go on but are not
            // recorded. That causes no bias.
            Decision::Sample(interval) if !control.is_paused() => Some(interval),
            _ => None,
        }
    })
}

/// Makes this thread join a session, from its next allocation on.
pub(super) fn join(session: u32, random: Random) {
    LOCAL.with(|local| {
        local.session.set(session);
        local.sampler.join(random);
        local.countdown.set(0);
    });
}

/// Makes this thread draw its gap again, with the interval in force then: at its next allocation,
/// or later if the thread is muted now.
pub(super) fn rearm() {
    LOCAL.with(|local| {
        local.sampler.rearm();
        if !local.muted.get() {
            local.countdown.set(0);
        }
    });
}

/// Draws a number in (0, 1] from this thread's generator.
pub(super) fn uniform() -> f64 {
    LOCAL.with(|local| local.sampler.uniform())
}

/// Returns the number of this thread, which is never 0.
#[inline]
pub(super) fn number() -> u32 {
    LOCAL.with(|local| {
        if local.number.get() == 0 {
            // Relaxed: the numbers only have to be different.
            let before = NUMBERED_THREADS.fetch_add(1, Ordering::Relaxed);
            local.number.set(before.wrapping_add(1).max(1));
        }
        local.number.get()
    })
}

/// Returns the bounds of this thread's own stack, or an empty range if they are unknown. The system
/// is asked once per thread.
#[inline]
pub(super) fn stack() -> Range<usize> {
    LOCAL.with(|local| {
        let (low, high) = local.stack.get().unwrap_or_else(|| {
            let bounds = sys::own_stack().map_or((0, 0), |stack| (stack.start, stack.end));
            local.stack.set(Some(bounds));
            bounds
        });
        low..high
    })
}

/// A guard that mutes the thread: its allocations are neither sampled nor counted. Otherwise the
/// profiler's own allocations would use up gaps that belong to the program.
pub(super) struct Mute {
    countdown: i64,
    was_muted: bool,
}

impl Mute {
    #[inline]
    pub(super) fn new() -> Self {
        LOCAL.with(|local| Self {
            countdown: local.countdown.replace(MUTED),
            was_muted: local.muted.replace(true),
        })
    }
}

impl Drop for Mute {
    #[inline]
    fn drop(&mut self) {
        LOCAL.with(|local| {
            local.countdown.set(self.countdown);
            local.muted.set(self.was_muted);
        });
    }
}

/// Runs the profiler's own work with the thread muted.
pub(crate) fn muted<R>(work: impl FnOnce() -> R) -> R {
    let _mute = Mute::new();
    work()
}
