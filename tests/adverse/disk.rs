//! Disks that are full, that do not answer, and limits on the size of files.

use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use heapdrift::{Profiler, dump};

use crate::common::{blocks, exact, is_child, one_at_a_time};
use crate::{child, dumps, files, own_threads, succeed, wait_until};

/// Whether the disk answers. While it is frozen, `fsync` does not return.
static FROZEN: AtomicBool = AtomicBool::new(false);
/// The calls of `fsync` that have not returned.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Takes the place of the C library's function in this program, so that a disk can be frozen
/// without a file system of one's own.
#[unsafe(no_mangle)]
extern "C" fn fsync(file: libc::c_int) -> libc::c_int {
    WAITING.fetch_add(1, Ordering::SeqCst);
    while FROZEN.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(1));
    }
    WAITING.fetch_sub(1, Ordering::SeqCst);
    // SAFETY: the kernel checks the descriptor.
    unsafe { libc::syscall(libc::SYS_fsync, file) as libc::c_int }
}

fn freeze() {
    FROZEN.store(true, Ordering::SeqCst);
}

fn thaw() {
    FROZEN.store(false, Ordering::SeqCst);
}

fn is_waiting() -> bool {
    WAITING.load(Ordering::SeqCst) > 0
}

/// No file of this process may grow beyond `bytes`. The signal of a longer write kills it.
fn limit_files_to(bytes: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: sets a limit of this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
}

/// The signals that are pending or blocked on this thread.
fn blocked_or_pending() -> [bool; 64] {
    let mut sets = [MaybeUninit::<libc::sigset_t>::zeroed(); 2];
    // SAFETY: the set may be written.
    assert_eq!(unsafe { libc::sigpending(sets[0].as_mut_ptr()) }, 0);
    let how = libc::SIG_BLOCK;
    // SAFETY: a null pointer changes nothing, and the set may be written.
    let read = unsafe { libc::pthread_sigmask(how, std::ptr::null(), sets[1].as_mut_ptr()) };
    assert_eq!(read, 0);
    std::array::from_fn(|at| {
        sets.iter().any(|set| {
            // SAFETY: the set was written above.
            unsafe { libc::sigismember(set.as_ptr(), at as libc::c_int + 1) == 1 }
        })
    })
}

#[test]
fn a_limit_on_the_size_of_files_fails_dumps_and_does_not_kill_the_service() {
    const NAME: &str =
        "disk::a_limit_on_the_size_of_files_fails_dumps_and_does_not_kill_the_service";
    let folder = tempfile::tempdir().unwrap();
    if !is_child() {
        // Standard error is a file that is as long as the limit allows.
        let errors = folder.path().join("stderr");
        fs::write(&errors, [b'.'; 1024]).unwrap();
        let errors = File::options().append(true).open(&errors).unwrap();
        succeed(child(NAME).stderr(errors));
        return;
    }
    let kept = blocks();
    let profiler =
        exact().dump_dir(folder.path()).dump_every(Duration::from_millis(10)).start().unwrap();
    let before = blocked_or_pending();
    limit_files_to(1024);
    let path = folder.path().join("now.heap.json.gz");
    for _ in 0..3 {
        profiler.dump(&path).unwrap_err();
    }
    thread::scope(|scope| {
        scope.spawn(|| profiler.dump(&path).unwrap_err());
    });
    assert_eq!(blocked_or_pending(), before, "the mask is as it was");
    let failed = profiler.stats().dropped_dumps;
    wait_until("failures", || profiler.stats().dropped_dumps >= failed + 3);
    drop(profiler);
    drop(kept);
    limit_files_to(libc::RLIM_INFINITY);
    assert!(files(folder.path()).iter().all(|file| dump::read(file).is_ok()), "nothing is left");
}

#[test]
fn a_full_disk_under_dumps_and_standard_error_does_not_end_the_reporting_thread() {
    const NAME: &str =
        "disk::a_full_disk_under_dumps_and_standard_error_does_not_end_the_reporting_thread";
    if !is_child() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        succeed(child(NAME).stderr(Stdio::from(full)));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let _kept = blocks();
    let profiler =
        exact().dump_dir(folder.path()).dump_every(Duration::from_millis(5)).start().unwrap();
    limit_files_to(512);
    wait_until("failures", || profiler.stats().dropped_dumps >= 5);
    limit_files_to(libc::RLIM_INFINITY);
    let before = dumps(folder.path()).len();
    wait_until("a dump after space was made", || dumps(folder.path()).len() > before);
    drop(profiler);
}

