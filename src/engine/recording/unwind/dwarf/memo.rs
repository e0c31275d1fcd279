//! A cache of the last walk of a stack: most of that stack's frames are usually still there.
//!
//! A walk is a chain of dependent loads: the address selects the rule, the rule the return address,
//! and that the next rule. Checking that a frame's saved return address is unchanged is a load that
//! depends on nothing. So a walk proceeds frame by frame until it meets a frame of the last walk,
//! and from there on it only compares.
//!
//! # Why that is the same walk
//! Suppose the walk is at a frame whose instruction, stack pointer and, if it is *needed*, frame
//! pointer are those of a cached frame. The next step depends on nothing but
//! - the rule of the instruction, which never changes, because the memo replays only frames with an
//!   ordinary rule, and only permanent modules have such rules;
//! - the stack or the frame pointer, from which the rule computes the caller's stack pointer and
//!   the addresses of the saved registers. The frame pointer is needed if the rule uses it, or if
//!   the caller needs it and the rule does not restore it;
//! - the saved values. The return address is compared, and so is the frame pointer if the caller
//!   needs it and the rule restores it;
//! - the bounds: every read is checked against them, now as before.
//!
//! If all of these are unchanged the caller is the cached caller, with its frame pointer if that is
//! needed, and so on to the end by induction. At the first frame where something has changed, or
//! whose rule is complex, the walk reads rules and stack again, and may meet a cached frame later.
//!
//! It does not matter which thread's stack it was: addresses and contents are compared, not
//! identities.

use super::arch;
use super::frame::{Bounds, Frame};
use super::rules::Rule;
use crate::engine::recording::unwind::captured::{NO_FRAMES, hash_frame};
use crate::snapshot::MAX_STACK_DEPTH;

/// A frame of a walk, as the memo stores it.
#[derive(Clone, Copy, Debug)]
struct MemoFrame {
    sp: u64,
    /// Correct only if it is needed.
    fp: u64,
    /// The hash of the addresses from the outermost frame to this one.
    hash: u64,
    /// The rule that leads to its caller; [`Rule::COMPLEX`] if it cannot be replayed.
    rule: Rule,
    needs_frame_pointer: bool,
    /// Whether the caller needs the frame pointer that the rule restores.
    restores_needed: bool,
    /// The index of the first frame, from this one outward, with `restores_needed`, or
    /// [`NO_RESTORE`].
    next_restored: u16,
}

/// The value of `next_restored` if no frame further out restores a needed frame pointer.
const NO_RESTORE: u16 = u16::MAX;
const _: () = assert!(MAX_STACK_DEPTH < NO_RESTORE as usize);

impl MemoFrame {
    const UNKNOWN: Self = Self {
        sp: 0,
        fp: 0,
        hash: 0,
        rule: Rule::COMPLEX,
        needs_frame_pointer: false,
        restores_needed: false,
        next_restored: NO_RESTORE,
    };
}

/// How the cached walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkEnd {
    /// The rule of the last frame marks it as the outermost.
    OutermostRule,
    /// The return address of the last frame, saved at `slot`, is null.
    NullReturnAddress { slot: u64 },
    /// The walk did not reach an outermost frame, or the last frame cannot be replayed.
    Incomplete,
}

/// How far the memo can replay the cached walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    /// To its end, starting at the cached frame `from`.
    ToEnd { from: usize },
    /// Up to this frame.
    UpTo(Frame),
}

/// The last walk of a stack.
#[derive(Debug)]
pub(super) struct Memo {
    /// Addresses of the walk and its frames, innermost first. The first one is the profiler's own
    /// frame, which is not part of the captured stack. Both are aligned to the end of their
    /// buffers, so outer frames keep their index when inner ones change.
    addresses: Box<[u64]>,
    frames: Box<[MemoFrame]>,
    /// The address at which the return address of each frame is saved.
    slots: Box<[u64]>,
    /// From this index outward every frame can be replayed and slots ascend. So all slots can be
    /// compared in one loop, with one check of the bounds.
    bulk_from: usize,
    first: usize,
    end: WalkEnd,
    /// Cached frames before this index are inside of the current frame.
    cursor: usize,
    /// The frames that the current walk has visited without the memo, innermost first.
    visited: Box<[MemoFrame]>,
    /// The instruction at which the current walk began.
    innermost: u64,
}

impl Memo {
    /// Bytes that the memo takes per frame.
    pub(super) const FRAME_BYTES: u64 = 16 + 2 * size_of::<MemoFrame>() as u64;

