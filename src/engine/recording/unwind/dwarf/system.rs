//! The unwinder that the standard library links to for panics: libgcc's or LLVM's.
//!
//! It walks the stacks of coroutines and signal handlers, whose bounds are unknown. It reads the
//! same unwind tables as [`dwarf`](super::dwarf) and takes a lock of the loader while it does.

use std::ffi::{c_int, c_void};

/// `_Unwind_Context`, which is opaque to its users.
#[repr(C)]
struct Context {
    _opaque: [u8; 0],
}

/// `_URC_NO_REASON`: continue with the caller.
const CONTINUE: c_int = 0;
/// `_URC_FAILURE`: end the walk.
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

/// Calls `visit` with the return address of each frame of the calling thread, innermost first,
/// until `visit` returns `false`.
pub(super) fn walk<F: FnMut(u64) -> bool>(mut visit: F) {
    extern "C" fn step<F: FnMut(u64) -> bool>(context: *mut Context, visit: *mut c_void) -> c_int {
        // SAFETY: this is the pointer to `visit` that `walk` passes below; `visit` outlives the
        // walk, and nothing else uses it during the walk.
        let visit = unsafe { &mut *visit.cast::<F>() };
        if visit(return_address(context)) { CONTINUE } else { STOP }
    }
    // SAFETY: `step` has the declared type and receives the pointer to `visit` that is passed here.
    // It never unwinds into C: the visitors of this crate do not panic, and a panic in an `extern
    // "C"` function aborts.
    unsafe { _Unwind_Backtrace(step::<F>, (&raw mut visit).cast()) };
}

#[cfg(not(target_arch = "arm"))]
fn return_address(context: *mut Context) -> u64 {
    // SAFETY: `_Unwind_Backtrace` passes a context that is valid while its frame is visited.
    (unsafe { _Unwind_GetIP(context) }) as u64
}

#[cfg(target_arch = "arm")]
fn return_address(context: *mut Context) -> u64 {
    const CORE_REGISTERS: c_int = 0;
    const PROGRAM_COUNTER: u32 = 15;
    const UNSIGNED: c_int = 0;
    let mut address = 0_u32;
    // SAFETY: `_Unwind_Backtrace` passes a context that is valid while its frame is visited. The
    // call writes one 32-bit word, to `address`.
    unsafe {
        _Unwind_VRS_Get(
            context,
            CORE_REGISTERS,
            PROGRAM_COUNTER,
            UNSIGNED,
            (&raw mut address).cast(),
        )
    };
    // The lowest bit selects the instruction set (ARM or Thumb).
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
    fn the_walk_yields_the_frames_of_the_backtrace_crate() {
        let ours = addresses(usize::MAX);
        let mut theirs = Vec::new();
        backtrace::trace(|frame| {
            theirs.push(frame.ip() as u64);
            true
        });
        // The innermost frames differ: they belong to the two walks and to the two calls in this
        // test.
        let common = ours.iter().rev().zip(theirs.iter().rev()).take_while(|(a, b)| a == b);
        assert!(common.count() + 5 >= theirs.len().max(ours.len()), "{ours:x?} {theirs:x?}");
    }

    #[test]
    fn the_walk_ends_when_the_visitor_returns_false() {
        assert_eq!(addresses(2).len(), 2);
    }
}
