//! The differences between architectures: registers, and how a return address is stored.

#[cfg(target_arch = "aarch64")]
pub(super) use aarch64::*;
#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::*;

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    pub(crate) type Unwinder<D> =
        framehop::x86_64::UnwinderX86_64<D, framehop::MustNotAllocateDuringUnwind>;
    pub(crate) type Cache = framehop::x86_64::CacheX86_64<framehop::MustNotAllocateDuringUnwind>;
    pub(crate) type Registers = framehop::x86_64::UnwindRegsX86_64;

    /// The instruction, stack and frame pointer of the function that this is inlined into.
    #[inline(always)]
    pub(crate) fn current_registers() -> (u64, u64, u64) {
        let (ip, sp, bp): (u64, u64, u64);
        // SAFETY: the instructions only copy registers; they access no memory and change no flags.
        unsafe {
            std::arch::asm!(
                "lea {}, [rip]", "mov {}, rsp", "mov {}, rbp",
                out(reg) ip, out(reg) sp, out(reg) bp,
                options(nomem, nostack, preserves_flags),
            );
        }
        (ip, sp, bp)
    }

    pub(crate) fn registers(ip: u64, sp: u64, bp: u64) -> Registers {
        Registers::new(ip, sp, bp)
    }

    pub(crate) fn frame_pointer(registers: &Registers) -> u64 {
        registers.bp()
    }

    /// Removes the pointer authentication code (PAC) from a stored return address.
    pub(crate) fn strip_pac(return_address: u64) -> u64 {
        return_address
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    pub(crate) type Unwinder<D> =
        framehop::aarch64::UnwinderAarch64<D, framehop::MustNotAllocateDuringUnwind>;
    pub(crate) type Cache = framehop::aarch64::CacheAarch64<framehop::MustNotAllocateDuringUnwind>;
    pub(crate) type Registers = framehop::aarch64::UnwindRegsAarch64;

    /// The instruction, stack and frame pointers of the function that this is inlined into. That
    /// function must not be a leaf, so that its return address is saved on the stack.
    #[inline(always)]
    pub(crate) fn current_registers() -> (u64, u64, u64) {
        let (ip, sp, fp): (u64, u64, u64);
        // SAFETY: the instructions only copy registers; they access no memory and change no flags.
        unsafe {
            std::arch::asm!(
                "adr {}, .", "mov {}, sp", "mov {}, x29",
                out(reg) ip, out(reg) sp, out(reg) fp,
                options(nomem, nostack, preserves_flags),
            );
        }
        (ip, sp, fp)
    }

    pub(crate) fn registers(ip: u64, sp: u64, fp: u64) -> Registers {
        Registers::new(ip, sp, fp)
    }

    pub(crate) fn frame_pointer(registers: &Registers) -> u64 {
        registers.fp()
    }

    /// Removes the pointer authentication code (PAC) from a stored return address.
    pub(crate) fn strip_pac(return_address: u64) -> u64 {
        return_address & ((1 << 48) - 1)
    }
}
