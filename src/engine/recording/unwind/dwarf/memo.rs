//! The last walk of a stack, kept for the next one: most of what was on the stack still is.
//!
//! A walk is a chain of dependent loads: the rule by the address, the return address by the rule,
//! the next rule by that. Checking that a frame's saved return address is still what it was is a
//! load that depends on nothing. So a walk goes on frame by frame until it meets one that it met
//! the last time, and from there on only compares.
//!
//! # Why that is the same walk
//! Say the walk is at a frame with the instruction, the stack pointer and, where it is *needed*,
//! the frame pointer of a kept one. What is done there depends on nothing but
//! - the rule of the instruction, which never changes, since only frames with an ordinary rule are
//!   followed, and only permanent modules have such rules;
//! - the stack or the frame pointer, of which the rule makes the caller's stack pointer and the
//!   addresses of what was saved. The frame pointer is needed if the rule uses it, or if the caller
//!   needs it and the rule leaves it where it is;
//! - what is saved there. The return address is compared, and the frame pointer if the caller needs
//!   it and the rule restores it;
//! - the bounds: everything is read within them, and again now.
//!
//! If all that is unchanged, the caller is the kept caller, with its frame pointer where that is
//! needed; and so on to the end (induction). At the first frame where something has changed, or
//! whose rule is not ordinary, the walk goes on by itself, and may meet a kept frame again.
//!
//! It does not matter whose the stack was: addresses and contents are compared, no identities.

use super::arch;
use super::frame::{Bounds, Frame};
use super::rules::Rule;
use crate::engine::recording::unwind::captured::{NO_FRAMES, hash_frame};
use crate::snapshot::MAX_STACK_DEPTH;

/// What the walk knew at a frame.
#[derive(Clone, Copy, Debug)]
struct Kept {
    sp: u64,
    /// Right only where it is needed.
    fp: u64,
    /// Of the addresses from the outermost to this one.
    hash: u64,
    /// How it leads to its caller; [`Rule::FOREIGN`] if it is not followed.
    rule: Rule,
    needs_frame_pointer: bool,
    /// Whether the caller needs the frame pointer that the rule restores.
    restores_needed: bool,
    /// The first frame from this one outward of which that is so, or [`NONE`].
    next_restore: u16,
}

/// No frame.
const NONE: u16 = u16::MAX;
const _: () = assert!(MAX_STACK_DEPTH < NONE as usize);

impl Kept {
    const UNKNOWN: Self = Self {
        sp: 0,
        fp: 0,
        hash: 0,
        rule: Rule::FOREIGN,
        needs_frame_pointer: false,
        restores_needed: false,
        next_restore: NONE,
    };
}

/// How the kept walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The rule of the last frame says that it is the outermost.
    Rule,
    /// The last frame's return address is null, which is there.
    Null { at: u64 },
    /// Not by itself: the last frame is not followed.
    Open,
}

/// How far a walk can be taken from the memo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// From a kept frame to the end.
    ToTheEnd { from: usize },
    /// To this frame.
    To(Frame),
}

/// The last walk of a stack.
#[derive(Debug)]
pub(super) struct Memo {
    /// Addresses of the walk and what was known there, innermost first; the first is of the frame
    /// that nobody asks for, the profiler's own. They stand at the end of their memory, so that
    /// outer frames stay where they are when inner ones change.
    addresses: Box<[u64]>,
    frames: Box<[Kept]>,
    /// Where the return address of each frame is.
    slots: Box<[u64]>,
    /// From here outward each frame is followed, and slots ascend: so all are compared at once,
    /// their bounds once.
    plain_from: usize,
    first: usize,
    end: End,
    /// The kept frames before this one are inside of where the walk has come.
    cursor: usize,
    /// What the walk has come by itself, likewise.
    walked: Box<[Kept]>,
    /// Where the walk has begun.
    innermost: u64,
}

