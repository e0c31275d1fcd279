//! Signals that the service has blocked, to wait for them.

use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;
use std::{fs, io, ptr};

use crate::common::{exact, is_child};
use crate::{child, dumping_on_signal, dumps, reporting_thread, succeed, wait_until};

/// The set of some signals, or of all.
fn set_of(signals: Option<&[libc::c_int]>) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    match signals {
        // SAFETY: the call initialises the set.
        None => assert_eq!(unsafe { libc::sigfillset(set.as_mut_ptr()) }, 0),
        // SAFETY: the call initialises the set.
        Some(_) => assert_eq!(unsafe { libc::sigemptyset(set.as_mut_ptr()) }, 0),
    }
    for signal in signals.unwrap_or_default() {
        // SAFETY: the set was initialised above.
        assert_eq!(unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) }, 0);
    }
    // SAFETY: it was initialised above.
    unsafe { set.assume_init() }
}

/// Changes the signal mask of this thread.
fn mask(how: libc::c_int, signals: Option<&[libc::c_int]>) -> io::Result<()> {
    let set = set_of(signals);
    // SAFETY: the set is valid, and a null pointer asks for no old mask.
    match unsafe { libc::pthread_sigmask(how, &raw const set, ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Makes a command run with all signals blocked on every thread.
fn with_all_signals_blocked(command: &mut Command) -> &mut Command {
    let block = || mask(libc::SIG_BLOCK, None);
    // SAFETY: the closure only calls functions that are async-signal-safe.
    unsafe { command.pre_exec(block) }
}

fn signal_this_process(signal: libc::c_int) {
    // SAFETY: takes no arguments and cannot fail.
    let process = unsafe { libc::getpid() };
    // SAFETY: sends a signal to this process.
    assert_eq!(unsafe { libc::kill(process, signal) }, 0);
}

#[test]
fn a_signal_that_the_service_waits_for_is_left_to_it() {
    const NAME: &str = "signals::a_signal_that_the_service_waits_for_is_left_to_it";
    if !is_child() {
        succeed(with_all_signals_blocked(&mut child(NAME)));
        return;
    }
    // A service that starts its profiler first, and blocks the signal then.
    mask(libc::SIG_UNBLOCK, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let profiler = exact()
        .dump_dir(folder.path())
        .dump_every(Duration::from_millis(5))
        .dump_on_signal(libc::SIGUSR2)
        .start()
        .unwrap();
    mask(libc::SIG_BLOCK, None).unwrap();
    wait_until("a dump", || !dumps(folder.path()).is_empty());
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGALRM] {
        signal_this_process(signal);
        let (set, mut received) = (set_of(Some(&[signal])), 0);
        // SAFETY: both pointers are valid.
        assert_eq!(unsafe { libc::sigwait(&raw const set, &raw mut received) }, 0);
        assert_eq!(received, signal);
    }
    drop(profiler);
}

#[test]
fn the_dump_signal_arrives_although_the_service_has_blocked_all_signals() {
    const NAME: &str =
        "signals::the_dump_signal_arrives_although_the_service_has_blocked_all_signals";
    if !is_child() {
        succeed(with_all_signals_blocked(&mut child(NAME)));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let profiler = dumping_on_signal(folder.path()).start().unwrap();
    for count in 1..=3 {
        signal_this_process(libc::SIGUSR2);
        wait_until("a dump", || dumps(folder.path()).len() == count);
    }
    drop(profiler);
}

#[test]
fn the_reporting_thread_blocks_all_signals_but_its_own_and_those_of_faults() {
    const NAME: &str =
        "signals::the_reporting_thread_blocks_all_signals_but_its_own_and_those_of_faults";
    if !is_child() {
        succeed(&mut child(NAME));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let profiler = exact().dump_dir(folder.path()).dump_on_signal(libc::SIGUSR2).start().unwrap();
    let thread = reporting_thread();
    let blocked = || {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap()
    };
    let is_open = |signal: &libc::c_int| blocked() & 1 << (signal - 1) == 0;
    wait_until("the mask of the thread", || is_open(&libc::SIGUSR2));
    let open: Vec<libc::c_int> = (1..=31).filter(is_open).collect();
    let expected = [
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGKILL,
        libc::SIGSEGV,
        libc::SIGUSR2,
        libc::SIGSTOP,
        libc::SIGSYS,
    ];
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(open, expected);
    drop(profiler);
}
