//! The walk by unwind tables, where framehop knows the platform.
//!
//! Frames with an ordinary [`Rule`] are walked here; others by framehop. An *engine* is framehop's
//! unwinder with its cache. A walk that meets such a frame takes a free one and keeps it to its
//! end; it starts looking at its thread's favourite, whose cache is warm. Engines are made when
//! recording starts, and never on the hook path.

use std::io;
use std::ops::Range;

use framehop::{FrameAddress, Unwinder as _};

use super::arch;
use super::frame::{Bounds, Frame};
use super::loader::framehop_module;
use super::memo::{End, Followed, Memo};
use super::modules::Modules;
use super::rules::{Rule, Rules, Step};
use super::try_lock::{TryLock, TryLockGuard};
use crate::engine::recording::unwind::captured::{Captured, UnwindMethod};
use crate::engine::recording::unwind::size::Size;
use crate::engine::recording::unwind::system;

type Tables = &'static [u8];

struct Engine {
    unwinder: arch::Unwinder<Tables>,
    cache: arch::Cache,
    /// The dynamic modules that the unwinder knows.
    dynamic: Vec<Dynamic>,
    /// Counts the walks.
    walk: u64,
}

/// A dynamic module that an engine knows.
struct Dynamic {
    module: u32,
    range: (u64, u64),
    /// The last walk that found it where it was.
    seen: u64,
}

/// The rules, engines and memos of a session.
pub(crate) struct Walker {
    rules: Rules,
    engines: Box<[TryLock<Engine>]>,
    memos: Box<[TryLock<Memo>]>,
    /// The process of the threads that take seats.
    process: u32,
}

impl std::fmt::Debug for Walker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walker").field("engines", &self.engines.len()).finish()
    }
}

impl Walker {
    /// The cache of rules (509 of 16 bytes), gimli's contexts for evaluation, and the module list.
    pub(crate) const ENGINE_BYTES: u64 = 32 << 10;
    /// One of ours.
    pub(crate) const RULE_BYTES: u64 = 8;

    /// What a memo takes for each frame that a stack may have.
    pub(crate) const MEMO_FRAME_BYTES: u64 = Memo::FRAME_BYTES;

    pub(crate) fn new(size: &Size, modules: &Modules) -> io::Result<Self> {
        let engine = |_| {
            let mut unwinder = arch::Unwinder::default();
            for module in 0..modules.permanent() {
                unwinder.add_module(framehop_module(modules.tables(module)));
            }
            let cache = arch::Cache::default();
            TryLock::new(Engine { unwinder, cache, dynamic: Vec::with_capacity(8), walk: 0 })
        };
        Ok(Self {
            rules: Rules::new(size.rules)?,
            engines: (0..size.engines.max(1)).map(engine).collect(),
            memos: (0..size.memos).map(|_| TryLock::new(Memo::new(size.depth))).collect(),
            process: std::process::id(),
        })
    }

    /// Walks the caller's stack. A stack that is not the thread's own is left to the unwinder of
    /// the standard library.
    #[inline(always)]
    pub(crate) fn capture(
        &self,
        captured: &mut Captured,
        stack: Range<usize>,
        lane: usize,
        modules: &Modules,
    ) {
        let (ip, sp, fp) = arch::here();
        if !stack.contains(&(sp as usize)) {
            return walk_foreign(captured);
        }
        captured.method = UnwindMethod::Framehop;
        self.walk(captured, Frame { ip, sp, fp }, stack.end as u64, lane, modules);
    }

    #[inline(always)]
    fn walk(
        &self,
        captured: &mut Captured,
        innermost: Frame,
        stack_end: u64,
        lane: usize,
        modules: &Modules,
    ) {
        // Nobody else is in the lane, but for threads that a forked child does not have.
        match self.memos.get(lane).and_then(TryLock::take) {
            Some(mut memo) => {
                self.walk_with(&mut memo, captured, innermost, stack_end, lane, modules);
            }
            None => self.walk_without(captured, innermost, stack_end, lane, modules),
        }
    }

    #[cold]
    #[inline(never)]
    fn walk_without(
        &self,
        captured: &mut Captured,
        innermost: Frame,
        stack_end: u64,
        lane: usize,
        modules: &Modules,
    ) {
        self.walk_with(&mut Memo::new(0), captured, innermost, stack_end, lane, modules);
    }

