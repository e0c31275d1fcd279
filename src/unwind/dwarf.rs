//! The walk by DWARF tables, with framehop, on Linux.
//!
//! An *engine* is an unwinder with its cache of rules. A thread takes a free one for the length of
//! a walk; it starts looking at its own favourite, whose cache is warm. Engines are made when
//! recording starts, and never on the hook path.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use framehop::{ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _};

use super::modules::UnwindTables;
use super::{By, Captured, Modules};

type Tables = &'static [u8];

#[cfg(target_arch = "x86_64")]
mod arch {
    pub(super) type Unwinder<D> =
        framehop::x86_64::UnwinderX86_64<D, framehop::MustNotAllocateDuringUnwind>;
    pub(super) type Cache = framehop::x86_64::CacheX86_64<framehop::MustNotAllocateDuringUnwind>;
    pub(super) type Registers = framehop::x86_64::UnwindRegsX86_64;

    /// The registers of the function that this is inlined into.
    #[inline(always)]
    pub(super) fn registers() -> (u64, Registers) {
        let (ip, sp, bp): (u64, u64, u64);
        // SAFETY: reads three registers, touches nothing.
        unsafe {
            std::arch::asm!(
                "lea {}, [rip]", "mov {}, rsp", "mov {}, rbp",
                out(reg) ip, out(reg) sp, out(reg) bp,
                options(nomem, nostack, preserves_flags),
            );
        }
        (ip, Registers::new(ip, sp, bp))
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    pub(super) type Unwinder<D> =
        framehop::aarch64::UnwinderAarch64<D, framehop::MustNotAllocateDuringUnwind>;
    pub(super) type Cache = framehop::aarch64::CacheAarch64<framehop::MustNotAllocateDuringUnwind>;
    pub(super) type Registers = framehop::aarch64::UnwindRegsAarch64;

    /// The registers of the function that this is inlined into.
    #[inline(always)]
    pub(super) fn registers() -> (u64, Registers) {
        let (ip, lr, sp, fp): (u64, u64, u64, u64);
        // SAFETY: reads four registers, touches nothing.
        unsafe {
            std::arch::asm!(
                "adr {}, .", "mov {}, x30", "mov {}, sp", "mov {}, x29",
                out(reg) ip, out(reg) lr, out(reg) sp, out(reg) fp,
                options(nomem, nostack, preserves_flags),
            );
        }
        (ip, Registers::new(lr, sp, fp))
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

/// The engines of a session.
pub(super) struct Dwarf {
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

    pub(super) fn new(engines: usize, modules: &Modules) -> Self {
        let seat = |_| {
            let mut unwinder = arch::Unwinder::default();
            for module in 0..modules.permanent() {
                unwinder.add_module(framehop_module(modules.tables(module)));
            }
            let engine =
                Engine { unwinder, cache: arch::Cache::default(), dynamic: Vec::with_capacity(8) };
            Seat { taken: AtomicBool::new(false), engine: UnsafeCell::new(engine) }
        };
        Self { seats: (0..engines.max(1)).map(seat).collect(), process: std::process::id() }
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
        let (ip, registers) = arch::registers();
        let Some(stack) = stack.filter(|stack| stack.contains(&(registers.sp() as usize))) else {
            return false;
        };
        captured.by = By::Framehop;
        let Some(seat) = self.take(favourite) else {
            captured.by = By::Nobody;
            captured.truncated = true;
            return true;
        };
        // SAFETY: this thread won the seat.
        let engine = unsafe { &mut *seat.engine.get() };
        engine.walk(captured, ip, registers, stack, modules);
        // Release: pairs with the acquire in `take`.
        seat.taken.store(false, Ordering::Release);
        true
    }

    fn take(&self, favourite: usize) -> Option<&Seat> {
        let count = self.seats.len();
        // With more runnable threads than cores all holders may be off the processor at once.
        // Yielding lets them finish; after this many times something is wrong, and the stack is
        // given up.
        for attempt in 0..256 {
            let free = (0..count).map(|i| &self.seats[(favourite + i) % count]).find(|seat| {
                // Acquire: pairs with the release in `capture`.
                !seat.taken.load(Ordering::Relaxed) && !seat.taken.swap(true, Ordering::Acquire)
            });
            if free.is_some() {
                return free;
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
    fn walk(
        &mut self,
        captured: &mut Captured,
        ip: u64,
        mut registers: arch::Registers,
        stack: Range<usize>,
        modules: &Modules,
    ) {
        let bounds = Bounds { bottom: registers.sp(), top: stack.end as u64 };
        let mut read = |address| bounds.read(address);
        let mut frame = FrameAddress::from_instruction_pointer(ip);
        let mut sp = bounds.bottom;
        loop {
            let address = frame.address_for_lookup();
            if !modules.is_permanent(address) && !self.learn(address, captured, modules) {
                captured.truncated = true;
                return;
            }
            match self.unwinder.unwind_frame(frame, &mut registers, &mut self.cache, &mut read) {
                Ok(Some(return_address)) => {
                    let next = FrameAddress::from_return_address(return_address);
                    // A frame that does not lead outward would lead in circles.
                    let outward = frame.address() == ip || registers.sp() > sp;
                    let Some(next) = next.filter(|_| outward) else {
                        captured.truncated = return_address != 0;
                        return;
                    };
                    if !captured.push(next.address_for_lookup()) {
                        return;
                    }
                    (frame, sp) = (next, registers.sp());
                }
                Ok(None) => return,
                Err(_) => {
                    captured.truncated = true;
                    return;
                }
            }
        }
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
    let mapped = |(start, end): (u64, u64)| {
        // SAFETY: a read-only part of a loaded module. A permanent module stays; a dynamic one is
        // looked at only while one of its functions is on the stack.
        (end > start).then(|| unsafe {
            std::slice::from_raw_parts(start as *const u8, (end - start) as usize)
        })
    };
    let sections = ExplicitModuleSectionInfo {
        base_svma: 0,
        eh_frame_svma: stated(tables.eh_frame),
        eh_frame: mapped(tables.eh_frame),
        eh_frame_hdr_svma: stated(tables.eh_frame_hdr),
        eh_frame_hdr: mapped(tables.eh_frame_hdr),
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

    /// Walks from any instruction of this program with any registers: rules that do not fit the
    /// stack at all. A read outside of it would end the process.
    #[test]
    fn walks_with_wrong_registers_end_by_themselves() {
        let modules = Modules::new().unwrap();
        let dwarf = Dwarf::new(1, &modules);
        let stack = crate::sys::own_stack().unwrap();
        let (start, end) = modules.tables(0).range;
        let mut random = Random::new(17, 0);
        let here = &raw const random as u64;
        for round in 0..20_000 {
            let ip = start + random.next() % (end - start);
            let sp = here + random.next() % (stack.end as u64 - here);
            let fp = if round % 2 == 0 { random.next() } else { sp + random.next() % 4096 };
            // On both architectures: what leads to the caller, the stack and the frame pointer.
            let registers = arch::Registers::new(ip, sp, fp);
            let mut captured = Captured::new();
            captured.limit = 64;
            // SAFETY: nobody else uses this unwinder.
            let engine = unsafe { &mut *dwarf.seats[0].engine.get() };
            engine.walk(&mut captured, ip, registers, stack.clone(), &modules);
            assert!(captured.frames().len() <= 64);
        }
    }
}