impl Memo {
    /// Bytes for each frame of room.
    pub(super) const FRAME_BYTES: u64 = 16 + 2 * size_of::<Kept>() as u64;

    /// With room for walks of `limit` frames; without any, nothing is remembered.
    pub(super) fn new(limit: usize) -> Self {
        let len = if limit == 0 { 0 } else { limit + 1 };
        let kept = || vec![Kept::UNKNOWN; len].into_boxed_slice();
        Self {
            addresses: vec![0; len].into_boxed_slice(),
            frames: kept(),
            slots: vec![0; len].into_boxed_slice(),
            plain_from: len,
            first: len,
            end: End::Open,
            cursor: len,
            walked: kept(),
            innermost: 0,
        }
    }

    /// Begins a walk.
    #[inline]
    pub(super) fn begin(&mut self, innermost: &Frame) {
        self.cursor = self.first;
        self.innermost = innermost.ip;
    }

    /// Looks whether a frame was met in the last walk and, if so, how far it leads now. `walked` is
    /// the number of frames inside of it, and `push` adds an address.
    #[inline]
    pub(super) fn follow(
        &mut self,
        frame: &Frame,
        walked: usize,
        bounds: Bounds,
        push: impl FnMut(u64),
    ) -> Option<Followed> {
        let frames = &*self.frames;
        let mut at = self.cursor;
        while at < frames.len() && frames[at].sp < frame.sp {
            at += 1;
        }
        self.cursor = at;
        let kept = frames.get(at)?;
        let same = kept.sp == frame.sp
            && self.addresses[at] == frame.ip
            && (!kept.needs_frame_pointer || kept.fp == frame.fp);
        if same { self.follow_from(at, frame.fp, walked, bounds, push) } else { None }
    }

    fn follow_from(
        &mut self,
        at: usize,
        mut fp: u64,
        walked: usize,
        bounds: Bounds,
        mut push: impl FnMut(u64),
    ) -> Option<Followed> {
        let outermost = self.frames.len() - 1;
        let room = outermost - walked;
        let end = outermost.min(at + room);
        let changed = if self.all_lead_outward(at, end, bounds) && self.all_restore(at, end, bounds)
        {
            end
        } else {
            (at..end).find(|at| !self.leads_outward(*at, bounds)).unwrap_or(end)
        };
        if changed == outermost && self.ends_there(bounds) {
            return Some(Followed::ToTheEnd { from: at });
        }
        if changed == at {
            return None;
        }
        // What was not needed any more may be so now.
        for (distance, at) in (at..changed).enumerate() {
            let kept = self.frames[at];
            self.walked[walked + distance] = Kept { fp, ..kept };
            let restored = kept.rule.frame_pointer_below(self.frames[at + 1].sp);
            fp = restored.and_then(|at| bounds.read(at)).unwrap_or(fp);
            push(self.addresses[at + 1]);
        }
        self.cursor = changed;
        Some(Followed::To(Frame { ip: self.addresses[changed], sp: self.frames[changed].sp, fp }))
    }

    /// Whether the frame pointers that kept frames up to `end` restore, where they are needed, are
    /// as kept.
    #[inline]
    fn all_restore(&self, at: usize, end: usize, bounds: Bounds) -> bool {
        let mut next = usize::from(self.frames[at].next_restore);
        while next < end {
            if !self.restores(next, bounds) {
                return false;
            }
            next = usize::from(self.frames[next + 1].next_restore);
        }
        true
    }

    /// Whether the return addresses of kept frames up to `end` are as kept. `false` where that is
    /// not told at once.
    #[inline]
    fn all_lead_outward(&self, at: usize, end: usize, bounds: Bounds) -> bool {
        let slots = &self.slots[at..end];
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else { return true };
        if at < self.plain_from || !bounds.contain(*first) || !bounds.contain(*last) {
            return false;
        }
        // Without a way out in between: nearly always nothing has changed.
        let differing =
            slots.iter().zip(&self.addresses[at + 1..=end]).fold(0, |bits, (slot, address)| {
                // SAFETY: slots ascend, they were whole words when they were walked, and the first
                // and the last are within the bounds.
                let return_address = unsafe { bounds.read_within(*slot) };
                bits | (arch::strip(return_address).wrapping_sub(1) ^ address)
            });
        differing == 0
    }

