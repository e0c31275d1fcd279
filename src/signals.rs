//! The signals that can trigger a dump.

/// Returns the number of a signal, given by its name with or without `SIG`, or in digits. `None` if
/// the name is not known.
pub(crate) fn number(text: &str) -> Option<i32> {
    match text.strip_prefix("SIG").unwrap_or(text) {
        "USR1" => Some(numbers::USR1),
        "USR2" => Some(numbers::USR2),
        "HUP" => Some(numbers::HUP),
        number => number.parse().ok(),
    }
}

/// Whether a handler can be installed for the signal and can return. SIGSEGV, SIGILL and SIGFPE are
/// excluded: a faulty instruction raises them, and would raise them again when the handler returns.
pub(crate) fn is_catchable(signal: i32) -> bool {
    use numbers::{FPE, ILL, KILL, SEGV, STOP};
    (1..=64).contains(&signal) && ![KILL, STOP, SEGV, ILL, FPE].contains(&signal)
}

#[cfg(all(unix, feature = "profiling"))]
mod numbers {
    pub(super) use libc::{SIGFPE as FPE, SIGHUP as HUP, SIGILL as ILL, SIGKILL as KILL};
    pub(super) use libc::{SIGSEGV as SEGV, SIGSTOP as STOP, SIGUSR1 as USR1, SIGUSR2 as USR2};
}

/// The numbers of Linux. No signal is handled in this build, but it must accept and reject the same
/// settings as a build that records.
#[cfg(not(all(unix, feature = "profiling")))]
mod numbers {
    pub(super) const HUP: i32 = 1;
    pub(super) const ILL: i32 = 4;
    pub(super) const FPE: i32 = 8;
    pub(super) const KILL: i32 = 9;
    pub(super) const USR1: i32 = 10;
    pub(super) const SEGV: i32 = 11;
    pub(super) const USR2: i32 = 12;
    pub(super) const STOP: i32 = 19;
}