    /// Creates a memo for walks of up to `limit` frames. With a limit of 0 it caches nothing.
    pub(super) fn new(limit: usize) -> Self {
        let len = if limit == 0 { 0 } else { limit + 1 };
        let new_frames = || vec![MemoFrame::UNKNOWN; len].into_boxed_slice();
        Self {
            addresses: vec![0; len].into_boxed_slice(),
            frames: new_frames(),
            slots: vec![0; len].into_boxed_slice(),
            bulk_from: len,
            first: len,
            end: WalkEnd::Incomplete,
            cursor: len,
            visited: new_frames(),
            innermost: 0,
        }
    }

    /// Begins a walk.
    #[inline]
    pub(super) fn begin(&mut self, innermost: &Frame) {
        self.cursor = self.first;
        self.innermost = innermost.ip;
    }

    /// Looks up a frame in the last walk and, if it is there, determines how far the walk can be
    /// replayed. `depth` is the number of frames inside of it, and `push` appends an address.
    #[inline]
    pub(super) fn replay(
        &mut self,
        frame: &Frame,
        depth: usize,
        bounds: Bounds,
        push: impl FnMut(u64),
    ) -> Option<Replay> {
        let frames = &*self.frames;
        let mut at = self.cursor;
        while at < frames.len() && frames[at].sp < frame.sp {
            at += 1;
        }
        self.cursor = at;
        let cached = frames.get(at)?;
        let same = cached.sp == frame.sp
            && self.addresses[at] == frame.ip
            && (!cached.needs_frame_pointer || cached.fp == frame.fp);
        if same { self.replay_from(at, frame.fp, depth, bounds, push) } else { None }
    }

    fn replay_from(
        &mut self,
        at: usize,
        mut fp: u64,
        depth: usize,
        bounds: Bounds,
        mut push: impl FnMut(u64),
    ) -> Option<Replay> {
        let outermost = self.frames.len() - 1;
        let room = outermost - depth;
        let end = outermost.min(at + room);
        let changed = if self.return_addresses_match(at, end, bounds)
            && self.frame_pointers_match(at, end, bounds)
        {
            end
        } else {
            (at..end).find(|at| !self.return_address_matches(*at, bounds)).unwrap_or(end)
        };
        if changed == outermost && self.still_ends(bounds) {
            return Some(Replay::ToEnd { from: at });
        }
        if changed == at {
            return None;
        }
        // A frame pointer that the cached walk did not need may be needed now, so it is computed
        // again.
        for (distance, at) in (at..changed).enumerate() {
            let cached = self.frames[at];
            self.visited[depth + distance] = MemoFrame { fp, ..cached };
            let restored = cached.rule.frame_pointer_below(self.frames[at + 1].sp);
            fp = restored.and_then(|at| bounds.read(at)).unwrap_or(fp);
            push(self.addresses[at + 1]);
        }
        self.cursor = changed;
        Some(Replay::UpTo(Frame { ip: self.addresses[changed], sp: self.frames[changed].sp, fp }))
    }

    /// Whether the frame pointers that the cached frames up to `end` restore, if needed, are
    /// unchanged.
    #[inline]
    fn frame_pointers_match(&self, at: usize, end: usize, bounds: Bounds) -> bool {
        let mut next = usize::from(self.frames[at].next_restored);
        while next < end {
            if !self.frame_pointer_matches(next, bounds) {
                return false;
            }
            next = usize::from(self.frames[next + 1].next_restored);
        }
        true
    }

    /// Whether the return addresses of the cached frames up to `end` are unchanged. Returns `false`
    /// if one loop cannot determine that.
    #[inline]
    fn return_addresses_match(&self, at: usize, end: usize, bounds: Bounds) -> bool {
        let slots = &self.slots[at..end];
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else { return true };
        if at < self.bulk_from || !bounds.contains(*first) || !bounds.contains(*last) {
            return false;
        }
        // The loop has no early exit, because nearly always nothing has changed.
        let differing =
            slots.iter().zip(&self.addresses[at + 1..=end]).fold(0, |bits, (slot, address)| {
                // SAFETY: the slots ascend, each is an aligned word since a walk has read it, and
                // the first and the last are within the bounds, so all are.
                let return_address = unsafe { bounds.read_unchecked(*slot) };
                bits | (arch::strip_pac(return_address).wrapping_sub(1) ^ address)
            });
        differing == 0
    }

    /// Whether a cached frame still leads to the cached caller.
    #[inline]
    fn return_address_matches(&self, at: usize, bounds: Bounds) -> bool {
        let (cached, caller) = (&self.frames[at], &self.frames[at + 1]);
        let Some(slot) = cached.rule.return_address_below(caller.sp) else { return false };
        let inside_call = |address: u64| arch::strip_pac(address).wrapping_sub(1);
        bounds.read(slot).map(inside_call) == Some(self.addresses[at + 1])
            && (!cached.restores_needed || self.frame_pointer_matches(at, bounds))
    }