    /// Whether a kept frame still leads to the kept caller.
    #[inline]
    fn leads_outward(&self, at: usize, bounds: Bounds) -> bool {
        let (kept, caller) = (&self.frames[at], &self.frames[at + 1]);
        let Some(slot) = kept.rule.return_address_below(caller.sp) else { return false };
        let inside_call = |address: u64| arch::strip(address).wrapping_sub(1);
        bounds.read(slot).map(inside_call) == Some(self.addresses[at + 1])
            && (!kept.restores_needed || self.restores(at, bounds))
    }

    /// Whether a kept frame restores the frame pointer of the kept caller.
    #[inline]
    fn restores(&self, at: usize, bounds: Bounds) -> bool {
        let (kept, caller) = (&self.frames[at], &self.frames[at + 1]);
        let slot = kept.rule.frame_pointer_below(caller.sp);
        slot.and_then(|slot| bounds.read(slot)) == Some(caller.fp)
    }

    /// Whether the last kept frame is the outermost still.
    fn ends_there(&self, bounds: Bounds) -> bool {
        match self.end {
            End::Rule => true,
            End::Null { at } => bounds.read(at).map(arch::strip) == Some(0),
            End::Open => false,
        }
    }

    /// Whether a walk that has come to the `walked` addresses by itself, and from a kept frame on
    /// by the memo, has the addresses of the last one. The frame's own is the last, unless it is
    /// the innermost.
    #[inline]
    pub(super) fn is_last(&self, walked: &[u64], from: usize) -> bool {
        from - self.first == walked.len()
            && (walked.is_empty() || self.addresses[self.first + 1..=from] == *walked)
    }

    /// The addresses of the callers of a kept frame.
    pub(super) fn callers(&self, at: usize) -> &[u64] {
        &self.addresses[at + 1..]
    }

    /// Notes how the walk leaves a frame with `walked` inside of it.
    #[inline]
    pub(super) fn note(&mut self, walked: usize, frame: &Frame, rule: Rule) {
        if let Some(kept) = self.walked.get_mut(walked) {
            *kept = Kept { sp: frame.sp, fp: frame.fp, rule, ..Kept::UNKNOWN };
        }
    }

    /// Keeps a walk to its end, with the addresses of all frames but the innermost.
    pub(super) fn keep(&mut self, walked: &[u64], end: End) {
        self.end = end;
        self.keep_from(walked, walked.len() + 1, self.frames.len());
    }

    /// Keeps a walk that has come past `count` frames by itself, whose addresses are the first of
    /// `walked`, and from a kept frame on by the memo.
    #[inline]
    pub(super) fn keep_from(&mut self, walked: &[u64], count: usize, from: usize) {
        if self.frames.is_empty() {
            return;
        }
        let mut hash = self.frames.get(from).map_or(NO_FRAMES, |kept| kept.hash);
        let mut needed = self.frames.get(from).is_some_and(|kept| kept.needs_frame_pointer);
        let mut next_restore = self.frames.get(from).map_or(NONE, |kept| kept.next_restore);
        self.plain_from = self.plain_from.max(from);
        self.first = from - count;
        for position in (0..count).rev() {
            let kept = self.walked[position];
            let address = position.checked_sub(1).map_or(self.innermost, |before| walked[before]);
            hash = hash_frame(hash, address);
            let restores_needed = needed && kept.rule.restores_frame_pointer();
            needed = kept.rule.uses_frame_pointer() || needed && !restores_needed;
            let at = self.first + position;
            if restores_needed {
                next_restore = at as u16;
            }
            let needs_frame_pointer = needed;
            self.frames[at] =
                Kept { hash, needs_frame_pointer, restores_needed, next_restore, ..kept };
            self.addresses[at] = address;
            self.keep_slot(at);
        }
    }

