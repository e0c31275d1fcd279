//! The walk by DWARF tables, on Linux.
//!
//! Frames with an ordinary [`Rule`] are walked here; others by framehop. An *engine* is framehop's
//! unwinder with its cache. A walk that meets such a frame takes a free one and keeps it to its end;
//! it starts looking at its thread's favourite, whose cache is warm. Engines are made when recording
//! starts, and never on the hook path.

use std::cell::UnsafeCell;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use framehop::{ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _};

use super::modules::UnwindTables;
use super::rules::{Rule, Rules, Step};
use super::{By, Captured, Modules};

type Tables = &'static [u8];

#[cfg(target_arch = "x86_64")]
mod arch {
    pub(super) type Unwinder<D> =
        framehop::x86_64::UnwinderX86_64<D, framehop::MustNotAllocateDuringUnwind>;
    pub(super) type Cache = framehop::x86_64::CacheX86_64<framehop::MustNotAllocateDuringUnwind>;
    pub(super) type Registers = framehop::x86_64::UnwindRegsX86_64;

    /// Instruction, stack and frame pointer of the function that this is inlined into.
    #[inline(always)]
    pub(super) fn here() -> (u64, u64, u64) {
        let (ip, sp, bp): (u64, u64, u64);
        // SAFETY: reads three registers, touches nothing.
        unsafe {
            std::arch::asm!(
                "lea {}, [rip]", "mov {}, rsp", "mov {}, rbp",
                out(reg) ip, out(reg) sp, out(reg) bp,
                options(nomem, nostack, preserves_flags),
            );
        }
        (ip, sp, bp)
    }

    pub(super) fn registers(ip: u64, sp: u64, bp: u64) -> Registers {
        Registers::new(ip, sp, bp)
    }

    pub(super) fn frame_pointer(registers: &Registers) -> u64 {
        registers.bp()
    }

    /// A return address as it is stored, without the processor's signature.
    pub(super) fn strip(return_address: u64) -> u64 {
        return_address
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    pub(super) type Unwinder<D> =
        framehop::aarch64::UnwinderAarch64<D, framehop::MustNotAllocateDuringUnwind>;
    pub(super) type Cache = framehop::aarch64::CacheAarch64<framehop::MustNotAllocateDuringUnwind>;
    pub(super) type Registers = framehop::aarch64::UnwindRegsAarch64;

    /// Instruction, stack and frame pointer of the function that this is inlined into. It is no
    /// leaf: its return address is on the stack.
    #[inline(always)]
    pub(super) fn here() -> (u64, u64, u64) {
        let (ip, sp, fp): (u64, u64, u64);
        // SAFETY: reads three registers, touches nothing.
        unsafe {
            std::arch::asm!(
                "adr {}, .", "mov {}, sp", "mov {}, x29",
                out(reg) ip, out(reg) sp, out(reg) fp,
                options(nomem, nostack, preserves_flags),
            );
        }
        (ip, sp, fp)
    }

    pub(super) fn registers(ip: u64, sp: u64, fp: u64) -> Registers {
        Registers::new(ip, sp, fp)
    }

    pub(super) fn frame_pointer(registers: &Registers) -> u64 {
        registers.fp()
    }

    /// A return address as it is stored, without the processor's signature.
    pub(super) fn strip(return_address: u64) -> u64 {
        return_address & ((1 << 48) - 1)
    }
}

struct Engine {
    unwinder: arch::Unwinder<Tables>,
    cache: arch::Cache,
    /// The dynamic modules that the unwinder knows, by number.
    dynamic: Vec<(u32, UnwindTables)>,
}

/// An engine and whether somebody walks with it.
struct Seat {
    taken: AtomicBool,
    engine: UnsafeCell<Engine>,
}

// SAFETY: the engine is touched only between winning `taken` and giving it back.
unsafe impl Sync for Seat {}

/// A taken seat, given back when dropped.
struct Taken<'a>(&'a Seat);

impl Taken<'_> {
    fn engine(&mut self) -> &mut Engine {
        // SAFETY: whoever has taken the seat is alone with it.
        unsafe { &mut *self.0.engine.get() }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // Release: pairs with the acquire in `Dwarf::take`.
        self.0.taken.store(false, Ordering::Release);
    }
}

/// The rules and engines of a session.
pub(super) struct Dwarf {
    rules: Rules,
    seats: Box<[Seat]>,
    /// The process of the threads that take seats.
    process: u32,
}

impl std::fmt::Debug for Dwarf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dwarf").field("engines", &self.seats.len()).finish()
    }
}

impl Dwarf {
    /// The cache of rules (509 of 16 bytes), gimli's contexts for evaluation, and the module list.
    pub(super) const ENGINE_BYTES: u64 = 32 << 10;
    /// One of ours.
    pub(super) const RULE_BYTES: u64 = 8;

