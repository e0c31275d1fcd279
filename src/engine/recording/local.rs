//! What the hook keeps for each thread.
//!
//! The thread-local is constant-initialised and has no destructor: it needs no registration, and is
//! valid from a thread's first instruction to its last, also while other thread-locals are torn
//! down.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use super::control::Control;
use crate::engine::recording::sampler::{Decision, Interval, RECHECK_BYTES, Random, Sampler};
use crate::engine::recording::sys;

/// The countdown while muted: no allocation reaches its end.
const MUTED: i64 = i64::MAX;

/// One thread's state.
pub(super) struct Local {
    /// Bytes that may be allocated before the slow path is taken. Never negative between calls.
    countdown: Cell<i64>,
    muted: Cell<bool>,
    /// The session that `sampler` takes part in.
    session: Cell<u32>,
    sampler: Sampler,
    /// Number of the thread, from 1 in the order of first use.
    ordinal: Cell<u32>,
    /// The thread's own stack, or 0..0 where it is not known, once it was asked for.
    stack: Cell<Option<(usize, usize)>>,
}

thread_local! {
    static LOCAL: Local = const {
        Local {
            countdown: Cell::new(0),
            muted: Cell::new(false),
            session: Cell::new(0),
            sampler: Sampler::idle(),
            ordinal: Cell::new(0),
            stack: Cell::new(None),
        }
    };
}

/// Threads that have ever needed a number.
static THREADS: AtomicU32 = AtomicU32::new(0);

const _: () = assert!(!std::mem::needs_drop::<Local>());

/// Counts an allocation; whether it takes the slow path.
#[inline(always)]
pub(crate) fn is_due(size: usize) -> bool {
    LOCAL.with(|local| {
        // Cannot overflow: the countdown is not negative, and sizes are below `isize::MAX`.
        let left = local.countdown.get().wrapping_sub(size as i64);
        local.countdown.set(left);
        left < 0
    })
}

/// Whether the last [`is_due`] of this thread said yes.
pub(super) fn was_due() -> bool {
    LOCAL.with(|local| local.countdown.get() < 0)
}

/// Decides about an allocation that is due, and sets the countdown anew. `Some` if it is sampled.
#[inline]
pub(super) fn decide(size: usize, control: &Control) -> Option<Interval> {
    LOCAL.with(|local| {
        if local.muted.get() {
            // Only a size of half the address space gets here. It will fail.
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
            // While paused the points go on, and are not recorded: that is without bias.
            Decision::Sample(interval) if !control.is_paused() => Some(interval),
            _ => None,
        }
    })
}

/// Makes this thread take part in a session from its next allocation on.
pub(super) fn join(session: u32, random: Random) {
    LOCAL.with(|local| {
        local.session.set(session);
        local.sampler.join(random);
        local.countdown.set(0);
    });
}

/// Makes this thread draw its next gap anew, with the interval that is in force by then.
pub(super) fn rearm() {
    LOCAL.with(|local| {
        local.sampler.rearm();
        if !local.muted.get() {
            local.countdown.set(0);
        }
    });
}

/// A number in (0, 1] from this thread's generator.
pub(super) fn uniform() -> f64 {
    LOCAL.with(|local| local.sampler.uniform())
}

/// The number of this thread.
#[inline]
pub(super) fn number() -> u32 {
    LOCAL.with(|local| {
        if local.ordinal.get() == 0 {
            // Relaxed: threads only have to be told apart.
            let ordinal = THREADS.fetch_add(1, Ordering::Relaxed);
            local.ordinal.set(ordinal.wrapping_add(1).max(1));
        }
        local.ordinal.get()
    })
}

/// The bounds of this thread's stack, asked for once; an empty range where they are not known.
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

/// While this exists, allocations of the thread are neither sampled nor counted; the profiler's own
/// would otherwise use up gaps that belong to the program.
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

/// Runs the profiler's own work: its allocations are not the program's.
pub(crate) fn muted<R>(work: impl FnOnce() -> R) -> R {
    let _mute = Mute::new();
    work()
}