    /// Notes where the return address of a kept frame is, and whether it is plain as those outside
    /// of it.
    #[inline]
    fn keep_slot(&mut self, at: usize) {
        let kept = &self.frames[at];
        let is_plain = match self.frames.get(at + 1) {
            // The outermost leads nowhere.
            None => true,
            Some(caller) => {
                let slot = kept.rule.return_address_below(caller.sp);
                self.slots[at] = slot.unwrap_or(u64::MAX);
                let ascends = at + 2 == self.frames.len() || self.slots[at] < self.slots[at + 1];
                slot.is_some() && ascends
            }
        };
        if is_plain && self.plain_from == at + 1 {
            self.plain_from = at;
        }
    }

    /// The hash of the addresses of the kept walk; `None` where there is no room for any.
    pub(super) fn hash(&self) -> Option<u64> {
        (!self.frames.is_empty())
            .then(|| self.frames.get(self.first + 1).map_or(NO_FRAMES, |kept| kept.hash))
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::ops::Range;

    use super::super::modules::Modules;
    use super::super::walker::Walker;
    use super::*;
    use crate::engine::recording::sampler::Random;
    use crate::engine::recording::sys;
    use crate::engine::recording::unwind::captured::{Captured, hash_frames};
    use crate::engine::recording::unwind::size::Size;

    const DEPTH: usize = 64;

    fn dwarf(modules: &Modules) -> Walker {
        Walker::new(&Size { engines: 1, rules: 1 << 12, memos: 0, depth: DEPTH }, modules).unwrap()
    }

    /// Walks with the memo and, as its naive twin, without; how many frames came from the memo, and
    /// whether all did.
    fn agree(
        dwarf: &Walker,
        memo: &mut Memo,
        modules: &Modules,
        frame: Frame,
        stack_end: u64,
    ) -> (usize, bool) {
        let walk = |memo: &mut Memo, knows_last| {
            let mut captured = Captured::new(knows_last);
            captured.limit = DEPTH;
            dwarf.walk_with(memo, &mut captured, frame, stack_end, 0, modules);
            captured
        };
        let expected = walk(&mut Memo::new(0), false);
        memo.walked.fill(Kept::UNKNOWN);
        let last = memo.addresses.get(memo.first + 1..).unwrap_or_default().to_vec();
        let mut found = walk(memo, true);
        let is_last = found.is_last;
        if is_last {
            assert_eq!(expected.frames(), last);
            found = walk(memo, false);
        }
        assert_eq!(found.frames(), expected.frames());
        assert_eq!(found.truncated, expected.truncated);
        assert_eq!(found.module_mark, expected.module_mark);
        assert_eq!(found.hash(), hash_frames(expected.frames()));
        // What was kept before has a hash.
        let by_itself = memo.walked.iter().skip(1).filter(|kept| kept.sp != 0 && kept.hash == 0);
        (found.frames().len() - by_itself.count().min(found.frames().len()), is_last)
    }

    /// What a stack may hold: addresses of code, addresses of the stack, anything.
    fn word(random: &mut Random, code: &Range<u64>, stack: &Range<u64>) -> u64 {
        match random.next() % 16 {
            0 => random.next(),
            1 => 0,
            2..8 => stack.start + random.next() % (stack.end - stack.start) / 8 * 8,
            _ => code.start + random.next() % (code.end - code.start),
        }
    }

    /// Any rules of this program, on a stack that changes here and there between walks.
    #[test]
    fn a_walk_of_any_stack_is_that_without_a_memo() {
        let modules = Modules::new().unwrap();
        let dwarf = dwarf(&modules);
        let (start, end) = modules.tables(0).range;
        let code = start..end;
        let mut random = Random::new(23, 0);
        let mut memory = vec![0_u64; 96];
        let stack = memory.as_ptr_range();
        let stack = stack.start as u64..stack.end as u64;
        let mut memo = Memo::new(DEPTH);
        let (mut followed, mut lasts) = (0, 0);
        for _ in 0..20_000 {
            memory.fill_with(|| word(&mut random, &code, &stack));
            let sp = stack.start + random.next() % 32 * 8;
            let fp = sp + random.next() % 64 * 8;
            let mut frame = Frame { ip: code.start + random.next() % (end - start), sp, fp };
            for _ in 0..24 {
                match random.next() % 8 {
                    0 => frame.fp = word(&mut random, &code, &stack),
                    1 => frame.sp += 8,
                    2 => frame.ip = code.start + random.next() % (end - start),
                    3 | 4 => {
                        let at = random.next() as usize % memory.len();
                        memory[at] = word(&mut random, &code, &stack);
                    }
                    _ => {}
                }
                // As the compiler sees it nobody reads the memory.
                black_box(&mut memory);
                if frame.sp < stack.end {
                    let (by_memo, is_last) = agree(&dwarf, &mut memo, &modules, frame, stack.end);
                    followed += by_memo;
                    lasts += usize::from(is_last);
                }
            }
        }
        assert!(lasts > 1_000, "a stack may be as it was: {lasts}");
        assert!(followed > 10_000, "the memo is of use: {followed}");
    }

    struct Calls<'a> {
        random: Random,
        memo: &'a mut Memo,
        dwarf: &'a Walker,
        modules: &'a Modules,
        left: u32,
        followed: usize,
    }