    /// Whether a cached frame still restores the frame pointer of the cached caller.
    #[inline]
    fn frame_pointer_matches(&self, at: usize, bounds: Bounds) -> bool {
        let (cached, caller) = (&self.frames[at], &self.frames[at + 1]);
        let slot = cached.rule.frame_pointer_below(caller.sp);
        slot.and_then(|slot| bounds.read(slot)) == Some(caller.fp)
    }

    /// Whether the last cached frame is still the outermost.
    fn still_ends(&self, bounds: Bounds) -> bool {
        match self.end {
            WalkEnd::OutermostRule => true,
            WalkEnd::NullReturnAddress { slot } => {
                bounds.read(slot).map(arch::strip_pac) == Some(0)
            }
            WalkEnd::Incomplete => false,
        }
    }

    /// Whether a walk yields the same addresses as the last one, if it visited the frames `walked`
    /// without the memo and the memo replays it from the cached frame `from`. That frame's own
    /// address is the last of `walked`, unless it is the innermost.
    #[inline]
    pub(super) fn is_last(&self, walked: &[u64], from: usize) -> bool {
        from - self.first == walked.len()
            && (walked.is_empty() || self.addresses[self.first + 1..=from] == *walked)
    }

    /// The addresses of the callers of a cached frame.
    pub(super) fn callers(&self, at: usize) -> &[u64] {
        &self.addresses[at + 1..]
    }

    /// Records the rule by which the walk leaves a frame that has `depth` frames inside of it.
    #[inline]
    pub(super) fn record(&mut self, depth: usize, frame: &Frame, rule: Rule) {
        if let Some(cached) = self.visited.get_mut(depth) {
            *cached = MemoFrame { sp: frame.sp, fp: frame.fp, rule, ..MemoFrame::UNKNOWN };
        }
    }

    /// Caches a walk that ended without the memo, with the addresses of all frames but the
    /// innermost.
    pub(super) fn store(&mut self, walked: &[u64], end: WalkEnd) {
        self.end = end;
        self.store_from(walked, walked.len() + 1, self.frames.len());
    }

    /// Caches a walk that visited `count` frames without the memo, whose addresses are the first of
    /// `walked`, and that the memo replayed from the cached frame `from`.
    #[inline]
    pub(super) fn store_from(&mut self, walked: &[u64], count: usize, from: usize) {
        if self.frames.is_empty() {
            return;
        }
        let mut hash = self.frames.get(from).map_or(NO_FRAMES, |cached| cached.hash);
        let mut needed = self.frames.get(from).is_some_and(|cached| cached.needs_frame_pointer);
        let mut next_restored =
            self.frames.get(from).map_or(NO_RESTORE, |cached| cached.next_restored);
        self.bulk_from = self.bulk_from.max(from);
        self.first = from - count;
        for position in (0..count).rev() {
            let cached = self.visited[position];
            let address = position.checked_sub(1).map_or(self.innermost, |before| walked[before]);
            hash = hash_frame(hash, address);
            let restores_needed = needed && cached.rule.restores_frame_pointer();
            needed = cached.rule.uses_frame_pointer() || needed && !restores_needed;
            let at = self.first + position;
            if restores_needed {
                next_restored = at as u16;
            }
            let needs_frame_pointer = needed;
            self.frames[at] =
                MemoFrame { hash, needs_frame_pointer, restores_needed, next_restored, ..cached };
            self.addresses[at] = address;
            self.store_slot(at);
        }
    }

    /// Records where the return address of a cached frame is saved, and extends `bulk_from` to it
    /// if possible.
    #[inline]
    fn store_slot(&mut self, at: usize) {
        let cached = &self.frames[at];
        let extends_bulk = match self.frames.get(at + 1) {
            // The outermost frame has no caller.
            None => true,
            Some(caller) => {
                let slot = cached.rule.return_address_below(caller.sp);
                self.slots[at] = slot.unwrap_or(u64::MAX);
                let ascends = at + 2 == self.frames.len() || self.slots[at] < self.slots[at + 1];
                slot.is_some() && ascends
            }
        };
        if extends_bulk && self.bulk_from == at + 1 {
            self.bulk_from = at;
        }
    }

    /// The hash of the addresses of the cached walk; `None` if the memo has no room.
    pub(super) fn hash(&self) -> Option<u64> {
        (!self.frames.is_empty())
            .then(|| self.frames.get(self.first + 1).map_or(NO_FRAMES, |cached| cached.hash))
    }
}

#[cfg(test)]
mod tests;