    pub(super) fn new(engines: usize, rules: usize, modules: &Modules) -> io::Result<Self> {
        let seat = |_| {
            let mut unwinder = arch::Unwinder::default();
            for module in 0..modules.permanent() {
                unwinder.add_module(framehop_module(modules.tables(module)));
            }
            let engine =
                Engine { unwinder, cache: arch::Cache::default(), dynamic: Vec::with_capacity(8) };
            Seat { taken: AtomicBool::new(false), engine: UnsafeCell::new(engine) }
        };
        Ok(Self {
            rules: Rules::new(rules)?,
            seats: (0..engines.max(1)).map(seat).collect(),
            process: std::process::id(),
        })
    }

    /// Walks the caller's stack. `false` where the stack is not the thread's own: nothing is
    /// captured, somebody else must.
    #[inline(always)]
    pub(super) fn capture(
        &self,
        captured: &mut Captured,
        stack: Option<Range<usize>>,
        favourite: usize,
        modules: &Modules,
    ) -> bool {
        let (ip, sp, fp) = arch::here();
        let Some(stack) = stack.filter(|stack| stack.contains(&(sp as usize))) else {
            return false;
        };
        captured.by = By::Framehop;
        self.walk(captured, Frame { ip, sp, fp }, stack.end as u64, favourite, modules);
        true
    }

    fn walk(
        &self,
        captured: &mut Captured,
        innermost: Frame,
        stack_end: u64,
        favourite: usize,
        modules: &Modules,
    ) {
        let bounds = Bounds { bottom: innermost.sp, top: stack_end };
        let mut seat: Option<Taken<'_>> = None;
        let mut frame = innermost;
        loop {
            let caller = match self.step(&frame, modules) {
                Step::Out { from_frame_pointer, distance, return_address, frame_pointer } => {
                    let base = if from_frame_pointer { frame.fp } else { frame.sp };
                    frame.out(base.wrapping_add(distance), return_address, frame_pointer, bounds)
                }
                Step::End => return,
                Step::Foreign => {
                    if seat.is_none() {
                        seat = self.take(favourite);
                    }
                    let Some(seat) = &mut seat else {
                        captured.by = By::Nobody;
                        captured.truncated = true;
                        return;
                    };
                    let first = frame == innermost;
                    match seat.engine().step(&frame, first, captured, modules, bounds) {
                        Some(None) => return,
                        known => known.flatten(),
                    }
                }
            };
            // A frame that does not lead outward would lead in circles.
            let Some(caller) = caller.filter(|caller| caller.sp > frame.sp) else {
                captured.truncated = true;
                return;
            };
            if caller.ip == 0 {
                return;
            }
            // The lookup address: inside the call instruction.
            frame = Frame { ip: caller.ip - 1, ..caller };
            if !captured.push(frame.ip) {
                return;
            }
        }
    }

