//! A child that is forked while other threads are in the profiler works, and does not hang: no lock
//! that a vanished thread may hold is waited for.
//!
//! Others found that their fork tests passed with the protection deleted. Here the children sample,
//! unwind, take snapshots and end sessions, at an interval at which the other threads are inside
//! the profiler nearly all the time.
#![cfg(all(feature = "profiling", unix))]
#![allow(unsafe_code)]

mod common;

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::one_at_a_time;
use heapdrift::{Alloc, Profiler, with_labels};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

/// How long a child may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Forks, runs `child` there, and returns the status with which it ended; panics if it hangs.
fn in_child(child: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child is single-threaded; what it calls is what this test is about.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // No unwinding into the test harness, whose threads are not here.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        let status = match done {
            Ok(true) => 0,
            Ok(false) => 1,
            Err(_) => 2,
        };
        // SAFETY: ends the process without running anything else.
        unsafe { libc::_exit(status) };
    }
    assert!(pid > 0, "{}", std::io::Error::last_os_error());
    let begin = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: a child of this process, and a place for its status.
        let ended = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        if ended == pid {
            return if libc::WIFEXITED(status) {
                libc::WEXITSTATUS(status)
            } else {
                -libc::WTERMSIG(status)
            };
        }
        if begin.elapsed() > PATIENCE {
            // SAFETY: the child, which is not reaped yet.
            let _ = unsafe { libc::kill(pid, libc::SIGKILL) };
            // SAFETY: as above.
            let _ = unsafe { libc::waitpid(pid, &raw mut status, 0) };
            panic!("a child hangs");
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// A few allocations of all kinds, at some depth.
fn work(depth: usize, round: usize) {
    if depth > 0 {
        work(depth - 1, round);
        black_box(depth);
        return;
    }
    with_labels(&[("round", if round.is_multiple_of(2) { "even" } else { "odd" })], || {
        let mut kept: Vec<Vec<u8>> = (0..20).map(|i| vec![i as u8; 10 + 40 * i]).collect();
        kept.push(vec![7; 50_000]);
        kept[0].extend_from_slice(&[1; 3000]);
        assert!(kept[20].iter().all(|byte| *byte == 7));
        assert!(kept[3].iter().all(|byte| *byte == 3));
    });
}

/// Runs `scope` while some threads allocate and free.
fn while_others_allocate(threads: usize, scope: impl FnOnce()) {
    let count = threads;
    let end = AtomicBool::new(false);
    /// Ends the threads also when the scope panics.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    thread::scope(|threads| {
        let _end = End(&end);
        for thread in 0..count {
            let end = &end;
            threads.spawn(move || {
                let mut round = thread;
                while !end.load(Ordering::Relaxed) {
                    work(5 + round % 7, round);
                    round += 1;
                }
            });
        }
        scope();
    });
}

fn forks_end(interval: u64, threads: usize, forks: usize, child: impl Fn(&Profiler) -> bool) {
    let profiler = Profiler::builder().sample_interval_bytes(interval).seed(1).start().unwrap();
    while_others_allocate(threads, || {
        for fork in 0..forks {
            let status = in_child(|| child(&profiler));
            assert_eq!(status, 0, "fork {fork} at interval {interval}");
        }
    });
    // The parent goes on as if nothing had been.
    let before = profiler.stats().samples_taken;
    (0..100).for_each(|round| work(3, round));
    assert!(profiler.stats().samples_taken > before);
    profiler.snapshot().validate().unwrap();
}

/// What a child does: allocate, free, look.
fn allocate_and_look(profiler: &Profiler) -> bool {
    let before = profiler.stats().samples_taken;
    (0..3).for_each(|round| work(3, round));
    profiler.stats().samples_taken > before && profiler.snapshot().validate().is_ok()
}

#[test]
fn two_hundred_forks_at_interval_64_end() {
    let _one = one_at_a_time();
    forks_end(64, 3, 200, allocate_and_look);
}

/// Twelve threads: more than there are engines to unwind with, so that children find all taken.
#[test]
fn a_hundred_forks_at_interval_1_end() {
    let _one = one_at_a_time();
    forks_end(1, 12, 100, allocate_and_look);
}

/// The thread that takes a snapshot is not in the child; whatever it held there is held for ever.
#[test]
fn a_child_forked_during_a_snapshot_can_take_one() {
    let _one = one_at_a_time();
    let profiler = Profiler::builder().sample_interval_bytes(64).seed(1).start().unwrap();
    let kept: Vec<Vec<u8>> = (0..3000).map(|i| vec![1; 16 + i % 200]).collect();
    let end = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                black_box(profiler.snapshot());
            }
        });
        let statuses: Vec<i32> = (0..40)
            .map(|_| {
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    in_child(|| allocate_and_look(&profiler))
                }))
                .unwrap_or(-1)
            })
            .take_while(|status| *status == 0)
            .collect();
        end.store(true, Ordering::Relaxed);
        assert_eq!(statuses.len(), 40, "children that ended well before the first that did not");
    });
    drop(kept);
}

fn dumps_in(folder: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// With a reporting thread, which a child does not have.
#[test]
fn dropping_the_profiler_in_a_child_neither_hangs_nor_writes_nor_wakes_the_parent() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let profiler = Profiler::builder()
        .sample_interval_bytes(64)
        .dump_dir(folder.path())
        .dump_on_signal(libc::SIGUSR2)
        .start()
        .unwrap();
    let mut profiler = Some(profiler);
    while_others_allocate(3, || {
        for fork in 0..20 {
            let status = in_child(|| {
                drop(profiler.take());
                // The process has no session any more, or one that could not be ended; both are
                // no reason to hang or to crash.
                (0..20).for_each(|round| work(3, round));
                true
            });
            assert_eq!(status, 0, "fork {fork}");
        }
    });
    thread::sleep(Duration::from_millis(200));
    assert!(dumps_in(folder.path()).is_empty(), "{:?}", dumps_in(folder.path()));
    drop(profiler);
    assert_eq!(dumps_in(folder.path()).len(), 1, "the parent's own, at its end");
}

/// The handler is inherited, the reporting thread is not.
#[test]
fn a_signal_to_a_child_makes_no_dump_of_the_parent() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let profiler =
        Profiler::builder().dump_dir(folder.path()).dump_on_signal(libc::SIGUSR2).start().unwrap();
    let status = in_child(|| {
        // SAFETY: a signal that is handled.
        unsafe { libc::raise(libc::SIGUSR2) == 0 }
    });
    assert_eq!(status, 0);
    thread::sleep(Duration::from_millis(200));
    assert!(dumps_in(folder.path()).is_empty(), "{:?}", dumps_in(folder.path()));
    drop(profiler);
}

/// A service that forks may want to record in the child.
#[test]
fn a_child_of_a_quiet_parent_can_end_the_session_and_start_another() {
    let _one = one_at_a_time();
    let mut profiler = Some(Profiler::builder().sample_interval_bytes(1).start().unwrap());
    let status = in_child(|| {
        drop(profiler.take());
        let again = Profiler::builder().sample_interval_bytes(1).start().unwrap();
        work(3, 0);
        again.stats().samples_taken > 20
    });
    assert_eq!(status, 0);
    assert!(profiler.unwrap().is_active());
}
