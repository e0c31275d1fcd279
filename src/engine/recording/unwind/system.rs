//! The unwinder that the standard library itself links to, for panics: libgcc's or LLVM's.
//!
//! It is the one that walks the stacks of coroutines and of platforms without a walk of our own. It
//! reads the same tables, and takes a lock of the loader meanwhile.

use std::ffi::{c_int, c_void};

/// `_Unwind_Context`, which only the unwinder looks into.
#[repr(C)]
struct Context {
    _opaque: [u8; 0],
}

/// `_URC_NO_REASON`: go on with the caller.
const GO_ON: c_int = 0;
/// `_URC_FAILURE`, which ends the walk.
const STOP: c_int = 9;

unsafe extern "C" {
    fn _Unwind_Backtrace(
        visit: extern "C" fn(*mut Context, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    #[cfg(not(target_arch = "arm"))]
    fn _Unwind_GetIP(context: *mut Context) -> usize;
    /// On 32-bit ARM `_Unwind_GetIP` is a macro in terms of this.
    #[cfg(target_arch = "arm")]
    fn _Unwind_VRS_Get(
        context: *mut Context,
        class: c_int,
        register: u32,
        representation: c_int,
        value: *mut c_void,
    ) -> c_int;
}

/// Calls `visit` with the return address of each frame of the calling thread, the innermost first,
/// until it returns `false`.
pub(super) fn walk<F: FnMut(u64) -> bool>(mut visit: F) {
    extern "C" fn step<F: FnMut(u64) -> bool>(context: *mut Context, visit: *mut c_void) -> c_int {
        // SAFETY: the pointer that `walk` passes on, which lives until the walk ends, and nobody
        // else uses it meanwhile.
        let visit = unsafe { &mut *visit.cast::<F>() };
        if visit(return_address(context)) { GO_ON } else { STOP }
    }
    // SAFETY: `step` gets back its argument, and does not unwind: `visit` of this crate does not
    // panic, and if it did, a function of the C ABI would abort.
    unsafe { _Unwind_Backtrace(step::<F>, (&raw mut visit).cast()) };
}

#[cfg(not(target_arch = "arm"))]
fn return_address(context: *mut Context) -> u64 {
    // SAFETY: the context of the frame that is being visited.
    (unsafe { _Unwind_GetIP(context) }) as u64
}

#[cfg(target_arch = "arm")]
fn return_address(context: *mut Context) -> u64 {
    const CORE_REGISTERS: c_int = 0;
    const PROGRAM_COUNTER: u32 = 15;
    const UNSIGNED: c_int = 0;
    let mut address = 0_u32;
    // SAFETY: the context of the frame that is being visited; writes one word.
    unsafe {
        _Unwind_VRS_Get(
            context,
            CORE_REGISTERS,
            PROGRAM_COUNTER,
            UNSIGNED,
            (&raw mut address).cast(),
        )
    };
    // The lowest bit tells the instruction set.
    u64::from(address & !1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn addresses(limit: usize) -> Vec<u64> {
        let mut addresses = Vec::new();
        walk(|address| {
            addresses.push(address);
            addresses.len() < limit
        });
        addresses
    }

    #[test]
    fn it_is_the_walk_of_the_backtrace_crate() {
        let ours = addresses(usize::MAX);
        let mut theirs = Vec::new();
        backtrace::trace(|frame| {
            theirs.push(frame.ip() as u64);
            true
        });
        // The innermost frames are those of the two walks, and of the two lines here.
        let common = ours.iter().rev().zip(theirs.iter().rev()).take_while(|(a, b)| a == b);
        assert!(common.count() + 5 >= theirs.len().max(ours.len()), "{ours:x?} {theirs:x?}");
    }

    #[test]
    fn it_ends_where_it_is_told_to() {
        assert_eq!(addresses(2).len(), 2);
    }
}
