//! Walks stacks by unwind tables, on platforms that framehop supports.
//!
//! Frames with an ordinary [`Rule`] are unwound here, all others by framehop. An *engine* is
//! framehop's unwinder with its cache. A walk that meets a frame with a complex rule locks a free
//! engine until the walk ends; it first tries the engine that its lane prefers, whose cache is
//! warm. Engines are created when recording starts, never on the hook path.

use std::io;
use std::ops::Range;

use framehop::{FrameAddress, Unwinder as _};

use super::arch;
use super::frame::{Bounds, Frame};
use super::loader::framehop_module;
use super::memo::{Memo, Replay, WalkEnd};
use super::modules::Modules;
use super::rules::{Rule, Rules, Step};
use super::system;
use super::try_lock::{TryLock, TryLockGuard};
use crate::engine::recording::unwind::captured::{Captured, UnwindMethod};
use crate::engine::recording::unwind::size::Size;

type Tables = &'static [u8];

struct Engine {
    unwinder: arch::Unwinder<Tables>,
    cache: arch::Cache,
    /// The dynamic modules that have been added to the unwinder.
    dynamic: Vec<DynamicModule>,
    /// The number of walks so far.
    walk: u64,
}

/// A dynamic module that has been added to an engine.
struct DynamicModule {
    module: u32,
    range: (u64, u64),
    /// The last walk that found the module still mapped and unchanged.
    checked_walk: u64,
}

/// The rules, engines and memos of a session.
pub(crate) struct Walker {
    rules: Rules,
    engines: Box<[TryLock<Engine>]>,
    memos: Box<[TryLock<Memo>]>,
    /// The process that created the walker: a forked child has another one.
    process: u32,
}

impl std::fmt::Debug for Walker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walker").field("engines", &self.engines.len()).finish()
    }
}

impl Walker {
    /// The size of an engine: framehop's cache of 509 rules of 16 bytes, gimli's evaluation
    /// contexts, and the module list.
    pub(crate) const ENGINE_BYTES: u64 = 32 << 10;
    /// The size of an entry in our own cache of rules.
    pub(crate) const RULE_BYTES: u64 = 8;

    /// Bytes that a memo takes per frame of the maximum depth.
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

