//! Signal masks, file locks and standard error on Unix.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr;

use super::Lock;

/// Signals that a faulty instruction or a refused system call of the thread itself raises. The
/// kernel kills a process that has blocked them then, without calling the handler that the service
/// may have for its crash reports.
const OF_FAULTS: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];

/// Signals that the kernel sends to a thread because of a write: beyond the limit on file sizes,
/// and to a pipe that nobody reads. Unless they are handled they kill the process.
const OF_WRITES: [libc::c_int; 2] = [libc::SIGXFSZ, libc::SIGPIPE];

/// Runs `work` with all signals blocked on this thread, except those of faults, and restores the
/// mask. Threads that `work` starts inherit the blocked signals.
pub(crate) fn without_signals<R>(work: impl FnOnce() -> R) -> R {
    let mut set = empty_set();
    // SAFETY: `set` is an initialised signal set.
    let _ = unsafe { libc::sigfillset(&raw mut set) };
    for signal in OF_FAULTS {
        // SAFETY: `set` is an initialised signal set.
        let _ = unsafe { libc::sigdelset(&raw mut set, signal) };
    }
    let _mask = Mask::change(libc::SIG_SETMASK, &set);
    work()
}

/// Unblocks a signal on this thread.
pub(crate) fn admit_signal(signal: i32) {
    let set = set_of(&[signal]);
    // SAFETY: `set` is an initialised signal set, and a null pointer asks for no old mask.
    let _ = unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) };
}

/// Runs `work`, whose writes then raise no signals on this thread: they only fail.
///
/// Linux sends these signals to the thread that writes, so that blocking them there is enough.
/// macOS and FreeBSD send SIGXFSZ to the process, where another thread may take it.
pub(crate) fn without_write_signals<R>(work: impl FnOnce() -> R) -> R {
    // Signals are consumed before the mask is restored, also after a panic.
    let _mask = Mask::change(libc::SIG_BLOCK, &set_of(&OF_WRITES));
    let _consume = Consume { pending_before: pending() };
    work()
}

/// Locks a file without waiting, for as long as it is open.
pub(crate) fn try_lock(file: &File) -> Lock {
    // SAFETY: the descriptor is open as long as `file`.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Lock::Acquired;
    }
    match io::Error::last_os_error().kind() {
        io::ErrorKind::WouldBlock => Lock::HeldElsewhere,
        _ => Lock::Unsupported,
    }
}

/// Opens an existing file for writing and leaves its contents. Follows no symbolic link, and does
/// not wait for the reader of a FIFO.
pub(crate) fn open_in_place(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

/// Prints a line to standard error. Errors are ignored, and nothing is printed to a pipe or
/// terminal that is full: its reader may be gone for good.
pub(crate) fn say(line: &str) {
    /// What Linux's pipes take without waiting if they are writable at all (`PIPE_BUF`).
    const MAX_BYTES: usize = 4096;

    let mut poll = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: `poll` is one valid entry. The call does not wait.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    if ready != 1 || poll.revents & libc::POLLOUT == 0 {
        return;
    }
    let line = format!("{line}\n");
    let line = &line.as_bytes()[..line.len().min(MAX_BYTES)];
    // Not by `std::io::stderr`: another thread may hold its lock, and wait.
    without_write_signals(|| {
        // SAFETY: the pointer and the length are those of `line`.
        let _ = unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
    });
}

/// Like [`say`], but prints nothing if standard error is a file, for whose disk it would have to
/// wait.
pub(crate) fn say_unless_to_file(line: &str) {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `status` has room for what the call writes.
    if unsafe { libc::fstat(libc::STDERR_FILENO, status.as_mut_ptr()) } != 0 {
        return;
    }
    // SAFETY: the call has filled it; zeros are a valid value in any case.
    let status = unsafe { status.assume_init() };
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        say(line);
    }
}

/// Restores the thread's signal mask when it is dropped.
struct Mask {
    /// `None` if the mask could not be changed.
    before: Option<libc::sigset_t>,
}