    #[inline]
    fn step(&self, frame: &Frame, modules: &Modules) -> Step {
        self.rules.get(frame.ip).unwrap_or_else(|| self.learn(frame.ip, modules)).step()
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

    fn take(&self, favourite: usize) -> Option<Taken<'_>> {
        let count = self.seats.len();
        // With more runnable threads than cores all holders may be off the processor at once.
        // Yielding lets them finish; after this many times something is wrong, and the stack is
        // given up.
        for attempt in 0..256 {
            let free = (0..count).map(|i| &self.seats[(favourite + i) % count]).find(|seat| {
                // Acquire: pairs with the release in `Taken::drop`.
                !seat.taken.load(Ordering::Relaxed) && !seat.taken.swap(true, Ordering::Acquire)
            });
            if free.is_some() {
                return free.map(Taken);
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

/// Where a function is, and where its variables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    /// Of the innermost frame the current instruction, of others inside the call.
    ip: u64,
    sp: u64,
    fp: u64,
}

impl Frame {
    /// The caller, whose stack pointer is `sp`; its `ip` is the return address. `None` when that
    /// asks for memory outside the bounds.
    #[inline]
    fn out(self, sp: u64, return_address: u64, fp: Option<u64>, bounds: Bounds) -> Option<Self> {
        let below = |distance: u64| bounds.read(sp.wrapping_sub(distance)).ok();
        let ip = arch::strip(below(return_address)?);
        let fp = fp.map_or(Some(self.fp), below)?;
        Some(Self { ip, sp, fp })
    }
}

/// The part of the own stack that is in use: all that a walk may read.
#[derive(Clone, Copy)]
struct Bounds {
    bottom: u64,
    top: u64,
}

impl Bounds {
    fn contain(self, address: u64) -> bool {
        address >= self.bottom
            && address.checked_add(8).is_some_and(|end| end <= self.top)
            && address.is_multiple_of(8)
    }

    #[inline]
    fn read(self, address: u64) -> Result<u64, ()> {
        if !self.contain(address) {
            return Err(());
        }
        // SAFETY: between the stack pointer and the end of this thread's stack: mapped, and not
        // written by anybody else.
        Ok(unsafe { (address as *const u64).read_volatile() })
    }
}

impl Engine {
    /// The caller of a frame, with the return address as its `ip`. `None` where that cannot be
    /// told, `Some(None)` where there is none.
    #[expect(clippy::option_option, reason = "unknown and none are different things")]
    fn step(
        &mut self,
        frame: &Frame,
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
        let mut read = |address| bounds.read(address);
        let caller =
            self.unwinder.unwind_frame(address, &mut registers, &mut self.cache, &mut read).ok()?;
        Some(caller.map(|ip| Frame { ip, sp: registers.sp(), fp: arch::frame_pointer(&registers) }))
    }

    /// Makes sure that the module at an address outside the permanent ones is known as it is now.
    fn learn(&mut self, address: u64, captured: &mut Captured, modules: &Modules) -> bool {
        let Some(module) = modules.dynamic_at(address) else { return false };
        captured.module_mark = captured.module_mark.max(module);
        if self.dynamic.iter().any(|(known, _)| *known == module) {
            return true;
        }
        self.add(module, modules.tables(module));
        true
    }

    /// Replaces whatever was known at the addresses of a module. This allocates, from the inner
    /// allocator and uncounted: once for each engine and library that `dlopen` loaded.
    #[cold]
    fn add(&mut self, module: u32, tables: UnwindTables) {
        let overlaps =
            |old: &UnwindTables| old.range.0 < tables.range.1 && tables.range.0 < old.range.1;
        for (_, gone) in self.dynamic.extract_if(.., |(_, old)| overlaps(old)) {
            self.unwinder.remove_module(gone.range.0);
        }
        self.unwinder.add_module(framehop_module(tables));
        self.dynamic.push((module, tables));
    }
}

/// The walk reads unwind tables where the loader mapped them.
fn framehop_module(tables: UnwindTables) -> Module<Tables> {
    let stated = |(start, end): (u64, u64)| {
        (end > start).then(|| start.wrapping_sub(tables.bias)..end.wrapping_sub(tables.bias))
    };
    let sections = ExplicitModuleSectionInfo {
        base_svma: 0,
        eh_frame_svma: stated(tables.eh_frame),
        eh_frame: tables.mapped(tables.eh_frame),
        eh_frame_hdr_svma: stated(tables.eh_frame_hdr),
        eh_frame_hdr: tables.mapped(tables.eh_frame_hdr),
        ..ExplicitModuleSectionInfo::default()
    };
    Module::new(String::new(), tables.range.0..tables.range.1, tables.bias, sections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Random;

    #[test]
    fn nothing_outside_the_bounds_is_read() {
        let bounds = Bounds { bottom: 0x1000, top: 0x2000 };
        for inside in [0x1000, 0x1008, 0x1ff8] {
            assert!(bounds.contain(inside));
        }
        for outside in [0, 0xff8, 0x1001, 0x1ff9, 0x1ffc, 0x2000, u64::MAX, u64::MAX - 7] {
            assert_eq!(bounds.read(outside), Err(()));
        }
    }

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
        let dwarf = Dwarf::new(1, 1, &modules).unwrap();
        let stack_end = crate::sys::own_stack().unwrap().end as u64;
        let here = &raw const stack_end as u64;
        for frame in frames(&modules, 20_000, here..stack_end) {
            let mut captured = Captured::new();
            captured.limit = 64;
            dwarf.walk(&mut captured, frame, stack_end, 0, &modules);
            assert!(captured.frames().len() <= 64);
        }
    }

    /// Where both can tell the caller of a frame, our rules and framehop tell the same.
    #[test]
    fn rules_and_framehop_agree() {
        let modules = Modules::new().unwrap();
        let dwarf = Dwarf::new(1, 1, &modules).unwrap();
        let mut random = Random::new(5, 0);
        let memory: Vec<u64> = (0..1 << 15).map(|_| random.next() | 1).collect();
        let stack = memory.as_ptr_range();
        let stack = stack.start as u64..stack.end as u64;
        let mut seat = dwarf.take(0).unwrap();
        let (mut agreed, mut ordinary) = (0, 0);
        for frame in frames(&modules, 200_000, stack.clone()) {
            let Step::Out { from_frame_pointer, distance, return_address, frame_pointer } =
                dwarf.step(&frame, &modules)
            else {
                continue;
            };
            ordinary += 1;
            let base = if from_frame_pointer { frame.fp } else { frame.sp };
            let bounds = Bounds { bottom: frame.sp, top: stack.end };
            let sp = base.wrapping_add(distance);
            let ours = frame.out(sp, return_address, frame_pointer, bounds);
            let theirs =
                seat.engine().step(&frame, false, &mut Captured::new(), &modules, bounds).flatten();
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                assert_eq!(ours, theirs, "at {frame:x?}");
                agreed += 1;
            }
        }
        assert!(ordinary > 100_000, "most of a program is ordinary: {ordinary}");
        assert!(agreed > 100_000, "and most callers can be told: {agreed}");
    }
}