    /// Calls that go in and out by chance, with frames of several sizes; deeper than a stack may
    /// be.
    fn wander(calls: &mut Calls<'_>, depth: u64) {
        #[inline(never)]
        fn small(calls: &mut Calls<'_>, depth: u64) {
            wander(calls, depth + 1);
            black_box(depth);
        }
        #[inline(never)]
        fn large(calls: &mut Calls<'_>, depth: u64) {
            let mut room = [depth; 40];
            black_box(&mut room);
            wander(calls, depth + 1);
            black_box(&room);
        }
        #[inline(never)]
        fn any_size(calls: &mut Calls<'_>, depth: u64) {
            let room: Vec<u64> = (0..depth).collect();
            room.iter().take(1).for_each(|_| wander(calls, depth + 1));
            wander(calls, depth + 1);
        }
        while calls.left > 0 && !calls.random.next().is_multiple_of(8 + depth) {
            match calls.random.next() % 4 {
                0 if depth < 90 => small(calls, depth),
                1 if depth < 90 => large(calls, depth),
                2 if depth < 90 => any_size(calls, depth),
                _ => {
                    calls.left -= 1;
                    let (ip, sp, fp) = arch::here();
                    let end = sys::own_stack().unwrap().end as u64;
                    let frame = Frame { ip, sp, fp };
                    calls.followed += agree(calls.dwarf, calls.memo, calls.modules, frame, end).0;
                }
            }
        }
    }

    /// One memo for the stacks of many threads, of which later ones are where earlier ones were.
    #[test]
    fn a_walk_of_a_real_stack_is_that_without_a_memo() {
        let modules = Modules::new().unwrap();
        let dwarf = dwarf(&modules);
        let mut memo = Memo::new(DEPTH);
        let mut followed = 0;
        for stream in 0..20 {
            let memo = &mut memo;
            let (dwarf, modules) = (&dwarf, &modules);
            let walk = move || {
                let random = Random::new(29, stream);
                let mut calls = Calls { random, memo, dwarf, modules, left: 2_000, followed: 0 };
                while calls.left > 0 {
                    wander(&mut calls, 0);
                }
                calls.followed
            };
            followed += std::thread::scope(|scope| scope.spawn(walk).join().unwrap());
        }
        assert!(followed > 10_000, "the memo is of use: {followed}");
    }
}
