//! A child that is forked while other threads are inside the profiler keeps working: it never waits
//! for a lock that a thread of the parent, which the child does not have, may hold.
//!
//! A fork test easily passes with the protection removed, as other projects found. So the children
//! here sample, unwind, take snapshots and end sessions, at an interval at which the other threads
//! are inside the profiler nearly all the time.
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

/// A child that takes longer counts as hung.
const PATIENCE: Duration = Duration::from_secs(5);

/// Forks, runs `child` in the new process, and returns its exit status; panics if it hangs.
fn in_child(child: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child is single-threaded; that it may allocate is what this test checks.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // A panic must not reach the test harness, whose threads do not exist here.
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
        // SAFETY: `pid` is a child of this process, and `status` can be written to.
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

/// Allocates, grows and frees a few blocks, `depth` calls deep.
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

/// Runs `scope` while other threads allocate and free.
fn while_others_allocate(threads: usize, scope: impl FnOnce()) {
    let count = threads;
    let end = AtomicBool::new(false);
    /// Stops the threads even if `scope` panics.
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

fn assert_children_finish(
    interval: u64,
    threads: usize,
    forks: usize,
    child: impl Fn(&Profiler) -> bool,
) {
    let profiler = Profiler::builder().sample_interval_bytes(interval).seed(1).start().unwrap();
    while_others_allocate(threads, || {
        for fork in 0..forks {
            let status = in_child(|| child(&profiler));
            assert_eq!(status, 0, "fork {fork} at interval {interval}");
        }
    });
    // The parent is not affected.
    let before = profiler.stats().samples_taken;
    (0..100).for_each(|round| work(3, round));
    assert!(profiler.stats().samples_taken > before);
    profiler.snapshot().validate().unwrap();
}

/// The work of a child: allocates, frees and takes a snapshot.
fn allocate_and_snapshot(profiler: &Profiler) -> bool {
    let before = profiler.stats().samples_taken;
    (0..3).for_each(|round| work(3, round));
    profiler.stats().samples_taken > before && profiler.snapshot().validate().is_ok()
}

#[test]
fn two_hundred_forks_at_interval_64_finish() {
    let _one = one_at_a_time();
    assert_children_finish(64, 3, 200, allocate_and_snapshot);
}

/// There are more threads than unwind engines, so that a child may find all engines taken.
#[test]
fn a_hundred_forks_at_interval_1_finish() {
    let _one = one_at_a_time();
    assert_children_finish(1, 12, 100, allocate_and_snapshot);
}

/// The child does not have the thread that takes snapshots, so what it held is never released
/// there.
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
                    in_child(|| allocate_and_snapshot(&profiler))
                }))
                .unwrap_or(-1)
            })
            .take_while(|status| *status == 0)
            .collect();
        end.store(true, Ordering::Relaxed);
        assert_eq!(statuses.len(), 40, "children that finished before the first failure");
    });
    drop(kept);
}

fn dumps_in(folder: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// The session has a reporting thread, which the child does not have.
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
                // The session may have ended, or ending it may not have been possible. The child
                // must neither hang nor crash in both cases.
                (0..20).for_each(|round| work(3, round));
                true
            });
            assert_eq!(status, 0, "fork {fork}");
        }
    });
    thread::sleep(Duration::from_millis(200));
    assert!(dumps_in(folder.path()).is_empty(), "{:?}", dumps_in(folder.path()));
    drop(profiler);
    assert_eq!(dumps_in(folder.path()).len(), 1, "the dump that the parent writes at its end");
}

/// The child inherits the signal handler, but not the reporting thread.
#[test]
fn a_signal_to_a_child_does_not_make_the_parent_dump() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let profiler =
        Profiler::builder().dump_dir(folder.path()).dump_on_signal(libc::SIGUSR2).start().unwrap();
    let status = in_child(|| {
        // SAFETY: the signal has a handler.
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