    /// Walks the caller's stack. A stack that the thread does not own is left to the unwinder of
    /// the standard library.
    #[inline(always)]
    pub(crate) fn capture(
        &self,
        captured: &mut Captured,
        stack: Range<usize>,
        lane: usize,
        modules: &Modules,
    ) {
        let (ip, sp, fp) = arch::current_registers();
        if !stack.contains(&(sp as usize)) {
            return walk_foreign_stack(captured);
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
        // No other thread uses the lane. In a forked child the memo may still be locked by a thread
        // that the child does not have.
        match self.memos.get(lane).and_then(TryLock::try_lock) {
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

    // Inlined so that `innermost` stays in registers. Out of line it is passed through memory,
    // written word by word and read two words at a time, which is a store-forwarding stall.
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
            match memo.replay(&frame, walked, bounds, |address| _ = captured.push(address)) {
                Some(Replay::ToEnd { from }) => {
                    // Without an engine all frames are in permanent modules, like all cached
                    // frames.
                    if captured.knows_last
                        && engine.is_none()
                        && memo.is_last(captured.frames(), from)
                    {
                        captured.is_last = true;
                        return;
                    }
                    memo.store_from(captured.frames(), walked, from);
                    captured.extend(memo.callers(from));
                    captured.hash = memo.hash();
                    return;
                }
                Some(Replay::UpTo(outward)) => frame = outward,
                None => {}
            }
            let walked = captured.len;
            let rule = self.rule(frame.ip, modules);
            memo.record(walked, &frame, rule);
            let caller = match rule.step() {
                Step::Caller { distance } => {
                    frame.caller(rule, frame.caller_sp(rule, distance), bounds)
                }
                Step::Outermost => break WalkEnd::OutermostRule,
                Step::Complex => {
                    if engine.is_none() {
                        engine = self.lock_engine(lane);
                    }
                    let Some(engine) = &mut engine else {
                        captured.method = UnwindMethod::None;
                        captured.truncated = true;
                        break WalkEnd::Incomplete;
                    };
                    match engine.step(frame, walked == 0, captured, modules, bounds) {
                        Some(None) => break WalkEnd::Incomplete,
                        result => result.flatten(),
                    }
                }
            };
            // A caller that is not further out could make the walk go in circles.
            let Some(caller) = caller.filter(|caller| caller.sp > frame.sp) else {
                captured.truncated = true;
                break WalkEnd::Incomplete;
            };
            if caller.ip == 0 {
                let null = rule.return_address_below(caller.sp);
                break null.map_or(WalkEnd::Incomplete, |slot| WalkEnd::NullReturnAddress { slot });
            }
            // Rules are looked up at an address inside the call instruction.
            frame = Frame { ip: caller.ip - 1, ..caller };
            if !captured.push(frame.ip) {
                break WalkEnd::Incomplete;
            }
        };
        memo.store(captured.frames(), end);
        captured.hash = memo.hash();
    }

    #[inline]
    fn rule(&self, address: u64, modules: &Modules) -> Rule {
        self.rules.get(address).unwrap_or_else(|| self.read_rule(address, modules))
    }

    /// Reads the rule of an address in a permanent module from the tables and caches it. Other
    /// modules are not cached, since another rule may apply at the address later.
    #[cold]
    fn read_rule(&self, address: u64, modules: &Modules) -> Rule {
        let Some(module) = modules.permanent_at(address) else { return Rule::COMPLEX };
        let rule = Rule::read(&modules.tables(module), address);
        self.rules.insert(address, rule);
        rule
    }

    fn lock_engine(&self, lane: usize) -> Option<TryLockGuard<'_, Engine>> {
        let count = self.engines.len();
        // With more runnable threads than cores all holders may be descheduled at once, and
        // yielding lets them finish. After this many attempts something is wrong, and the stack is
        // truncated.
        for attempt in 0..256 {
            let mut locks = (0..count).map(|i| &self.engines[(lane + i) % count]);
            if let Some(mut engine) = locks.find_map(TryLock::try_lock) {
                engine.walk += 1;
                return Some(engine);
            }
            // In a forked child all holders may be threads that the child does not have. When every
            // sample waited for them, a child hung because its parent's twelve threads had left no
            // engine free.
            if std::process::id() != self.process {
                return None;
            }
            if attempt < 8 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        None
    }
}

/// Walks a stack of which only the innermost end is known.
#[cold]
#[inline(never)]
fn walk_foreign_stack(captured: &mut Captured) {
    captured.method = UnwindMethod::Backtrace;
    system::walk(|address| address <= 1 || captured.push(address - 1));
}

impl Engine {
    /// The caller of a frame, with the return address as its `ip`. `None` if it cannot be
    /// determined, `Some(None)` if there is no caller.
    #[expect(clippy::option_option, reason = "unknown and none are different things")]
    fn step(
        &mut self,
        frame: Frame,
        innermost: bool,
        captured: &mut Captured,
        modules: &Modules,
        bounds: Bounds,
    ) -> Option<Option<Frame>> {
        if modules.permanent_at(frame.ip).is_none()
            && !self.ensure_module(frame.ip, captured, modules)
        {
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

    /// Makes sure that the unwinder knows the dynamic module that is currently at an address.
    fn ensure_module(&mut self, address: u64, captured: &mut Captured, modules: &Modules) -> bool {
        let covers = |known: &&mut DynamicModule| (known.range.0..known.range.1).contains(&address);
        let module = match self.dynamic.iter_mut().find(covers) {
            // Checked once per walk: the tables are copies, so a change during the walk does no
            // harm.
            Some(known)
                if known.checked_walk == self.walk || modules.is_unchanged(known.module) =>
            {
                known.checked_walk = self.walk;
                known.module
            }
            _ => {
                let Some(module) = modules.dynamic_at(address) else { return false };
                match self.dynamic.iter().position(|known| known.module == module) {
                    Some(known) => self.dynamic[known].checked_walk = self.walk,
                    None if self.add_module(module, modules) => {}
                    None => return false,
                }
                module
            }
        };
        captured.module_mark = captured.module_mark.max(module);
        true
    }

    /// Adds a module in place of those at overlapping addresses. Returns `false` if there is no
    /// room for its tables. This allocates, from the inner allocator and uncounted, once per engine
    /// and library that `dlopen` loaded.
    #[cold]
    fn add_module(&mut self, module: u32, modules: &Modules) -> bool {
        let Some(tables) = modules.copied_tables(module) else { return false };
        let range = tables.range;
        let overlaps = |old: &mut DynamicModule| old.range.0 < range.1 && range.0 < old.range.1;
        for replaced in self.dynamic.extract_if(.., overlaps) {
            self.unwinder.remove_module(replaced.range.0);
        }
        self.unwinder.add_module(framehop_module(tables));
        self.dynamic.push(DynamicModule { module, range, checked_walk: self.walk });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::recording::sampler::Random;

    const SIZE: Size = Size { engines: 1, rules: 1, memos: 1, depth: 64 };

    /// Frames at random instructions of this program, with registers that point anywhere into
    /// `stack`, or nowhere.
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

    /// Applies rules that do not fit the stack at all. A read outside of it would crash the
    /// process.
    #[test]
    fn walks_with_wrong_registers_end_without_a_crash() {
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

    /// If both our rules and framehop find a frame's caller, they find the same one.
    #[test]
    fn ordinary_rules_find_the_same_callers_as_framehop() {
        let modules = Modules::new().unwrap();
        let dwarf = Walker::new(&SIZE, &modules).unwrap();
        let mut random = Random::new(5, 0);
        // Return addresses have no signature, which is above bit 47 on aarch64: there, ours and
        // framehop remove different bits of one.
        let memory: Vec<u64> = (0..1 << 15).map(|_| random.next() >> 17 | 1).collect();
        let stack = memory.as_ptr_range();
        let stack = stack.start as u64..stack.end as u64;
        let mut engine = dwarf.lock_engine(0).unwrap();
        let (mut agreed, mut ordinary) = (0, 0);
        for frame in frames(&modules, 200_000, stack.clone()) {
            let rule = dwarf.rule(frame.ip, &modules);
            let Step::Caller { distance } = rule.step() else { continue };
            ordinary += 1;
            let bounds = Bounds::new(frame.sp, stack.end);
            let ours = frame.caller(rule, frame.caller_sp(rule, distance), bounds);
            let theirs =
                engine.step(frame, false, &mut Captured::new(false), &modules, bounds).flatten();
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                assert_eq!(ours, theirs, "at {frame:x?}");
                agreed += 1;
            }
        }
        // On aarch64 more rules are complex: 86,160 callers are found.
        let least = if cfg!(target_arch = "x86_64") { 100_000 } else { 50_000 };
        assert!(ordinary > least, "expected more ordinary rules than {ordinary}");
        assert!(agreed > least, "expected more callers than {agreed}");
    }
}