    // A frame in registers: through memory it is written by words and read by two at once, which
    // waits.
    #[inline(always)]
    pub(super) fn walk_with(
        &self,
        memo: &mut Memo,
        captured: &mut Captured,
        innermost: Frame,
        stack_end: u64,
        lane: usize,
        modules: &Modules,
    ) {
        let bounds = Bounds::new(innermost.sp, stack_end);
        memo.begin(&innermost);
        let mut engine: Option<TryLockGuard<'_, Engine>> = None;
        let mut frame = innermost;
        let end = loop {
            let walked = captured.len;
            match memo.follow(&frame, walked, bounds, |address| _ = captured.push(address)) {
                Some(Followed::ToTheEnd { from }) => {
                    // Without an engine all frames are of permanent modules, as all kept ones are.
                    if captured.knows_last
                        && engine.is_none()
                        && memo.is_last(captured.frames(), from)
                    {
                        captured.is_last = true;
                        return;
                    }
                    memo.keep_from(captured.frames(), walked, from);
                    captured.extend(memo.callers(from));
                    captured.hash = memo.hash();
                    return;
                }
                Some(Followed::To(outward)) => frame = outward,
                None => {}
            }
            let walked = captured.len;
            let rule = self.rule(frame.ip, modules);
            memo.note(walked, &frame, rule);
            let caller = match rule.step() {
                Step::Out { distance } => frame.out(rule, frame.caller_sp(rule, distance), bounds),
                Step::End => break End::Rule,
                Step::Foreign => {
                    if engine.is_none() {
                        engine = self.engine(lane);
                    }
                    let Some(engine) = &mut engine else {
                        captured.method = UnwindMethod::None;
                        captured.truncated = true;
                        break End::Open;
                    };
                    match engine.step(frame, walked == 0, captured, modules, bounds) {
                        Some(None) => break End::Open,
                        known => known.flatten(),
                    }
                }
            };
            // A frame that does not lead outward would lead in circles.
            let Some(caller) = caller.filter(|caller| caller.sp > frame.sp) else {
                captured.truncated = true;
                break End::Open;
            };
            if caller.ip == 0 {
                let null = rule.return_address_below(caller.sp);
                break null.map_or(End::Open, |at| End::Null { at });
            }
            // The lookup address: inside the call instruction.
            frame = Frame { ip: caller.ip - 1, ..caller };
            if !captured.push(frame.ip) {
                break End::Open;
            }
        };
        memo.keep(captured.frames(), end);
        captured.hash = memo.hash();
    }

    #[inline]
    fn rule(&self, address: u64, modules: &Modules) -> Rule {
        self.rules.get(address).unwrap_or_else(|| self.learn(address, modules))
    }

    /// The rule of an address in a permanent module, from now on known. Others may have another
    /// rule tomorrow.
    #[cold]
    fn learn(&self, address: u64, modules: &Modules) -> Rule {
        let Some(module) = modules.permanent_at(address) else { return Rule::FOREIGN };
        let rule = Rule::read(&modules.tables(module), address);
        self.rules.insert(address, rule);
        rule
    }

    fn engine(&self, lane: usize) -> Option<TryLockGuard<'_, Engine>> {
        let count = self.engines.len();
        // With more runnable threads than cores all holders may be off the processor at once.
        // Yielding lets them finish; after this many times something is wrong, and the stack is
        // given up.
        for attempt in 0..256 {
            let mut seats = (0..count).map(|i| &self.engines[(lane + i) % count]);
            if let Some(mut engine) = seats.find_map(TryLock::take) {
                engine.walk += 1;
                return Some(engine);
            }
            // In a forked child all holders may be threads that it does not have. Waiting for them
            // with every sample made a child hang that its parent's twelve threads had left none.
            if std::process::id() != self.process {
                return None;
            }
            if attempt < 8 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        None
    }
}

/// Walks a stack of which only the current end is known.
#[cold]
#[inline(never)]
fn walk_foreign(captured: &mut Captured) {
    captured.method = UnwindMethod::Backtrace;
    system::walk(|address| address <= 1 || captured.push(address - 1));
}

impl Engine {
    /// The caller of a frame, with the return address as its `ip`. `None` where that cannot be
    /// told, `Some(None)` where there is none.
    #[expect(clippy::option_option, reason = "unknown and none are different things")]
    fn step(
        &mut self,
        frame: Frame,
        innermost: bool,
        captured: &mut Captured,
        modules: &Modules,
        bounds: Bounds,
    ) -> Option<Option<Frame>> {
        if modules.permanent_at(frame.ip).is_none() && !self.learn(frame.ip, captured, modules) {
            return None;
        }
        let address = if innermost {
            FrameAddress::from_instruction_pointer(frame.ip)
        } else {
            FrameAddress::from_return_address(frame.ip + 1)?
        };
        let mut registers = arch::registers(frame.ip, frame.sp, frame.fp);
        let mut read = |address| bounds.read(address).ok_or(());
        let caller =
            self.unwinder.unwind_frame(address, &mut registers, &mut self.cache, &mut read).ok()?;
        Some(caller.map(|ip| Frame { ip, sp: registers.sp(), fp: arch::frame_pointer(&registers) }))
    }