/// Drops a profiler while the disk is frozen. Returns how long that took.
fn drop_frozen(profiler: Profiler) -> Duration {
    let begin = Instant::now();
    drop(profiler);
    begin.elapsed()
}

#[test]
fn a_frozen_disk_does_not_make_a_drop_hang() {
    const NAME: &str = "disk::a_frozen_disk_does_not_make_a_drop_hang";
    if !is_child() {
        let output = succeed(child(NAME).stderr(Stdio::piped()));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(errors.matches("no longer waiting").count(), 2, "{errors}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let long = Duration::from_secs(3600);
    let start = |period| {
        exact()
            .dump_dir(folder.path())
            .dump_every(period)
            .diff_every(if period.is_zero() { period } else { long })
            .start()
            .unwrap()
    };

    // The reporting thread is in the middle of a dump.
    let profiler = start(Duration::from_millis(10));
    freeze();
    wait_until("a dump to hang", is_waiting);
    let took = drop_frozen(profiler);
    assert!(took < Duration::from_secs(8), "{took:?}");
    thaw();
    wait_until("the thread to end", || own_threads().is_empty());

    // There is no reporting thread, and the last dump hangs. Recording has ended nevertheless.
    let profiler = start(Duration::ZERO);
    assert!(own_threads().is_empty());
    freeze();
    let took = drop_frozen(profiler);
    assert!(took < Duration::from_secs(8), "{took:?}");
    drop(exact().diff_every(Duration::ZERO).start().expect("another session"));
    thaw();
    wait_until("the thread to end", || own_threads().is_empty());
    assert!(files(folder.path()).iter().all(|file| dump::read(file).is_ok()), "all were finished");

    // Otherwise a drop waits for the last dump.
    drop(start(long));
    let last = dumps(folder.path()).pop().unwrap();
    assert_eq!(dump::read(&last).unwrap().taken.reason, "end");
}

#[test]
fn a_callback_that_hangs_does_not_make_a_drop_hang() {
    const NAME: &str = "disk::a_callback_that_hangs_does_not_make_a_drop_hang";
    if !is_child() {
        succeed(&mut child(NAME));
        return;
    }
    freeze();
    let called = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&called);
    let profiler = exact()
        .diff_every(Duration::from_millis(5))
        .on_report(move |_| {
            flag.store(true, Ordering::SeqCst);
            // It writes to a log on the frozen disk.
            fsync(2);
        })
        .start()
        .unwrap();
    wait_until("a call", || called.load(Ordering::SeqCst));
    let took = drop_frozen(profiler);
    assert!(took < Duration::from_secs(8), "{took:?}");
    let next = exact().diff_every(Duration::ZERO).start().expect("the session has ended");
    let kept = blocks();
    thaw();
    wait_until("the thread to end", || own_threads().is_empty());
    assert!(next.is_active() && next.snapshot().live.len() >= kept.len());
}

#[test]
fn the_half_dump_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not() {
    const NAME: &str =
        "disk::the_half_dump_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not";
    if is_child() {
        let profiler = exact().start().unwrap();
        let path = std::env::var("DUMP").unwrap();
        freeze();
        profiler.dump(path).unwrap();
        return;
    }
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".mine.tmp"), "").unwrap();
    let dump = |name: &str| {
        let running = child(NAME)
            .env("DUMP", folder.path().join(name))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begun = || {
            files(folder.path()).into_iter().find(|file| {
                let file_name = file.file_name().unwrap().to_string_lossy();
                file_name.contains(name) && fs::metadata(file).unwrap().len() > 0
            })
        };
        wait_until("the dump to begin", || begun().is_some());
        (running, begun().unwrap())
    };
    let (mut living, half) = dump("living.heap.json.gz");
    // In another container the process id could be one that does not exist here.
    let living_half = folder.path().join(".living.heap.json.gz.4000000000.0.tmp");
    fs::rename(half, &living_half).unwrap();
    let (mut killed, killed_half) = dump("killed.heap.json.gz");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(killed_half.exists());

    drop(exact().dump_dir(folder.path()).dump_every(Duration::ZERO).start().unwrap());
    assert!(!killed_half.exists());
    assert!(living_half.exists());
    living.kill().unwrap();
    living.wait().unwrap();
    drop(exact().dump_dir(folder.path()).dump_every(Duration::ZERO).start().unwrap());
    assert!(!living_half.exists());
    assert_eq!(files(folder.path()).len(), 3, "two dumps, and the file of somebody else");
}