impl Mask {
    fn change(how: libc::c_int, set: &libc::sigset_t) -> Self {
        let mut before = empty_set();
        // SAFETY: `set` is an initialised signal set, and `before` has room for another.
        let refused = unsafe { libc::pthread_sigmask(how, set, &raw mut before) };
        Self { before: (refused == 0).then_some(before) }
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        let Some(before) = &self.before else { return };
        // SAFETY: `before` is the mask that `change` received, and a null pointer asks for no old
        // mask.
        let _ = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
    }
}

/// Consumes the signals of writes that have become pending while it existed, when it is dropped.
struct Consume {
    pending_before: libc::sigset_t,
}

impl Drop for Consume {
    fn drop(&mut self) {
        for signal in OF_WRITES {
            if !contains(&self.pending_before, signal) {
                consume(signal);
            }
        }
    }
}

/// Consumes a pending signal, which must be blocked.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn consume(signal: libc::c_int) {
    let set = set_of(&[signal]);
    let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both pointers are valid, and a null pointer asks for no information. The call does
    // not wait.
    let _ = unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const no_time) };
}

/// Consumes a pending signal, which must be blocked.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn consume(signal: libc::c_int) {
    // Without `sigtimedwait` there is only a call that waits, so it must not be made in vain.
    if contains(&pending(), signal) {
        let set = set_of(&[signal]);
        let mut consumed = 0;
        // SAFETY: both pointers are valid.
        let _ = unsafe { libc::sigwait(&raw const set, &raw mut consumed) };
    }
}

/// The signals that wait for this thread to unblock them.
fn pending() -> libc::sigset_t {
    let mut set = empty_set();
    // SAFETY: `set` has room for a signal set.
    let _ = unsafe { libc::sigpending(&raw mut set) };
    set
}

fn contains(set: &libc::sigset_t, signal: libc::c_int) -> bool {
    // SAFETY: `set` is an initialised signal set.
    unsafe { libc::sigismember(set, signal) == 1 }
}

fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = empty_set();
    for signal in signals {
        // SAFETY: `set` is an initialised signal set. A number that is none changes nothing.
        let _ = unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the call initialises the set that it is passed.
    let _ = unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: it was initialised above; zeros are a valid set in any case.
    unsafe { set.assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_blocked(signal: libc::c_int) -> bool {
        let mut mask = empty_set();
        // SAFETY: a null pointer changes nothing, and `mask` has room for a signal set.
        let _ = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut mask) };
        contains(&mask, signal)
    }

    fn raise(signal: libc::c_int) {
        // SAFETY: sends a signal to this thread, which has blocked it.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
    }

    #[test]
    fn a_signal_of_a_write_is_consumed_even_if_the_write_panics() {
        let written = std::panic::catch_unwind(|| {
            without_write_signals(|| {
                raise(libc::SIGXFSZ);
                assert!(contains(&pending(), libc::SIGXFSZ));
                std::panic::resume_unwind(Box::new(()));
            });
        });
        assert!(written.is_err());
        // Otherwise this process would be dead.
        assert!(!is_blocked(libc::SIGXFSZ) && !contains(&pending(), libc::SIGXFSZ));
    }

    #[test]
    fn a_signal_that_was_pending_before_stays_pending() {
        let outer = Mask::change(libc::SIG_BLOCK, &set_of(&[libc::SIGPIPE]));
        raise(libc::SIGPIPE);
        without_write_signals(|| raise(libc::SIGPIPE));
        assert!(contains(&pending(), libc::SIGPIPE));
        consume(libc::SIGPIPE);
        assert!(!contains(&pending(), libc::SIGPIPE));
        drop(outer);
    }

    #[test]
    fn all_signals_are_blocked_except_those_of_faults() {
        without_signals(|| {
            for signal in [libc::SIGTERM, libc::SIGUSR2, libc::SIGPROF, libc::SIGCHLD] {
                assert!(is_blocked(signal), "{signal}");
            }
            assert!(OF_FAULTS.iter().all(|signal| !is_blocked(*signal)));
            admit_signal(libc::SIGUSR2);
            assert!(!is_blocked(libc::SIGUSR2));
        });
        assert!(!is_blocked(libc::SIGTERM));
    }
}