    /// Makes sure that the module at an address outside the permanent ones is known as it is now.
    fn learn(&mut self, address: u64, captured: &mut Captured, modules: &Modules) -> bool {
        let covers = |known: &&mut Dynamic| (known.range.0..known.range.1).contains(&address);
        let module = match self.dynamic.iter_mut().find(covers) {
            // Once in a walk: the tables are copies, so that it does not matter for longer.
            Some(known) if known.seen == self.walk || modules.is_still(known.module) => {
                known.seen = self.walk;
                known.module
            }
            _ => {
                let Some(module) = modules.dynamic_at(address) else { return false };
                match self.dynamic.iter().position(|known| known.module == module) {
                    Some(known) => self.dynamic[known].seen = self.walk,
                    None if self.add(module, modules) => {}
                    None => return false,
                }
                module
            }
        };
        captured.module_mark = captured.module_mark.max(module);
        true
    }

    /// Replaces whatever was known at the addresses of a module; `false` where its tables have no
    /// room. This allocates, from the inner allocator and uncounted: once for each engine and
    /// library that
    /// `dlopen` loaded.
    #[cold]
    fn add(&mut self, module: u32, modules: &Modules) -> bool {
        let Some(tables) = modules.copied_tables(module) else { return false };
        let range = tables.range;
        let overlaps = |old: &mut Dynamic| old.range.0 < range.1 && range.0 < old.range.1;
        for gone in self.dynamic.extract_if(.., overlaps) {
            self.unwinder.remove_module(gone.range.0);
        }
        self.unwinder.add_module(framehop_module(tables));
        self.dynamic.push(Dynamic { module, range, seen: self.walk });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::recording::sampler::Random;

    const SIZE: Size = Size { engines: 1, rules: 1, memos: 1, depth: 64 };

    /// Frames at any instruction of this program, with registers that point anywhere into `stack`,
    /// or nowhere.
    fn frames(modules: &Modules, count: usize, stack: Range<u64>) -> impl Iterator<Item = Frame> {
        let (start, end) = modules.tables(0).range;
        let mut random = Random::new(17, 0);
        (0..count).map(move |round| {
            let ip = start + random.next() % (end - start);
            let sp = stack.start + random.next() % (stack.end - stack.start) / 8 * 8;
            let fp = if round % 4 == 0 { random.next() } else { sp + random.next() % 4096 / 8 * 8 };
            Frame { ip, sp, fp }
        })
    }

    /// Rules that do not fit the stack at all. A read outside of it would end the process.
    #[test]
    fn walks_with_wrong_registers_end_by_themselves() {
        let modules = Modules::new().unwrap();
        let dwarf = Walker::new(&SIZE, &modules).unwrap();
        let stack_end = crate::engine::recording::sys::own_stack().unwrap().end as u64;
        let here = &raw const stack_end as u64;
        for frame in frames(&modules, 20_000, here..stack_end) {
            let mut captured = Captured::new(false);
            captured.limit = 64;
            dwarf.walk(&mut captured, frame, stack_end, 0, &modules);
            assert!(captured.frames().len() <= 64);
        }
    }

    /// Where both can tell the caller of a frame, our rules and framehop tell the same.
    #[test]
    fn rules_and_framehop_agree() {
        let modules = Modules::new().unwrap();
        let dwarf = Walker::new(&SIZE, &modules).unwrap();
        let mut random = Random::new(5, 0);
        let memory: Vec<u64> = (0..1 << 15).map(|_| random.next() | 1).collect();
        let stack = memory.as_ptr_range();
        let stack = stack.start as u64..stack.end as u64;
        let mut engine = dwarf.engine(0).unwrap();
        let (mut agreed, mut ordinary) = (0, 0);
        for frame in frames(&modules, 200_000, stack.clone()) {
            let rule = dwarf.rule(frame.ip, &modules);
            let Step::Out { distance } = rule.step() else { continue };
            ordinary += 1;
            let bounds = Bounds::new(frame.sp, stack.end);
            let ours = frame.out(rule, frame.caller_sp(rule, distance), bounds);
            let theirs =
                engine.step(frame, false, &mut Captured::new(false), &modules, bounds).flatten();
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                assert_eq!(ours, theirs, "at {frame:x?}");
                agreed += 1;
            }
        }
        assert!(ordinary > 100_000, "most of a program is ordinary: {ordinary}");
        assert!(agreed > 100_000, "and most callers can be told: {agreed}");
    }
}
